"""What threads, Ctrl-C, errors, full memory, kills, a full disk and damaged files leave behind.

python -m benchmarks.engine.faults [--parts PART ...] [--times N] [--pairs N] [--verbs VERB ...] [--kinds KIND ...]
    [--seed N] [--kills N] [--what THING ...] [--files N]
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import xlens
from benchmarks.engine.damaged_files import bombs, damaged
from benchmarks.engine.kills import SUBJECTS, full_disk, kills
from xlens.classifier.frozen import frozen

sys.path[:0] = [str(Path(__file__).parents[2] / "tests" / name) for name in ("stress", "")]
from faults import Faulty, World, alarm, changed_by, moments, sent_after  # noqa: E402
from test_every_line import ASKED, AtCall, AtLine, faults_of, small  # noqa: E402
from test_threads import at_once, questions  # noqa: E402

_VERBS = ("guard alone", "explain", "fit", "evaluate")
_KINDS = ("Ctrl-C", "past every handler", "error", "out of memory")
_PARTS = ("moments", "threads", "small", "large", "kills", "full-disk", "files", "bombs")


def guard_alone(world: World) -> Callable[[], None]:
    """Enter and leave the guard alone, where nearly every moment is one of set-up or clean-up."""

    def ask() -> None:
        for _ in range(3):
            with frozen(None, world.model, 0):
                pass

    return ask


def evaluation(world: World) -> Callable[[], None]:
    """Judge a lens of few codes on two inputs: figures about codes take most of the time of larger ones."""
    small = xlens.fit(
        world.model, world.inputs, "svae", steps=2, hidden=8, class_code=2, nuisance_code=2,
        mask=xlens.MaskOptions(steps=2), progress=False,
    )  # fmt: skip

    def ask() -> None:
        xlens.evaluate(small, world.inputs[:2], methods=("lig",), steps=1, progress=False)

    return ask


def troubles(kind: str, n: int, seconds: float, operations: int, seed: int) -> Iterator[Any]:
    """Yield contexts that bring one fault each, at random moments of a call or operations of torch's."""
    draw = random.Random(f"{kind}{seed}")
    # Each is one of its own: raised again, an exception keeps the frames, and models, of every time before.
    faults = {"error": lambda: RuntimeError("broken"), "out of memory": lambda: torch.OutOfMemoryError("full")}
    for moment in moments(seed, n, seconds):
        if kind == "Ctrl-C":
            yield alarm(moment)
        elif kind == "past every handler":
            yield sent_after(moment, threading.get_ident())
        else:
            yield Faulty(draw.randrange(1, max(operations, 2)), faults[kind]())


def mended(world: World, ask: Callable[[], object], trouble: Any) -> tuple[list[str], bool]:
    """Bring one fault, and mend what it breaks: what is broken already could not be seen to break."""
    flags = [(module, module.training) for module in world.model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in world.model.parameters()]
    found = changed_by(world.model, ask, trouble)
    for module, training in flags:
        module.training = training
    for parameter, wanted in gradients:
        parameter.requires_grad_(wanted)
    return found


#: What is asked that the world cannot be asked itself.
_MADE: dict[str, Callable[[World], Callable[[], None]]] = {"guard alone": guard_alone, "evaluate": evaluation}


def interruptions(
    world: World, size: str, times: int, verbs: Sequence[str], kinds: Sequence[str], seed: int
) -> None:
    print(
        "\n| verb | model | fault | calls | faults that came | left changed |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for verb in verbs:
        ask = _MADE[verb](world) if verb in _MADE else getattr(world, verb)
        ask()
        began = time.perf_counter()
        ask()
        seconds = time.perf_counter() - began
        with Faulty(0, None) as counting:
            ask()
        for kind in kinds:
            if verb == "guard alone" and kind in _KINDS[2:]:
                # The guard's own operations are not the user's: no mode sees them.
                continue
            found = [mended(world, ask, one) for one in troubles(kind, times, seconds, counting.count, seed)]
            came, left = sum(came for _, came in found), sum(bool(changed) for changed, _ in found)
            print(f"| {verb} | {size} | {kind} | {times} | {came} | {left} |", flush=True)


def every_moment() -> None:
    """Stop the guard at every moment at which Python looks for what another thread has sent, and at every line."""
    print(
        "| asked | stopped at every | moments | first that left something changed |\n|---|---|---|---|", flush=True
    )
    for kind, what in ((AtCall, "call"), (AtLine, "line")):
        for ask in ASKED:
            count, faults = faults_of(small(), ask, kind, every=1)
            print(f"| {ask.__name__} | {what} | {count} | {', '.join(faults) or 'none'} |", flush=True)


def threads(world: World, pairs: int) -> None:
    print(
        "| explainers | beside | calls | wrong answers | wrong predictions | left changed | time, of that in turn |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    mask = xlens.MaskOptions(steps=2)
    other = xlens.fit(world.model, world.inputs, "svae", steps=4, seed=1, mask=mask, progress=False)
    for count in (1, 2):
        asked = questions(world, (world.explainer, world.explainer if count == 1 else other))
        began = time.perf_counter()
        for _ in range(pairs):
            for ask in asked:
                ask()
        in_turn = time.perf_counter() - began
        for beside in (None, (world.inputs[:4], world.plain)):
            # A model that serves is in eval mode already.
            world.model.train(beside is None)
            wrong, off, changed, seconds = at_once(world.model, asked, pairs, beside)
            who = "and one predicts" if beside is not None else ""
            print(
                f"| {count} | {who} | {2 * pairs} | {len(wrong)} | {len(off)} | {len(changed)} "
                f"| {seconds / in_turn:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS, help="what is measured")
    parser.add_argument("--times", type=int, default=1000, help="faults of each kind in each verb")
    parser.add_argument("--verbs", nargs="+", choices=_VERBS, default=_VERBS, help="what is interrupted")
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=_KINDS, help="which faults are brought")
    parser.add_argument("--pairs", type=int, default=100, help="pairs of calls from two threads")
    parser.add_argument("--kills", type=int, default=500, help="kills of each thing that is written")
    parser.add_argument(
        "--what", nargs="+", choices=SUBJECTS, default=SUBJECTS, help="what is killed and finds no room"
    )
    parser.add_argument("--files", type=int, default=20_000, help="files with changed bytes, beside forged ones")
    parser.add_argument("--seed", type=int, default=7, help="which moments, and operations of torch's")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # Shells start what runs in the background with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "moments" in chosen.parts:
        every_moment()
    if "threads" in chosen.parts:
        threads(World(), chosen.pairs)
    if "small" in chosen.parts:
        interruptions(World(), "small", chosen.times, chosen.verbs, chosen.kinds, chosen.seed)
    if "large" in chosen.parts:
        interruptions(World(large=True), "100 MB", chosen.times, chosen.verbs, chosen.kinds, chosen.seed)
    if "kills" in chosen.parts:
        kills(chosen.kills, chosen.what)
    if "full-disk" in chosen.parts:
        full_disk(chosen.what)
    if "files" in chosen.parts:
        damaged(chosen.files)
    if "bombs" in chosen.parts:
        bombs()
