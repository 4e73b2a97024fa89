"""Edits by name, carried onto the real input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from xlens.codes.moves import held_names, moved_codes
from xlens.counterfactual.carry import Carry, carried, carry_faults, clamped, default_carry
from xlens.counterfactual.mask import EditMask, mask_that_flips
from xlens.errors import OptionError
from xlens.explaining.asking import asks
from xlens.fitted import BATCH, Fitted

__all__ = ["edit"]


def edit(
    fitted: Fitted, inputs: Any, amounts: Mapping[str, Any], carry: Carry | None, hold: Sequence[str]
) -> Tensor:
    """Return inputs ``(N, *S)`` with an edit carried onto them; arguments as for ``explainer.edit``."""
    asks(fitted).require_decoder("edit")
    masked = fitted.mask is not None
    if faults := carry_faults(carry, masked):
        raise OptionError(f"edit: {faults[0]}")
    carry = carry or default_carry(masked, "edit")
    hold = held_names(hold)
    if hold:
        fitted.require("directions")
    with fitted.asking():
        source = fitted.inputs(inputs)
        codes = fitted.encode(source)
        moved = moved_codes(fitted.lens, codes, amounts, hold)
        rows = zip(source.split(BATCH), codes.split(BATCH), moved.split(BATCH), strict=True)
        parts = [_carry(fitted, x.to(fitted.device), before, after, carry) for x, before, after in rows]
    return torch.cat(parts).to(source.device)


def _carry(fitted: Fitted, inputs: Tensor, before: Tensor, after: Tensor, carry: Carry) -> Tensor:
    decoded = fitted.lens.decode(after)
    if carry == "none":
        return decoded
    reconstruction = fitted.lens.decode(before)
    opened = None
    if carry == "masked" and fitted.mask is not None:
        opened = _opened(fitted, fitted.mask, inputs, reconstruction, decoded)
    edited = clamped(carried(carry, inputs, reconstruction, decoded, opened), inputs, *fitted.limits(inputs))
    # An edit of nothing leaves the input, whatever the lens leaves out of it.
    still = (after == before).all(1).view(-1, *([1] * (inputs.dim() - 1)))
    return torch.where(still, inputs, edited)


def _opened(fitted: Fitted, mask: EditMask, inputs: Tensor, reconstruction: Tensor, decoded: Tensor) -> Tensor:
    """Return the mask ``(N, 1, H, W)``, opened further only where the edit changes the class of the decoding."""
    classifier = fitted.classifier
    seen = classifier(decoded).argmax(1)
    opened = mask(inputs, reconstruction, decoded, seen).sigmoid()
    rows = (seen != classifier(reconstruction).argmax(1)).nonzero()[:, 0]
    if len(rows):
        x, own, other, wanted = (part[rows] for part in (inputs, reconstruction, decoded, seen))
        opened[rows] = mask_that_flips(mask, classifier, x, own, other, wanted, *fitted.limits(inputs))
    return opened
