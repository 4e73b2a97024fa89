"""Checks of Ctrl-C: that it stops a fit, and that the fit can go on afterwards."""

from __future__ import annotations

from pathlib import Path

from xlens.contracts.backend import StepEvent
from xlens.testing.bench import Bench, folder, interruptible
from xlens.testing.checking import NotCheckedError, check, require, same
from xlens.testing.manners import gives_the_same_for_the_same_seed, reports_its_steps
from xlens.testing.state import differing, model_state, process_state


@check(needs=(reports_its_steps,))
def can_be_interrupted(bench: Bench) -> None:
    """Ctrl-C stops the fit, and leaves model and process as they were."""
    before = {**process_state(), **model_state(bench.classifier.model)}
    with folder() as path:
        stopped = _interrupted(bench, path)
    require(
        stopped,
        f"{bench.backend.name}: Ctrl-C does not stop the fit",
        do="let KeyboardInterrupt out of fit; xlens.training.Trainer saves a checkpoint first",
    )
    changed = differing(before, {**process_state(), **model_state(bench.classifier.model)})
    require(
        not changed,
        f"{bench.backend.name}: an interrupted fit leaves something changed",
        given=", ".join(changed[:3]),
        do="put it back in a finally clause",
    )


@check(needs=(can_be_interrupted, gives_the_same_for_the_same_seed))
def resumes_where_it_stopped(bench: Bench) -> None:
    """With ``resume=True`` an interrupted fit goes on from its checkpoint, to the lens of an uninterrupted one."""
    with folder() as path:
        _interrupted(bench, path)
        fitted = bench.fit(output_dir=path, resume=True)
    whole = [(event.phase, event.step) for event in bench.base.events]
    rest = [(event.phase, event.step) for event in fitted.events]
    require(
        0 < len(rest) < len(whole) and rest == whole[-len(rest) :],
        f"{bench.backend.name}: resume=True begins from the start",
        given=f"{len(rest)} of {len(whole)} steps after the interruption",
        do="train with xlens.training.Trainer, which writes checkpoints to run.output_dir and continues from them",
    )
    first, second = bench.base.lens.state_dict(), fitted.lens.state_dict()
    different = [key for key in first if key not in second or not same(first[key], second[key])]
    require(
        not different,
        f"{bench.backend.name}: a resumed fit ends with another lens than an uninterrupted one",
        given=", ".join(different[:3]),
        do="keep everything that training changes in the Trainer's networks and optimisers, and draw from its "
        "generator",
    )


def _interrupted(bench: Bench, path: Path) -> bool:
    """Press Ctrl-C halfway through a fit; return whether that stopped it."""
    halfway = len(bench.base.events) // 2
    if halfway == 0:
        raise NotCheckedError("one step cannot be interrupted halfway; pass an instance that takes a few")
    seen = 0

    with interruptible() as press:

        def on_step(event: StepEvent) -> None:
            nonlocal seen
            seen += 1
            if seen == halfway:
                press()

        try:
            bench.fit(on_step=on_step, output_dir=path)
        except KeyboardInterrupt:
            return True
    return False
