"""An exception between any two steps of the guard: what no handler can hold back leaves nothing behind."""

from __future__ import annotations

import contextlib
import dis
import functools
import signal
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import pytest
import torch
from guard import state
from torch import nn

import xlens
from xlens.classifier import containers, contexts, frozen, interrupts, kept, turns, values

# Python swallows what comes in a __del__, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

GUARD = {module.__file__ for module in (containers, contexts, frozen, interrupts, kept, turns, values)}


class Stopped(BaseException):
    """What another thread may send at any moment."""


class AtCall:
    """Raises at the n-th moment at which Python looks for what another thread has sent.

    That is where a function of Python's begins, and where one of C's returns. The guard's files count, and those of
    contextlib that they call; torch's own functions do not, which torch itself would have to put in order.
    """

    switch = staticmethod(sys.setprofile)

    def __init__(self, at: int) -> None:
        self.at, self.seen, self.where = at, 0, ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "c_return") and _of_the_guard(frame):
            self._count(f"{event} in {frame.f_code.co_qualname}, line {frame.f_lineno}")

    def _count(self, where: str) -> None:
        self.seen += 1
        if self.seen == self.at:
            self.where = where
            raise Stopped(where)


class AtLine(AtCall):
    """Raises at the n-th line of the guard's files, as a debugger may.

    But for lines at which a `with` block is left: Python comes back to them before it calls ``__exit__``, and what
    is raised there keeps it from being called, whatever the context is.
    """

    switch = staticmethod(sys.settrace)

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in GUARD:
            return None
        if event == "line" and frame.f_lasti not in _ways_out(frame.f_code):
            self._count(f"{frame.f_code.co_qualname}, line {frame.f_lineno}")
        return self


def _of_the_guard(frame: FrameType | None) -> bool:
    file = frame.f_code.co_filename if frame is not None else ""
    if file == contextlib.__file__ and frame is not None:
        return _of_the_guard(frame.f_back)
    return file in GUARD


@functools.cache
def _ways_out(code: CodeType) -> set[int]:
    """Return where the instructions begin that leave a `with` block without an exception."""
    lines = {i.positions.lineno for i in dis.get_instructions(code) if i.opname == "BEFORE_WITH" and i.positions}
    found, entered = set(), set()
    for offset, line in dis.findlinestarts(code):
        if line in lines and line in entered:
            found.add(offset)
        entered.add(line)
    return found


def small() -> nn.Module:
    """Return a model with flags of both kinds."""
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    net[3].bias.requires_grad_(False)
    return net


@pytest.fixture
def model():
    return small()


def alone(model):
    with frozen.frozen(None, model, 0):
        pass


def random_numbers_kept(model):
    with xlens.Classifier(model).frozen():
        torch.rand(1)


def within_a_turn(model):
    with turns.Turn(), frozen.frozen(None, model, 0), frozen.frozen(None, model, None):
        pass


def stacked(model):
    with turns.Turn(), contextlib.ExitStack() as stack:
        stack.enter_context(frozen.frozen(None, model, 0))


def aside(model):
    with turns.Turn(), turns.out_of_turn():
        pass


ASKED = (alone, random_numbers_kept, within_a_turn, stacked, aside)


def stopped(model: nn.Module, ask: Callable[[nn.Module], None], stop: AtCall) -> list[str]:
    """Ask, stop at one moment, and return what is not as it was while the traceback is alive."""
    before, handler = state(model), signal.getsignal(signal.SIGINT)
    fault = None
    try:
        stop.switch(stop)
        ask(model)
    except Stopped as raised:
        fault = raised
    finally:
        stop.switch(None)
    after = state(model)
    wrong = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    wrong += ["SIGINT"] * (signal.getsignal(signal.SIGINT) != handler)
    wrong += ["a context"] * bool(frozen._guards._holds) + ["the turn"] * (turns._queue._owner is not None)
    wrong += ["watching"] * bool(interrupts.watch._depth) + ["entered"] * bool(contexts._entered.contexts)
    del fault
    return wrong


def faults_of(
    model: nn.Module, ask: Callable[[nn.Module], None], kind: type[AtCall], every: int
) -> tuple[int, list[str]]:
    """Return how many moments there are, and the first that leaves something, after which nothing is as it was."""
    at, stop = 1, kind(0)
    while at == 1 or stop.where:
        stop = kind(at)
        if wrong := stopped(model, ask, stop):
            return at, [f"{at}: {stop.where}: {wrong[:3]}"]
        at += every
    return at, []


@pytest.mark.parametrize("kind", [AtCall, AtLine])
@pytest.mark.parametrize("ask", ASKED)
def test_an_exception_between_any_two_steps_of_the_guard(model, ask, kind):
    """A part of the moments; ``benchmarks/engine/faults.py --parts moments`` tries all."""
    count, faults = faults_of(model, ask, kind, every=41)
    assert not faults
    assert count > 200


def test_a_guard_that_tries_once_is_found(model, monkeypatch):
    # All that it leaves behind is its own.
    monkeypatch.setattr(turns, "_queue", turns._Queue())
    monkeypatch.setattr(frozen, "_guards", frozen._Guards())
    monkeypatch.setattr(contexts, "_entered", contexts._Entered())
    monkeypatch.setattr(contexts, "watch", interrupts.Watch())
    monkeypatch.setattr(contexts, "_over", lambda context, again=False: again or context().over(again=True))
    process, found = turns._Process(), []
    # In a thread of its own, because what torch sets for a thread stays as it is left.
    thread = threading.Thread(target=lambda: found.append(faults_of(model, alone, AtLine, every=7)))
    thread.start()
    thread.join()
    process.put_back()
    assert found[0][1]
