"""Checks that a lens makes its tensors where its arguments are, and takes classes however they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from xlens.contracts import SupportsInvariances, SupportsSampling
from xlens.testing.bench import Bench, quiet
from xlens.testing.checking import check, require, same
from xlens.testing.correctness import shapes_are_right


@check(needs=(shapes_are_right,))
def devices_are_kept(bench: Bench) -> None:
    """Nothing is made on torch's default device: tensors go where the argument, or the lens, is."""
    inputs = bench.inputs.clone()
    n, declared = len(inputs), bench.backend.capabilities
    with bench.asking() as lens:
        codes = lens.encode(inputs.clone())
        one, other = torch.full((n,), 1), torch.full((n,), 0)
        draw = torch.Generator().manual_seed
        calls: dict[str, Callable[[], Tensor]] = {
            "encode": lambda: lens.encode(inputs),
            "decode": lambda: bench.decoded(lens, codes.clone()),
            "counterfactual": lambda: lens.counterfactual(codes.clone(), one, other),
        }
        if "sample" in declared and callable(getattr(lens, "sample", None)):
            calls["sample"] = lambda: cast(SupportsSampling, lens).sample(2, 1, draw(0))
        if "invariances" in declared and callable(getattr(lens, "invariances", None)):
            varying = cast(SupportsInvariances, lens)
            calls["invariances"] = lambda: torch.cat(
                [varying.invariances(codes.clone(), 2, 1.0, draw(0), vary) for vary in ("nuisance", "class")]
            )
        found = {name: _elsewhere(call) for name, call in calls.items()}
    for name, fault in found.items():
        require(
            fault is None,
            f"{bench.backend.name}: {name} makes a tensor on torch's default device",
            given=f"arguments on the CPU and another default device: {fault}",
            allowed="tensors on the device of the argument, or of the lens's own parameters",
            do="codes.new_zeros(...), torch.zeros_like(...), device=codes.device; in sample the device of a buffer",
        )


def _elsewhere(call: Callable[[], Any]) -> str | None:
    """Call where tensors without a device are none; return what goes wrong."""
    try:
        with torch.device("meta"):
            found = call()
    except Exception as fault:  # noqa: BLE001 - whatever it raises is the finding
        return f"{type(fault).__name__}: {(str(fault) or 'no message').splitlines()[0]}"
    return None if found.device.type == "cpu" else f"the result is on {found.device}"


@check(needs=(shapes_are_right,))
def one_class_is_a_class_for_each_row(bench: Bench) -> None:
    """A target and a contrast given as numbers mean what tensors of them mean."""
    explainer, inputs = bench.base.explainer, bench.inputs[:3]
    with quiet():
        each = explainer.counterfactual(inputs.clone(), target=torch.full((3,), 1), contrast=torch.full((3,), 0))
        try:
            alike = explainer.counterfactual(inputs.clone(), target=1, contrast=0)
        except Exception as fault:  # noqa: BLE001 - whatever it raises is the finding
            outcome: str | None = f"{type(fault).__name__}: {(str(fault) or 'no message').splitlines()[0]}"
        else:
            outcome = None if same(alike, each, exactly=True) else "another counterfactual"
    require(
        outcome is None,
        f"{bench.backend.name}: target=1 is not what a tensor of ones is",
        given=outcome,
        do="do not write to target and contrast, which may be views of one number",
    )
