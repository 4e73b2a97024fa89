"""The way between two real inputs, through the code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xlens.attr.curve import Segment, broadcast
from xlens.attr.paths import geodesic
from xlens.codes.variants import VariantCarry
from xlens.contracts.numbers import is_count
from xlens.counterfactual.carry import carry_faults, clamped
from xlens.errors import DataError, OptionError
from xlens.explaining.asking import asks
from xlens.fitted import Fitted

__all__ = ["Interpolation", "interpolate"]

#: Codes decoded, and frames shown to the classifier, at once.
_BATCH = 64
_PATHS = ("linear", "geodesic")


@dataclass(frozen=True)
class Interpolation:
    """Frames between pairs of inputs, and what the classifier says of each.

    Args:
        frames: ``(N, T, *S)``, from the first inputs to the second.
        values: ``(T,)`` how far on the way each is, from 0 to 1.
        probabilities: ``(N, T, K)`` the classifier's.
        class_names: names of the K classes.
    """

    frames: Tensor
    values: Tensor
    probabilities: Tensor
    class_names: tuple[str, ...]


def interpolate(fitted: Fitted, first: Any, second: Any, n: int, path: str, carry: VariantCarry) -> Interpolation:
    """Return the way from each of the first inputs to the second; arguments as for ``explainer.interpolate``."""
    lens = asks(fitted)
    lens.require_decoder("interpolate")
    faults = carry_faults(carry, False, ("none", "residual"))
    if not is_count(n) or n < 2:
        faults.append(f"n must be an int >= 2, got {n!r}")
    if path not in _PATHS:
        faults.append(f"path must be one of {', '.join(_PATHS)}, got {path!r}")
    if faults:
        raise OptionError("interpolate: " + "; ".join(faults))
    with fitted.asking():
        source, other = fitted.inputs(first), fitted.inputs(second)
        if len(source) != len(other):
            raise DataError(
                "interpolate: there are not as many second inputs as first ones",
                given=f"{len(source)} and {len(other)}",
                do="pass pairs: two batches of one length",
            )
        start, end = (fitted.encode(at, _BATCH) for at in (source, other))
        decode = fitted.lens.decode
        codes = geodesic(start, end, decode, batch=_BATCH) if path == "geodesic" else Segment(start, end)
        values = torch.linspace(0, 1, int(n), device=fitted.device)
        rows = torch.arange(len(source), device=fitted.device).repeat_interleave(len(values))
        at = values.repeat(len(source))
        lost = None
        if carry == "residual":
            lost = [x.to(fitted.device) - decode(z) for x, z in ((source, start), (other, end))]
        frames, said = [], []
        for some, alphas in zip(rows.split(_BATCH), at.split(_BATCH), strict=True):
            found = decode(codes(some, alphas))
            if lost is not None:
                # What the lens leaves out of either input fades over to that of the other.
                between = found + torch.lerp(lost[0][some], lost[1][some], broadcast(alphas, found))
                found = clamped(between, found, *fitted.limits(found))
            frames.append(found.to(source.device))
            said.append(fitted.classifier.probabilities(found).to(source.device))
    shape = (len(source), len(values))
    return Interpolation(
        frames=torch.cat(frames).view(*shape, *fitted.spec.shape),
        values=values.to(source.device),
        probabilities=torch.cat(said).view(*shape, -1),
        class_names=fitted.class_names,
    )
