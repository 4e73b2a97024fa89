"""Placebo: the same mask, moved elsewhere and filled the same way, must leave the decision."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.counterfactual.carry import carried
from xlens.counterfactual.edit import Edit
from xlens.explaining.asking import Asks

__all__ = ["placebo_flips"]

#: Places that the mask is moved to, in shares of the image.
_SHIFTS = tuple((dy / 4, dx / 4) for dy in range(4) for dx in range(4) if (dy, dx) != (0, 0))
#: A moved mask that lies on more than this of the old one's area proves nothing.
_OVERLAP = 0.25
#: Places at which the classifier is asked.
_PLACES = 2


def placebo_flips(lens: Asks, edit: Edit, contrast: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return whether a placebo flips, and whether there was room for one, ``(N,)`` bool each; None without a mask.

    Args:
        lens: asks the lens.
        edit: whose mask is moved.
        contrast: ``(N,)`` the class that a placebo must not bring about.
    """
    if edit.mask is None or edit.mask.dim() != 4:
        return None
    flips = torch.zeros(len(contrast), dtype=torch.bool, device=contrast.device)
    possible = torch.zeros_like(flips)
    moved, overlaps = _moved(edit, edit.mask)
    edited = edit.mask.flatten(1).any(1)
    for place in range(_PLACES):
        mask = moved[place]
        filled = lens.filled(edit, mask)
        if filled is None:
            return None
        placebo = carried("masked", edit.inputs, edit.reconstruction, filled, mask)
        # Where nothing is edited there is nothing to move.
        room = edited & (overlaps[place] <= _OVERLAP)
        flips |= room & (lens.fitted.classifier(placebo).argmax(1) == contrast)
        possible |= room
    return flips, possible


def _moved(edit: Edit, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return each mask at the places that share least with it ``(places, N, 1, H, W)``, and what they share."""
    height, width = mask.shape[2:]
    shifts = [(round(dy * height), round(dx * width)) for dy, dx in _SHIFTS]
    candidates = torch.stack([mask.roll(shift, (2, 3)) for shift in shifts])
    shared = torch.minimum(candidates, mask).flatten(2).sum(2) / mask.flatten(1).sum(1).clamp_min(1e-6)
    # Where the image is empty, as around an object, a placebo proves little: of places as free, the busiest.
    busy = (edit.inputs - edit.inputs.mean((2, 3), keepdim=True)).square().sum(1, keepdim=True)
    activity = (candidates * busy).flatten(2).sum(2)
    activity = activity / activity.amax(0).clamp_min(1e-12)
    order = (shared.mul(4).round() - 0.5 * activity).argsort(dim=0, stable=True)[:_PLACES]
    rows = torch.arange(len(mask), device=mask.device)
    return torch.stack([candidates[place, rows] for place in order]), shared.gather(0, order)
