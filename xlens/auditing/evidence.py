"""Local evidence of a batch: where filling an input costs the score, by the lens, and else by windows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.auditing.filling import continued
from xlens.classifier.margins import score_margin
from xlens.counterfactual.carry import default_carry
from xlens.explaining.asking import asks
from xlens.fitted import Fitted

__all__ = ["SEARCHES", "Evidence", "evidence_of"]

#: By what evidence is found: the lens, filled windows, or these where the lens finds nothing.
SEARCHES = ("both", "lens", "windows")

#: Windows are so long, as share of the side, and lie half of that apart.
_WINDOW = 0.22
#: Windows that cost at least this share of what the costliest does are evidence.
_NEARLY = 0.5
#: The least that filling has to cost, as share of the score on the input.
_LEAST = 0.1
#: Where an edit without a mask changes less than this share of what it changes most, nothing had to change.
_CHANGED = 0.25
#: Pixels around a window that its filling is continued from.
_RIM = 3
#: A filling that changes no pixel by more than this share of the image's range is not tried.
_VISIBLE = 0.05
#: Inputs that the classifier is asked about at once.
_AT_ONCE = 256


@dataclass(frozen=True)
class Evidence:
    """What had to change in a batch.

    Args:
        filled: ``(N, C, H, W)`` the inputs with their evidence taken away.
        mask: ``(N, H, W)`` bool, where; empty where nothing local was found.
        by_lens: ``(N,)`` whether the lens's own counterfactual changed the decision; else windows were filled.
        flips: ``(N,)`` whether the decision changes to the contrast class.
    """

    filled: Tensor
    mask: Tensor
    by_lens: Tensor
    flips: Tensor


def evidence_of(fitted: Fitted, inputs: Tensor, target: Tensor, contrast: Tensor, search: str) -> Evidence:
    """Return what had to change in inputs ``(N, C, H, W)``, within ``fitted.asking()``.

    Args:
        fitted: classifier and lens.
        inputs: on the lens's device.
        target, contrast: ``(N,)``.
        search: ``"lens"``, ``"windows"``, or ``"both"``: the lens's, and windows where it finds nothing.
    """
    nothing = torch.zeros_like(inputs[:, 0], dtype=torch.bool)
    by_lens = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    filled, mask = inputs, nothing
    if search != "windows":
        filled, mask = _of_lens(fitted, inputs, target, contrast)
        by_lens = (_logits(fitted, filled).argmax(1) == contrast) & mask.flatten(1).any(1)
        filled = torch.where(by_lens[:, None, None, None], filled, inputs)
        mask = mask & by_lens[:, None, None]
    if search != "lens" and bool((rest := ~by_lens).any()):
        found, where = _of_windows(fitted, inputs[rest], target[rest], contrast[rest])
        filled, mask = filled.clone(), mask.clone()
        filled[rest], mask[rest] = found, where
    flips = _logits(fitted, filled).argmax(1) == contrast
    return Evidence(filled, mask, by_lens, flips & mask.flatten(1).any(1))


def _of_lens(fitted: Fitted, inputs: Tensor, target: Tensor, contrast: Tensor) -> tuple[Tensor, Tensor]:
    lens = asks(fitted)
    edit = lens.carry(inputs, target, contrast, default_carry(lens.masked))
    changed = (edit.start - inputs).abs().sum(1)
    most = changed.flatten(1).amax(1)[:, None, None]
    where = (changed > _CHANGED * most) & (most > 0)
    if edit.mask is not None:
        where = (edit.mask[:, 0] > 0.5) & (changed > 0)
    return edit.start, where


def _of_windows(fitted: Fitted, inputs: Tensor, target: Tensor, contrast: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs with what costs the score most filled, and where that is."""
    before = score_margin(_logits(fitted, inputs), target, contrast)
    corners, side = _windows(tuple(inputs.shape[2:]))
    size = [min(side, length) for length in inputs.shape[2:]]
    costs = inputs.new_zeros(len(inputs), len(corners))
    for i, one in enumerate(inputs):
        tried, kept = _tried(one, corners, size)
        if len(kept):
            seen = _logits(fitted, tried)
            costs[i, kept] = before[i] - score_margin(
                seen, target[i].repeat(len(seen)), contrast[i].repeat(len(seen))
            )
    most = costs.amax(1)
    enough = most > _LEAST * before.abs()
    weight = costs * ((costs >= _NEARLY * most[:, None]) & enough[:, None])
    votes = torch.zeros_like(inputs[:, 0])
    for w, (top, left) in enumerate(corners):
        votes[:, top : top + size[0], left : left + size[1]] += weight[:, w, None, None]
    # What every costly window that covers a place agrees on is sharper than their union.
    mask = (votes >= _NEARLY * votes.flatten(1).amax(1)[:, None, None]) & enough[:, None, None]
    return continued(inputs, mask[:, None]), mask


def _windows(shape: tuple[int, ...]) -> tuple[list[tuple[int, int]], int]:
    """Return the corners of windows that cover an image, half a window apart, and their side."""
    side = max(2, round(_WINDOW * min(shape)))
    step = max(1, side // 2)
    starts = [sorted({*range(0, max(1, length - side), step), max(0, length - side)}) for length in shape]
    return [(top, left) for top in starts[0] for left in starts[1]], side


def _tried(image: Tensor, corners: list[tuple[int, int]], size: list[int]) -> tuple[Tensor, Tensor]:
    """Return an image ``(C, H, W)`` with each window filled on its own, of those where that changes anything.

    Only the surroundings of a window are looked at: all of the image for each window would take most of the time.
    """
    height, width = size
    padded = F.pad(image, (_RIM,) * 4)
    known = F.pad(torch.ones_like(image[:1]), (_RIM,) * 4)
    crops = torch.stack([padded[:, t : t + height + 2 * _RIM, b : b + width + 2 * _RIM] for t, b in corners])
    weight = torch.stack([known[:, t : t + height + 2 * _RIM, b : b + width + 2 * _RIM] for t, b in corners])
    holes = torch.zeros_like(weight, dtype=torch.bool)
    holes[:, :, _RIM : _RIM + height, _RIM : _RIM + width] = True
    inside = (..., slice(_RIM, _RIM + height), slice(_RIM, _RIM + width))
    filled = continued(crops, holes, weight)[inside]
    span = (image.amax() - image.amin()).clamp_min(1e-6)
    kept = ((filled - crops[inside]).abs().flatten(1).amax(1) > _VISIBLE * span).nonzero()[:, 0]
    tried = image.repeat(len(kept), 1, 1, 1)
    for row, window in enumerate(kept.tolist()):
        top, left = corners[window]
        tried[row, :, top : top + height, left : left + width] = filled[window]
    return tried, kept


def _logits(fitted: Fitted, inputs: Tensor) -> Tensor:
    return torch.cat([fitted.classifier(part) for part in inputs.split(_AT_ONCE)])
