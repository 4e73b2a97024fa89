"""Checks of what ``fit`` takes beside the data: side information, and another lens."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.testing.bench import Bench, FitRecord
from xlens.testing.checking import check, require, same
from xlens.testing.correctness import shapes_are_right


@check(needs=(shapes_are_right,), capability="side_info")
def side_information_is_taken(bench: Bench) -> None:
    """A table with gaps, a yes-or-no column and a number beside each input, is learned from."""
    inputs = bench.world.inputs
    # In double precision, as the core hands a table on.
    brightness = inputs.flatten(1).median(1).values.double()
    table = torch.stack([(brightness > brightness.median()).double(), brightness], 1)
    table[::3, 0] = float("nan")
    fitted = bench.fit(side_info=table)
    with bench.asking():
        codes = fitted.lens.encode(bench.inputs.clone())
        decoded = bench.decoded(fitted.lens, codes.clone())
    require(
        bool(codes.isfinite().all() and decoded.isfinite().all()),
        f"{bench.backend.name}: with side_info codes or decodings are not finite",
        do="NaN in side_info means not observed; leave those entries out of the loss",
    )
    require(
        _differ(bench.base, fitted),
        f"{bench.backend.name}: side_info changes nothing of the lens",
        do="learn from run.side_info, or take 'side_info' out of capabilities",
    )
    upside_down = bench.fit(side_info=table.flip(0))
    require(
        _differ(fitted, upside_down),
        f"{bench.backend.name}: it does not matter which row of side_info belongs to which input",
        do="row i of run.side_info belongs to the input of index i, batch.index",
    )


@check(needs=(shapes_are_right,), capability="over")
def another_lens_is_built_upon(bench: Bench) -> None:
    """A lens over the codes of another one works, and is another than without it."""
    fitted = bench.fit(over=bench.base.explainer)
    with bench.asking():
        codes = fitted.lens.encode(bench.inputs.clone())
    require(
        codes.dim() == 2 and bool(codes.isfinite().all()),
        f"{bench.backend.name}: fitted over another lens, codes are wrong",
        given=tuple(codes.shape),
        allowed="(N, d), finite",
    )
    require(
        _differ(bench.base, fitted),
        f"{bench.backend.name}: the lens that it is fitted over changes nothing",
        do="work on the codes of run.over.lens, or take 'over' out of capabilities",
    )


def _differ(first: FitRecord, second: FitRecord) -> bool:
    one, other = first.lens.state_dict(), second.lens.state_dict()
    return one.keys() != other.keys() or not all(_same(one[key], other[key]) for key in one)


def _same(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and same(first, second, exactly=True)
