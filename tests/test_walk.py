"""The walk of ``inputs`` through ``explain``: few rooms, and only downward."""

from __future__ import annotations

import sys
from pathlib import Path

import house
import torch
import toys

import xlens

PACKAGE = Path(xlens.__file__).parent
#: The score is handed down to the integrals as a function, and called from there.
HANDED_DOWN = {"attr.evaluate -> explaining.attributions"}


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


def test_inputs_pass_few_rooms_and_never_climb(fitted):
    inputs = toys.pictures(6, seed=5)[0]
    climbs, rooms = [], []

    def look(frame, event, _argument):
        if event != "call" or (name := file_of(frame)) is None or not carries(frame, inputs):
            return
        above = frame.f_back
        while above is not None and file_of(above) is None:
            above = above.f_back
        caller = None if above is None else file_of(above)
        if caller is not None and house.place(caller)[0] < house.place(name)[0]:
            climbs.append(f"{caller} -> {name}")
        if house.room_of(name) not in rooms:
            rooms.append(house.room_of(name))

    sys.setprofile(look)
    try:
        fitted.explain(inputs, tolerance=0.5, n_steps=4)
    finally:
        sys.setprofile(None)
    assert rooms[0] == "explainer"
    assert rooms[1] == "explaining"
    assert {"fitted", "data", "classifier", "counterfactual"} <= set(rooms)
    assert len(rooms) <= 9, " ".join(rooms)
    assert set(climbs) <= HANDED_DOWN
