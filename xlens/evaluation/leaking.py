"""Leakage between directions: how much an edit along one changes what is read along the others."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens import metrics
from xlens.codes.moves import directions_of
from xlens.contracts.explainer import Explainer
from xlens.errors import OptionError
from xlens.explaining.asking import asks
from xlens.fitted import Fitted, as_fitted

__all__ = ["leakage"]

_BATCH = 64
#: No other direction is held that would leave less than this of the one that is edited.
_LEAST = 0.4


def leakage(
    explainer: Explainer | Fitted, inputs: Any, amount: float = 3.0, *, orthogonal: bool = False
) -> dict[str, dict[str, float]]:
    """Leakage between directions: how much an edit along each changes what the lens reads along the others.

    Each edit is decoded and encoded again; the figures are changes per unit of the edit, averaged over inputs.

    Args:
        explainer: its lens has directions.
        inputs: ``(N, *S)``.
        amount: length of the edits.
        orthogonal: hold others in each edit: the least related (by cosine) first, and none that would leave
            less than 0.4 of the edit. Directions of K classes depend on each other, so that of two classes one
            stays free always, and of more the one most opposed, as a rule.

    Returns:
        edited direction -> direction read -> change.

    Raises:
        OptionError: the amount is no number, not finite, or 0.
        UnsupportedError: this lens has no directions.
    """
    fitted = as_fitted(explainer, "leakage", "explainer", inputs)
    fitted.require("directions")
    asks(fitted).require_decoder("leakage")
    if not isinstance(amount, Real) or isinstance(amount, bool) or not 0 < abs(amount) < float("inf"):
        raise OptionError(f"leakage: amount must be a finite number other than 0, got {amount!r}")
    lens = fitted.lens
    named = directions_of(lens)
    with fitted.asking():
        codes = fitted.encode(fitted.inputs(inputs), _BATCH)
        readouts = torch.stack(list(named.values())).to(codes)
        edits = torch.stack([_held_where_possible(u, readouts) if orthogonal else u for u in readouts])
        parts = codes.split(_BATCH)
        weights = torch.tensor([len(part) for part in parts]).to(codes) / len(codes)
        changes = [
            metrics.leakage(lens.encode, lens.decode, part, edits, readouts, float(amount)) for part in parts
        ]
        found = (torch.stack(changes) * weights.view(-1, 1, 1)).sum(0)
    return {edited: dict(zip(named, row, strict=True)) for edited, row in zip(named, found.tolist(), strict=True)}


def _held_where_possible(direction: Tensor, every: Tensor) -> Tensor:
    """Make a unit direction perpendicular to as many others as leave enough of it, the least related first.

    Directions of classes depend on each other: perpendicular to all of the others, nothing is left of any of them.
    """
    left = direction.double()
    held: list[Tensor] = []
    cosines = F.normalize(every, dim=1) @ direction
    own = int(cosines.argmax())
    for index in cosines.abs().argsort(stable=True).tolist():
        if index == own:
            continue
        rest = every[index].double()
        # Twice, because one pass leaves rounding behind where directions are nearly dependent.
        for axis in held * 2:
            rest = rest - (rest @ axis) * axis
        if float(rest.norm()) < 1e-5 * float(every[index].norm()):
            continue  # held already, by those that span it
        axis = F.normalize(rest, dim=0)
        without = left - (left @ axis) * axis
        if float(without.norm()) >= _LEAST:
            left = without
            held.append(axis)
    return F.normalize(left, dim=0).to(direction.dtype)
