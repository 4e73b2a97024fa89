"""Ctrl-C, errors and full memory at random moments: the model and the process are as they were, each time."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from xlens.classifier import frozen, interrupts, kept
from xlens.testing.world import Cnn

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


def time_of(ask):
    """Return how long a call takes that is not the first."""
    ask()
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def frozen_alone(world, seconds=0.004):
    """Enter and leave the guard again and again, where nearly all moments are moments of set-up or of clean-up."""

    def ask():
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            with frozen.frozen(None, world.model, 0):
                pass

    return ask


def test_ctrl_c_while_explaining(world):
    longest = time_of(world.explain)
    changed, came = outcomes(world, world.explain, [alarm(s) for s in moments(0, 40, longest)])
    assert not changed
    assert came > 12


def test_ctrl_c_while_a_guard_is_set_up_or_put_back(world):
    changed, came = outcomes(world, frozen_alone(world), [alarm(s) for s in moments(1, 150, 0.005)])
    assert not changed
    assert came > 40


def test_interruptions_that_no_handler_can_hold_back(world):
    """As a debugger or another thread sends them: a single one finds everything in order again."""

    def trouble():
        here = threading.get_ident()
        found.extend(outcomes(world, frozen_alone(world), [sent_after(s, here) for s in moments(2, 120, 0.005)]))

    # In a thread of its own, because what torch sets for a thread may be left half way inside torch.
    found = []
    thread = threading.Thread(target=trouble)
    thread.start()
    thread.join()
    changed, came = found
    assert not changed
    assert came > 30


@contextmanager
def raised_after(seconds):
    """Raise from the program's own handler of another signal than Ctrl-C's, as a watchdog does."""

    def handle(number, frame):
        raise RuntimeError("took too long")

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_another_signals_handler_that_raises(world):
    changed, came = outcomes(world, frozen_alone(world), [raised_after(s) for s in moments(5, 100, 0.005)])
    assert not changed
    assert came > 25


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
    for ask in (world.fit, world.evaluate):
        changed, came = outcomes(world, ask, [alarm(s) for s in moments(3, 5, time_of(ask))])
        assert not changed
        assert came


def not_held_back(monkeypatch):
    """The guard with a handler that never waits, and without the second try that would mend that."""
    monkeypatch.setattr(interrupts, "_must_go_on", lambda frame: False)
    monkeypatch.setattr(kept, "tried", lambda step: [step()][1:])
    monkeypatch.setattr(frozen._Frozen, "drop", _leave_once)


def stops_at_the_first_fault(monkeypatch):
    """The guard whose restoration ends where a step fails, the slow ones first."""

    def put_back(found, values=()):
        for one in sorted(found, key=lambda one: isinstance(one, kept.KeptModule)):
            for step in ("put_back_values", "put_back_flags", "put_back"):
                if hasattr(one, step):
                    getattr(one, step)()
        return []

    monkeypatch.setattr(frozen, "put_back", put_back)
    monkeypatch.setattr(frozen._Frozen, "drop", _leave_once)


def _leave_once(self):
    hold, self._hold = self._hold, None
    if hold is not None:
        frozen._guards.leave(hold)


@pytest.mark.parametrize("broken", [not_held_back, stops_at_the_first_fault])
def test_a_broken_guard_is_found(broken):
    # In a process of its own, because it leaves torch's switches half way too.
    done = subprocess.run([sys.executable, __file__, broken.__name__], capture_output=True, text=True, timeout=60)
    assert int(done.stdout.split()[-1]) > 0, done.stderr


if __name__ == "__main__":
    broken = globals()[sys.argv[1]]
    broken(pytest.MonkeyPatch())
    own, here = SimpleNamespace(model=Cnn()), threading.get_ident()
    times = moments(4, 150, 0.005)
    troubles = [alarm(s) if broken is not_held_back else sent_after(s, here) for s in times]
    count = 0
    for trouble in troubles:
        changed, _ = changed_by(own.model, frozen_alone(own), trouble)
        count += bool(changed)
        if changed:
            break
    print(count, flush=True)
