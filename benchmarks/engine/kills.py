"""What kills at random moments, twice in a row, and a full disk at every write leave of what is written."""

from __future__ import annotations

import errno
import functools
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import xlens
from xlens.errors import XlensError
from xlens.explanation import Explanation
from xlens.storage.digest import digest_of_lens

_TESTS = Path(__file__).parents[2] / "tests"
sys.path += [str(_TESTS / part) for part in ("", "stress", "teaching")]
from faults import World  # noqa: E402
from ours import LAYERS, OPTIONS, OURS  # noqa: E402
from taught import truth  # noqa: E402
from test_files import Killed, Stopped, changed, seed_in  # noqa: E402
from test_nothing_doubled import go_on, opened, outcome, same  # noqa: E402

__all__ = ["SUBJECTS", "full_disk", "kills"]

#: Answers that somebody gives, of the eight that are asked for, before giving up.
_PATIENCE = 40
_FULL = (errno.ENOSPC, errno.EIO, errno.EDQUOT)


def killed(act: Callable[[], object], seconds: float) -> bool:
    """Do something in a process that ends after so many seconds; return whether it was still at work.

    It is ended by a signal without a handler, as by SIGKILL: nothing of it runs any more. Its own timer sends it,
    because on a busy machine another process would come too late.
    """
    return _apart(act, seconds)[0]


def seconds_of(act: Callable[[], object]) -> float:
    """Return how many seconds something takes in a process of its own, with its start and end."""
    return _apart(act, 0)[1]


def _apart(act: Callable[[], object], seconds: float) -> tuple[bool, float]:
    began = time.perf_counter()
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            act()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    # One that fails by itself leaves what it should have written undone, which is seen afterwards.
    return os.waitstatus_to_exitcode(status) == -signal.SIGALRM, time.perf_counter() - began


class Subject:
    """Something that is written, and may be stopped.

    Args:
        begin: prepares a folder.
        acts: what is done in it; the first is killed, then the second, then the second runs to its end.
        half: whether a folder is whole between.
        whole: whether it is right in the end.
    """

    def __init__(
        self,
        begin: Callable[[Path], object],
        acts: tuple[Callable[[Path], object], Callable[[Path], object]],
        half: Callable[[Path], bool],
        whole: Callable[[Path], bool],
    ) -> None:
        self.begin, self.acts, self.half, self.whole = begin, acts, half, whole


