"""Two threads ask about one model, through one explainer or two, while a third one predicts with it."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch

import xlens
from xlens.classifier import frozen, hooks, kept, turns
from xlens.testing.state import differing, model_state, process_state

sys.path.insert(0, str(Path(__file__).parent))
from faults import same_explanation, world_of_tests  # noqa: E402

_METHODS = ("lig", "gradient_shap", "layer_grad_cam", "deep_lift")
_ROUNDS = 2


@pytest.fixture(scope="module")
def world():
    torch.set_num_threads(1)
    made = world_of_tests()
    mask = xlens.MaskOptions(steps=2)
    made.other = xlens.fit(made.model, made.inputs, "svae", steps=4, seed=1, mask=mask, progress=False)
    return made


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def questions(world, explainers):
    def asked(explainer, rows):
        return lambda: explainer.explain(world.inputs[rows], n_steps=4, tolerance=0.5, attributions=_METHODS)

    return [asked(explainers[0], slice(0, 2)), asked(explainers[1], slice(3, 5))]


def at_once(model, asked, rounds, predictions=None):
    """Ask in one thread each; return wrong answers, wrong predictions, what has changed, and the time."""
    expected = [ask() for ask in asked]
    before = {**model_state(model), **process_state()}
    wrong, off, stop = [], [], threading.Event()

    def again(i):
        for _ in range(rounds):
            try:
                if not same_explanation(asked[i](), expected[i]):
                    wrong.append("another answer")
            except Exception as fault:  # noqa: BLE001 - whatever it is, it is the finding
                wrong.append(repr(fault))

    def predict():
        inputs, plain = predictions
        with torch.inference_mode():
            while not stop.is_set():
                try:
                    if not torch.equal(model(inputs), plain):
                        off.append("another prediction")
                except Exception as fault:  # noqa: BLE001 - a hook of somebody else's may raise anything
                    off.append(repr(fault))
                time.sleep(0.001)

    threads = [threading.Thread(target=again, args=(i,)) for i in range(len(asked))]
    beside = [threading.Thread(target=predict)] if predictions is not None else []
    began = time.perf_counter()
    for thread in (*beside, *threads):
        thread.start()
    for thread in threads:
        thread.join(60)
    seconds = time.perf_counter() - began
    stop.set()
    for thread in beside:
        thread.join(60)
    return wrong, off, differing(before, {**model_state(model), **process_state()}), seconds


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("predicting", [False, True])
def test_each_gets_the_answer_that_it_would_get_alone(world, count, predicting):
    asked = questions(world, (world.explainer, world.explainer if count == 1 else world.other))
    began = time.perf_counter()
    for ask in asked * _ROUNDS:
        ask()
    in_turn = time.perf_counter() - began
    world.model.train(not predicting)
    beside = (world.inputs[:4], world.plain) if predicting else None
    wrong, off, changed, seconds = at_once(world.model, asked, _ROUNDS, beside)
    assert not wrong
    assert not off
    assert not changed
    # 1.3 is the promise of the benchmark; here other things may be going on.
    assert seconds < 2.5 * in_turn + 1


def test_a_fit_lets_others_ask_between_its_steps(world):
    asked = questions(world, (world.explainer, world.explainer))[:1]
    expected, alone = (
        asked[0](),
        xlens.fit(world.model, world.inputs, "svae", steps=15, progress=False, mask=_SHORT),
    )
    answered, done = [], []

    def fit():
        done.append(xlens.fit(world.model, world.inputs, "svae", steps=15, progress=False, mask=_SHORT))

    before = {**model_state(world.model), **process_state()}
    thread = threading.Thread(target=fit)
    thread.start()
    while thread.is_alive():
        time.sleep(0.05)
        found = asked[0]()
        answered.append((thread.is_alive(), same_explanation(found, expected)))
    thread.join()
    assert any(during for during, _ in answered)
    assert all(right for _, right in answered)
    first, second = alone.lens.state_dict(), done[0].lens.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not differing(before, {**model_state(world.model), **process_state()})


_SHORT = xlens.MaskOptions(steps=2)


def no_turns(monkeypatch):
    """The guard without turns: threads draw from one another's random numbers."""
    monkeypatch.setattr(turns._Queue, "take", lambda self: setattr(self, "depth", self.depth + 1))
    monkeypatch.setattr(turns._Queue, "leave", lambda self, depth: None)
    monkeypatch.setattr(turns._Queue, "mine", property(lambda self: True))
    monkeypatch.setattr(turns.Turn, "holds", property(lambda self: self._depth is not None))


def no_owners(monkeypatch):
    """Hooks that act for whoever runs the module."""
    monkeypatch.setattr(hooks, "of_this_thread", lambda hook: hook)


def no_sharing(monkeypatch):
    """Each context puts back what it has found, whoever else is inside, as before there was a guard; no turns."""
    no_turns(monkeypatch)
    monkeypatch.setattr(frozen._Guards, "enter", _alone)
    monkeypatch.setattr(frozen._Guards, "leave", lambda self, hold: kept.put_back(getattr(hold, "found", ())))


def _alone(self, hold, copy):
    hold.found = [kept.KeptModule(module) for module in hold.model.modules()]
    hold.found += [kept.KeptTensor(p, copy=True) for p in hold.model.parameters()]
    hold.model.eval().requires_grad_(False)


@pytest.mark.parametrize("broken", [no_turns, no_owners, no_sharing])
def test_a_broken_guard_is_found(world, monkeypatch, broken):
    asked = questions(world, (world.explainer, world.other))
    world.model.train(broken is no_sharing)
    before = world.model.state_dict(), [(p, p.requires_grad) for p in world.model.parameters()]
    broken(monkeypatch)
    beside = (world.inputs[:4], world.plain) if broken is no_owners else None
    # How often threads meet is the scheduler's.
    for _ in range(6):
        found = at_once(world.model, asked, 4, beside)[:3]
        if any(found):
            break
    world.model.train(False)
    world.model.load_state_dict(before[0])
    for parameter, flag in before[1]:
        parameter.requires_grad_(flag)
    assert any(found)


def test_a_callback_may_wait_for_a_thread_that_asks_the_same_classifier(world):
    """It would wait for ever if the fit kept its turn; and the fit ends as it would without."""
    asked = questions(world, (world.explainer, world.explainer))[0]
    expected, answers = asked(), []
    alone = xlens.fit(world.model, world.inputs, "svae", steps=4, progress=False, mask=_SHORT)
    before = {**model_state(world.model), **process_state()}

    def on_step(event):
        thread = threading.Thread(target=lambda: answers.append(asked()), daemon=True)
        thread.start()
        thread.join(30)
        torch.rand(3)
        # And in the same thread too.
        answers.append(asked())

    again = xlens.fit(world.model, world.inputs, "svae", steps=4, progress=False, mask=_SHORT, on_step=on_step)
    assert len(answers) == 2 * (4 + _SHORT.steps)
    assert all(same_explanation(answer, expected) for answer in answers)
    first, second = alone.lens.state_dict(), again.lens.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    changed = differing(before, {**model_state(world.model), **process_state()})
    # What the callback itself draws is the program's.
    assert [one for one in changed if "random" not in one and "rng" not in one.lower()] == []


def test_a_callback_that_fails_leaves_everything_in_order(world):
    before = {**model_state(world.model), **process_state()}

    def on_step(event):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        xlens.fit(world.model, world.inputs, "svae", steps=4, progress=False, mask=_SHORT, on_step=on_step)
    assert not differing(before, {**model_state(world.model), **process_state()})
    assert turns._queue._owner is None
