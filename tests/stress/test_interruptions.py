"""Ctrl-C, errors and full memory at random moments: the model and the process are as they were, each time."""

from __future__ import annotations

import copy
import random
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from xlens.classifier import frozen, interrupts, kept

sys.path.insert(0, str(Path(__file__).parent))
from faults import Faulty, alarm, changed_by, moments, sent_after, world_of_tests  # noqa: E402

pytestmark = pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="needs timers of Unix")


@pytest.fixture(scope="module")
def world():
    torch.set_num_threads(1)
    return world_of_tests()


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def outcomes(world, ask, troubles):
    """Return what each of these troubles has changed, and how many came."""
    found = [changed_by(world.model, ask, trouble) for trouble in troubles]
    return [changed for changed, _ in found if changed], sum(came for _, came in found)


def frozen_alone(world, seconds=0.004):
    """Enter and leave the guard again and again, where nearly all moments are moments of set-up or of clean-up."""

    def ask():
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            with frozen.frozen(None, world.model, 0):
                pass

    return ask


def test_ctrl_c_while_explaining(world):
    world.explain()
    changed, came = outcomes(world, world.explain, [alarm(s) for s in moments(0, 25, 0.15)])
    assert not changed
    assert came > 12


def test_ctrl_c_while_a_guard_is_set_up_or_put_back(world):
    changed, came = outcomes(world, frozen_alone(world), [alarm(s) for s in moments(1, 150, 0.005)])
    assert not changed
    assert came > 40


def test_interruptions_that_no_handler_can_hold_back(world):
    """As a debugger or another thread sends them: a single one finds everything in order again."""
    here = threading.get_ident()
    troubles = [sent_after(s, here) for s in moments(2, 120, 0.005)]
    changed, came = outcomes(world, frozen_alone(world), troubles)
    # One that comes at the first line of what leaves the outermost context is put in order with the traceback.
    assert len(changed) <= 2
    assert came > 30


@pytest.mark.parametrize("fault", [RuntimeError("broken"), torch.OutOfMemoryError("full"), KeyboardInterrupt()])
@pytest.mark.parametrize(("verb", "times"), [("explain", 12), ("fit", 5), ("evaluate", 1)])
def test_faults_at_random_operations(world, fault, verb, times):
    ask = getattr(world, verb)
    with Faulty(0, None) as counting:
        ask()
    draw = random.Random(f"{verb} {type(fault).__name__}")
    troubles = [Faulty(draw.randrange(1, counting.count), fault) for _ in range(times)]
    changed, came = outcomes(world, ask, troubles)
    assert not changed
    assert came >= times // 3


def test_a_fit_and_an_evaluation_that_are_stopped(world):
    for ask, longest in ((world.fit, 0.3), (world.evaluate, 1.0)):
        changed, came = outcomes(world, ask, [alarm(s) for s in moments(3, 5, longest)])
        assert not changed
        assert came


def not_held_back(monkeypatch):
    """The guard with a handler that never waits, and without the second try that would mend that."""
    monkeypatch.setattr(interrupts, "_must_go_on", lambda frame: False)
    monkeypatch.setattr(kept, "tried", lambda step: [step()][1:])
    monkeypatch.setattr(frozen._Frozen, "_leave", _leave_once)


def stops_at_the_first_fault(monkeypatch):
    """The guard whose restoration ends where a step fails, the slow ones first."""

    def put_back(found, values=()):
        for one in sorted(found, key=lambda one: isinstance(one, kept.KeptModule)):
            for step in ("put_back_values", "put_back_flags", "put_back"):
                if hasattr(one, step):
                    getattr(one, step)()
        return []

    monkeypatch.setattr(frozen, "put_back", put_back)
    monkeypatch.setattr(frozen._Frozen, "_leave", _leave_once)


def _leave_once(self):
    hold, self._hold = self._hold, None
    if hold is not None:
        frozen._guards.leave(hold)


@pytest.mark.parametrize("broken", [not_held_back, stops_at_the_first_fault])
def test_a_broken_guard_is_found(world, monkeypatch, broken):
    own = SimpleNamespace(model=copy.deepcopy(world.model))
    with monkeypatch.context() as patched:
        broken(patched)
        here = threading.get_ident()
        times = moments(4, 150, 0.005)
        troubles = [alarm(s) if broken is not_held_back else sent_after(s, here) for s in times]
        changed, _ = outcomes(own, frozen_alone(own), troubles)
    assert changed
    frozen._guards._holds.clear()
    frozen._guards._held.clear()
