"""What a forward pass writes into lists, dicts, sets and deques: taken back of who asks, kept of who predicts."""

from __future__ import annotations

import threading
import time
from collections import deque

import pytest
import torch
from torch import nn

from xlens.classifier import containers
from xlens.classifier.containers import Writes
from xlens.classifier.frozen import frozen

KINDS = {
    "list": lambda: ["a", "b"],
    "dict": lambda: {"a": "a", "b": "b"},
    "set": lambda: {"a", "b"},
    "deque": lambda: deque("ab"),
    "bounded": lambda: deque("abc", maxlen=3),
}


def add(log, name):
    if isinstance(log, dict):
        log[name] = [name]
    elif isinstance(log, set):
        log.add(name)
    else:
        log.append(name)


class Logs(nn.Module):
    """A served model that writes down whom it was asked by."""

    def __init__(self, kind):
        super().__init__()
        self.log, self.net = KINDS[kind](), nn.Linear(2, 2)
        self.wait, self.inside, self.fails = None, threading.Event(), False

    def forward(self, x, name):
        add(self.log, name)
        if self.fails:
            raise ValueError("mine")
        if name.startswith("slow"):
            self.inside.set()
            assert self.wait.wait(10)
            add(self.log, name + "!")
        return self.net(x)


X = torch.ones(1, 2)


def beside(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def in_thread(function):
    beside(function).join(10)


def expected(kind, *names):
    log = KINDS[kind]()
    for name in names:
        add(log, name)
    return log


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind):
    return Logs(kind)


def test_alone_all_is_as_it_was(model, kind):
    log = model.log
    with frozen(None, model, 0):
        model(X, "x")
        with frozen(None, model, 0):
            model(X, "y")
        add(model.log, "by hand")
        model.fails = True
        with pytest.raises(ValueError, match="mine"):
            model(X, "z")
    assert model.log is log
    assert log == expected(kind)


@pytest.mark.parametrize("nested", [False, True])
def test_who_predicts_beside_loses_nothing_and_sees_nothing_of_who_asks(model, kind, nested):
    with frozen(None, model, 0):
        model(X, "x1")
        in_thread(lambda: model(X, "p1"))
        if nested:
            with frozen(None, model, 0):
                model(X, "x2")
                in_thread(lambda: model(X, "p2"))
                model(X, "x3")
        else:
            in_thread(lambda: model(X, "p2"))
            model(X, "x2")
    found = expected(kind, "p1", "p2")
    if kind == "set":
        # What an equal entry of another thread's may stand for stays.
        assert model.log >= found
    else:
        assert list(model.log) == list(found)


def test_a_pass_of_who_predicts_that_had_begun_before_is_seen(model, kind):
    model.wait = threading.Event()
    thread = beside(lambda: model(X, "slow"))
    assert model.inside.wait(10)
    with frozen(None, model, 0):
        model.wait.set()
        thread.join(10)
    assert model.log == expected(kind, "slow", "slow!")


def test_what_comes_while_both_run_it_is_kept(model, kind):
    """It cannot be told whose it is; nothing of who predicts may be lost."""
    model.wait = threading.Event()
    with frozen(None, model, 0):
        thread = beside(lambda: model(X, "slow"))
        assert model.inside.wait(10)
        model(X, "x")
        model.wait.set()
        thread.join(10)
    assert {"slow", "slow!"} <= set(model.log)


def test_a_pass_that_fails_is_taken_back_beside_others(model, kind):
    with frozen(None, model, 0):
        in_thread(lambda: model(X, "p1"))
        model.fails = True
        with pytest.raises(ValueError, match="mine"):
            model(X, "x")
        model.fails = False
        model(X, "y")
    assert list(model.log) == list(expected(kind, "p1")) if kind != "set" else model.log == expected(kind, "p1")


class Odd(nn.Module):
    """Replaces, takes out and puts in, of all kinds at once."""

    def __init__(self):
        super().__init__()
        self.row, self.table, self.some, self.ring = [1, 2, 3], {"a": 1, "b": 2}, {1, 2}, deque([1, 2], maxlen=2)

    def forward(self, x, who):
        if who == "me":
            self.row[1] = x
            self.row.insert(0, x)
            self.table["a"] = x
            del self.table["b"]
            self.some.discard(1)
            self.ring.append(x)
        else:
            self.row.append(who)
            self.table[who] = who
            self.some.add(who)
        return x


def test_what_was_replaced_or_taken_out_is_there_again():
    model = Odd()
    with frozen(None, model, 0):
        for _ in range(3):
            model(X, "me") if "b" in model.table else None
            in_thread(lambda: model(X, "you"))
    assert model.row == [1, 2, 3, "you", "you", "you"]
    assert model.table == {"a": 1, "b": 2, "you": "you"}
    assert model.some == {1, 2, "you"}
    assert model.ring == deque([1, 2], maxlen=2)


@pytest.mark.parametrize("broken", [False, True])
def test_under_load_nothing_is_lost(kind, monkeypatch, broken):
    if broken:
        # Without being told apart all would be put back.
        monkeypatch.setattr(Writes, "running", lambda self: False)
        monkeypatch.setattr(Writes, "begin", lambda self: None)
    if kind == "bounded":
        pytest.skip("it holds the last three alone")
    model, stop, names = Logs(kind), threading.Event(), []

    def predict():
        while not stop.is_set():
            names.append(f"p{len(names)}")
            model(X, names[-1])
            time.sleep(0.0005)

    thread = beside(predict)
    for i in range(15):
        with frozen(None, model, 0):
            for j in range(5):
                model(X, f"x{i} {j}")
            # However busy the machine is, the other thread has its turn while the model is held.
            seen, until = len(names), time.monotonic() + 5
            while len(names) < seen + 2 and time.monotonic() < until:
                time.sleep(0.001)
    stop.set()
    thread.join(10)
    assert set(names).issubset(model.log) is not broken
    assert {"a", "b"} <= set(model.log)
    if isinstance(model.log, list | deque):
        assert broken or [name for name in model.log if name.startswith("p")] == names


@pytest.mark.parametrize("copied_first", [True, False])
@pytest.mark.parametrize("number", [0, 1])
def test_a_pass_that_begins_and_ends_while_containers_are_copied_is_not_taken_back(
    kind, monkeypatch, number, copied_first
):
    """The first copy is made when a pass begins, the second when it ends."""
    if kind == "bounded":
        pytest.skip("it holds the last three alone")
    model, copies, asker = Logs(kind), [], threading.get_ident()
    really = containers.content_of

    def content_of(container):
        if container is not model.log or threading.get_ident() != asker:
            return really(container)
        copies.append(None)
        if len(copies) != number + 1:
            return really(container)
        before = really(container)
        in_thread(lambda: model(X, "you"))
        return before if copied_first else really(container)

    with frozen(None, model, 0):
        monkeypatch.setattr(containers, "content_of", content_of)
        model(X, "me")
        monkeypatch.undo()
    assert len(copies) == 2
    assert "you" in model.log
