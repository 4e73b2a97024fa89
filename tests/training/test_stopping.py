"""The trainer stopped by a signal or a kill: the step is finished and saved, and goes on from there."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from tasks import STEPS, Task, same

from xlens.training.checkpoint import read_file


def test_an_interrupt_inside_a_step_keeps_the_last_whole_checkpoint(tmp_path):
    def fault(task):
        if task.calls == 8:
            raise KeyboardInterrupt

    expected = Task().fit().result()
    with pytest.raises(KeyboardInterrupt):
        Task(output_dir=tmp_path, at_step=fault).fit()
    resumed = Task(output_dir=tmp_path, resume=True).fit()
    assert resumed.calls == STEPS - 5
    assert same(resumed.result(), expected)


def test_ctrl_c_finishes_the_step_and_saves(tmp_path):
    def press(task):
        if task.calls == 6:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    expected = Task().fit().result()
    task = Task(output_dir=tmp_path, at_step=press)
    with pytest.raises(KeyboardInterrupt):
        task.fit()
    assert (task.calls, task.trainer.step_index) == (6, 6)
    assert signal.getsignal(signal.SIGINT) is before
    assert same(Task(output_dir=tmp_path, resume=True).fit().result(), expected)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def press_twice(task):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        task.survived = True

    task = Task(at_step=press_twice)
    # A program that was started in the background ignores it.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            task.fit()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert not hasattr(task, "survived")


# --- SIGTERM --------------------------------------------------------------------------------------


@pytest.fixture
def terminated():
    """Give SIGTERM a handler, and see afterwards that it is still there."""

    def install(handler):
        signal.signal(signal.SIGTERM, handler)

    before = signal.getsignal(signal.SIGTERM)
    yield install
    signal.signal(signal.SIGTERM, before)


def terminate_at(call, number=signal.SIGTERM):
    def press(task):
        if task.calls == call:
            os.kill(os.getpid(), number)

    return press


@pytest.mark.parametrize("handler", [signal.SIG_DFL, lambda number, frame: None], ids=["default", "a flag"])
def test_sigterm_finishes_the_step_and_saves(tmp_path, terminated, handler):
    terminated(handler)
    expected = Task().fit().result()
    task = Task(output_dir=tmp_path, at_step=terminate_at(6))
    with pytest.raises(SystemExit) as said:
        task.fit()
    assert said.value.code == 143
    assert (task.calls, task.trainer.step_index) == (6, 6)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert read_file(tmp_path / "toy.checkpoint", "an xlens checkpoint")["step"] == 6
    assert same(Task(output_dir=tmp_path, resume=True).fit().result(), expected)


def test_the_programs_own_handler_of_sigterm_goes_first(tmp_path, terminated):
    class Preempted(Exception):
        pass

    def handler(number, frame):
        raise Preempted

    terminated(handler)
    with pytest.raises(Preempted):
        Task(output_dir=tmp_path, at_step=terminate_at(3)).fit()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_sigterm_that_a_program_ignores_stays_ignored(terminated):
    terminated(signal.SIG_IGN)
    assert Task(at_step=terminate_at(3)).fit().calls == STEPS
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_second_sigterm_stops_at_once(tmp_path, terminated):
    terminated(signal.SIG_DFL)

    def press_twice(task):
        if task.calls == 3:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            task.survived = True

    task = Task(output_dir=tmp_path, at_step=press_twice)
    with pytest.raises(SystemExit):
        task.fit()
    assert not hasattr(task, "survived")
    # Half a step is not kept.
    assert read_file(tmp_path / "toy.checkpoint", "an xlens checkpoint")["step"] == 2


def test_in_another_thread_signals_are_left_alone(terminated):
    handler = signal.getsignal(signal.SIGTERM)
    found = []
    thread = threading.Thread(target=lambda: found.append(Task().fit().calls))
    thread.start()
    thread.join()
    assert found == [STEPS]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_killed_process_resumes_from_its_first_steps(tmp_path):
    """The first checkpoints come early: of what was done, less than half is lost."""
    expected = Task(checkpoint_every=200).fit().result()
    for killed_at in (1, 2, 3, 7, 12):
        folder = tmp_path / str(killed_at)

        class Killed(BaseException):
            pass

        def kill(event, killed_at=killed_at, kind=Killed):
            if event.step == killed_at:
                raise kind

        with pytest.raises(Killed):
            Task(checkpoint_every=200, output_dir=folder, on_step=kill).fit()
        resumed = Task(checkpoint_every=200, output_dir=folder, resume=True).fit()
        # What on_step of a step raises comes before that step is written.
        kept = STEPS - resumed.calls
        assert kept >= (killed_at - 1) / 2
        assert same(resumed.result(), expected)
