"""The walk of ``inputs`` through ``explain``: few rooms, only downward, and none entered twice."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import arrows
import pytest
import torch
import toys

import xlens

PACKAGE = Path(xlens.__file__).parent
#: The score and the curve are handed down to the integrals as functions, and called from there.
HANDED_DOWN = {"attr.evaluate -> explaining.questions", "counterfactual.carry -> attr.curve"}
#: Rooms that answer more than one question about the inputs; the walk enters every other one once. The record makes
#: them inputs and chooses classes, the classifier is asked for logits, and the placebos are carried like the edit.
ANSWERS = {"fitted": 2, "classifier": 8, "counterfactual": 3}


def file_of(frame) -> str | None:
    """Return a frame's file by its name in the plan, or None for code of somebody else."""
    path = Path(frame.f_code.co_filename)
    # The toy lens of the tests is no part of the walk.
    if PACKAGE not in path.parents or PACKAGE / "testing" in path.parents:
        return None
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def carries(frame, inputs: torch.Tensor) -> bool:
    """Whether one of a function's arguments is the inputs, copied or not, or the first of them."""
    code = frame.f_code
    values = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
    return any(
        isinstance(value, torch.Tensor)
        and value.shape[1:] == inputs.shape[1:]
        and len(value) > 0
        and torch.equal(value.detach(), inputs[: len(value)])
        for value in values
    )


class Walk:
    """Trace of what inputs pass: the rooms in their order, how often each was entered, and what should not be.

    Args:
        inputs: what is looked for among the arguments of functions.
    """

    def __init__(self, inputs):
        self.inputs = inputs
        self.entries = Counter()
        self.climbs, self.again = set(), set()

    def __enter__(self):
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    @property
    def rooms(self):
        return list(self.entries)

    @property
    def entered_twice(self):
        return {room for room, count in self.entries.items() if count > ANSWERS.get(room, 1)}

    def _look(self, frame, event, _argument):
        if event != "call" or (name := file_of(frame)) is None or not carries(frame, self.inputs):
            return
        callers, above = [], frame.f_back
        while above is not None:
            if file_of(above) is not None:
                callers.append(file_of(above))
            above = above.f_back
        room, arrow = arrows.room_of(name), f"{callers[0] if callers else None} -> {name}"
        if callers and arrows.place(callers[0])[0] < arrows.place(name)[0]:
            self.climbs.add(arrow)
        if callers and arrows.room_of(callers[0]) == room:
            return
        if room in map(arrows.room_of, callers):
            # It was left for another room, and is entered from there while it waits.
            self.again.add(arrow)
        else:
            self.entries[room] += 1


def test_inputs_pass_few_rooms_and_never_climb(fitted):
    inputs = toys.pictures(6, seed=5)[0]
    with Walk(inputs) as walk:
        fitted.explain(inputs, tolerance=0.5, n_steps=4)
    assert walk.rooms[:2] == ["explainer", "explaining"]
    assert {"fitted", "data", "classifier", "counterfactual"} <= set(walk.rooms)
    assert len(walk.rooms) <= 9, " ".join(walk.rooms)
    assert walk.climbs <= HANDED_DOWN
    assert walk.again <= HANDED_DOWN
    assert not walk.entered_twice, walk.entries


#: What is planted -> functions that call each other, by the files that they would stand in, and what is found.
PLANTED = {
    "a way down": ({"explainer": "explaining.explain", "explaining.explain": "fitted"}, set(), set(), set()),
    "a room entered again from below": (
        {"explaining.explain": "fitted", "fitted": "explaining.verdict"},
        {"fitted -> explaining.verdict"},
        {"fitted -> explaining.verdict"},
        set(),
    ),
    "a room entered once more after it was left": (
        {"explainer": "explaining.explain explaining.explain"},
        set(),
        set(),
        {"explaining"},
    ),
    "two files of a room entered one after the other": (
        {"explainer": "explaining.explain explaining.verdict"},
        set(),
        set(),
        {"explaining"},
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_way_back_is_found(kind):
    calls, climbs, again, twice = PLANTED[kind]

    def plant(name):
        # A function whose file is one of the package, which is all that the trace looks at.
        lines = "".join(f"    call({other!r})(inputs)\n" for other in calls.get(name, "").split())
        path = str(PACKAGE.joinpath(*name.split("."))) + ".py"
        exec(compile(f"def planted(inputs):\n{lines}    return inputs\n", path, "exec"), space := {"call": plant})
        return space["planted"]

    inputs = torch.rand(2, 1, 8, 8)
    with Walk(inputs) as walk:
        plant(next(iter(calls)))(inputs)
    assert (walk.climbs, walk.again, walk.entered_twice) == (climbs, again, twice)