def fits(name: str, steps: int) -> Subject:
    """Fits with checkpoints, resumed to the end: the same weights as without an interruption."""
    world = World()
    classifier = xlens.Classifier(world.model, layer=LAYERS.get(name))
    options: dict[str, Any] = {**OPTIONS[name][0]}
    if "steps" in options:
        options["steps"] = steps
    # A lens on a hidden layer edits no image, and takes none.
    mask = None if name in LAYERS else xlens.MaskOptions(steps=steps // 2)

    def fit(folder: Path) -> str:
        explainer = xlens.fit(
            classifier, world.inputs, name, output_dir=folder, resume=True, mask=mask, progress=False, **options
        )
        digest = digest_of_lens(explainer.lens, explainer.mask)
        (folder / "digest").write_text(digest)
        return digest

    with tempfile.TemporaryDirectory() as whole:
        right = fit(Path(whole))
    return Subject(
        lambda folder: folder.mkdir(), (fit, fit), lambda folder: True,
        lambda folder: (folder / "digest").read_text() == right,
    )  # fmt: skip


def lenses() -> Subject:
    """Saves over an earlier save: the old lens or the new one, with the tensors of its seed."""
    world = World()
    versions = {seed: changed(world.explainer, seed) for seed in (1, 2, 3)}

    def seed(folder: Path, *allowed: int) -> bool:
        return seed_in(folder, world.model, versions) in allowed

    return Subject(
        versions[1].save, (versions[2].save, versions[3].save),
        lambda folder: seed(folder, 1, 2), lambda folder: seed(folder, 3),
    )  # fmt: skip


def explanations() -> Subject:
    """Saves over an earlier one: one input or two, never a part."""
    world = World()
    both = world.explain()
    return Subject(
        both[0].save, (both.save, both[0].save),
        lambda folder: len(Explanation.load(folder)) in (1, 2), lambda folder: len(Explanation.load(folder)) == 1,
    )  # fmt: skip


def label_page() -> Subject:
    """Two rounds of answers and learning: nothing lost, nothing learned twice."""
    images = torch.rand(160, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[::2, ..., :4] += 0.5
    images[1::2, ..., 4:] += 0.5
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    ).eval()
    explainer = xlens.fit(
        xlens.Classifier(model, layer="1"), images, "ilvm", attributes=("left", "how much"),
        kinds=("binary", "ordinal:3"), steps=5, layers=1, hidden=8, teaching_steps=4, progress=False,
    )  # fmt: skip
    place = Path(tempfile.mkdtemp()) / "lens"
    explainer.save(place)
    go_on(place, model, images, 0)
    calm = place.with_name("calm")
    shutil.copytree(place, calm)
    go_on(calm, model, images, 2)
    right = outcome(calm, model)
    answering = functools.partial(_answered, model, images)
    return Subject(
        lambda folder: shutil.copytree(place, folder), (answering, answering),
        lambda folder: bool(json.loads((folder / "answers.json").read_text())),
        lambda folder: same(outcome(folder, model), right),
    )  # fmt: skip


def _answered(model: Any, images: Any, folder: Path) -> None:
    """Answer two rounds; where a failed write keeps the page from going on, somebody gives up after a while."""
    session = opened(folder, model, images)
    try:
        for _ in range(_PATIENCE):
            if session.state()["round"] > 2:
                return
            position = session.state()["next"]
            if session.answer(position, truth(images, position)):
                session.finish_round()
    finally:
        session.close()


#: What is written, as it may be asked for.
SUBJECTS = (*(f"fit {name}" for name in OURS), "save a lens", "save an explanation", "label page")


def subjects(names: Sequence[str], steps: int) -> Iterator[tuple[str, Callable[[], Subject]]]:
    """Yield what is written, by name; fits take so many steps."""
    for name in names:
        if name.startswith("fit "):
            yield name, functools.partial(fits, name.removeprefix("fit "), steps)
        else:
            yield name, {"save a lens": lenses, "save an explanation": explanations}.get(name, label_page)


def kills(times: int, names: Sequence[str] = SUBJECTS) -> None:
    """Print, for everything that is written, what two kills in a row leave."""
    print("\n| what | kills | of these at work | lost, doubled or in part |\n|---|---|---|---|", flush=True)
    draw = random.Random(0)
    for name, make in subjects(names, 8):
        subject = make()
        with tempfile.TemporaryDirectory() as where:
            calm = Path(where) / "calm"
            subject.begin(calm)
            longest = seconds_of(lambda: subject.acts[0](calm))  # noqa: B023
            lost = met = 0
            for i in range(times // 2):
                folder = Path(where) / str(i)
                subject.begin(folder)
                for act in subject.acts:
                    met += killed(lambda: act(folder), draw.uniform(1e-4, longest))  # noqa: B023
                    lost += not _holds(lambda: subject.half(folder) or subject.whole(folder))  # noqa: B023
                seconds_of(lambda: subject.acts[1](folder))  # noqa: B023
                lost += not _holds(lambda: subject.whole(folder))  # noqa: B023
                _remove(folder)
        print(f"| {name} | {times // 2 * 2} | {met} | {lost} |", flush=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except (XlensError, OSError, AssertionError):
        return False


def full_disk(names: Sequence[str] = SUBJECTS) -> None:
    """Print what a write that fails leaves: each of them in turn, once or for good."""
    print("\n| what | failing calls | raw errors | lost, doubled or in part |\n|---|---|---|---|", flush=True)
    for name, make in subjects(names, 2):
        subject = make()
        count = raw = lost = 0
        # A fit takes its time, and writes by the same function.
        errors = _FULL[:1] if name.startswith("fit") else _FULL
        with tempfile.TemporaryDirectory() as where:
            for number, once in itertools.product(errors, (True, False)):
                for at in range(1, 400):
                    folder = Path(where) / "work"
                    subject.begin(folder)
                    with pytest.MonkeyPatch.context() as patch:
                        failing = Killed(patch, at, OSError(number, os.strerror(number)), once)
                        raw += not _in_words(lambda: subject.acts[0](folder))  # noqa: B023
                    if failing.count < at:
                        _remove(folder)
                        break
                    count += 1
                    lost += not _holds(lambda: subject.half(folder))  # noqa: B023
                    lost += not _holds(lambda: (subject.acts[1](folder), subject.whole(folder))[1])  # noqa: B023
                    _remove(folder)
        print(f"| {name} | {count} | {raw} | {lost} |", flush=True)


def _in_words(act: Callable[[], object]) -> bool:
    """Whether something works, or fails in words; the label page says a failed write as its state."""
    try:
        act()
    except (XlensError, Stopped, AssertionError):
        return True
    except Exception as fault:  # noqa: BLE001 - that is what is counted
        print(f"raw: {type(fault).__name__}: {fault}", file=sys.stderr)
        return False
    return True
