"""Evidence by windows: each is filled from its surroundings, and what costs the score most is evidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.auditing.filling import continued
from xlens.classifier.margins import score_margin
from xlens.classifier.pieces import in_pieces
from xlens.fitted import Fitted

__all__ = ["LARGE", "of_windows"]

#: Windows are so long, as share of the side, and lie half of that apart.
_WINDOW = 0.22
#: Windows that cost at least this share of what the costliest does are evidence.
_NEARLY = 0.5
#: The least that filling has to cost, as share of the score on the input.
_LEAST = 0.1
#: Pixels around a window that its filling is continued from.
_RIM = 3
#: A filling that changes no pixel by more than this share of the image's range is not tried.
_VISIBLE = 0.05
#: In images of this side and more, every other window in each direction is tried first, and then the others beside
#: the costly ones: the classifier is asked about 25 images and some 10 to 30 more, instead of 81. All others are
#: tried where the first cost too little.
LARGE = 128


@dataclass(frozen=True)
class _Windows:
    """Windows of one size on a grid.

    Args:
        rows, columns: where they begin.
        height, width: of each.
    """

    rows: list[int]
    columns: list[int]
    height: int
    width: int

    @classmethod
    def over(cls, height: int, width: int) -> _Windows:
        """Return windows that cover an image, half a window apart."""
        side = max(2, round(_WINDOW * min(height, width)))
        step = max(1, side // 2)
        rows, columns = (
            sorted({*range(0, max(1, length - side), step), max(0, length - side)}) for length in (height, width)
        )
        return cls(rows, columns, min(side, height), min(side, width))

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Where each begins, row by row."""
        return [(top, left) for top in self.rows for left in self.columns]

    def every_other(self) -> Tensor:
        """Return every other window in each direction, and the last, which cover the image, ``(W,)`` bool."""
        down, across = (
            (torch.arange(n) % 2 == 0) | (torch.arange(n) == n - 1) for n in (len(self.rows), len(self.columns))
        )
        return (down[:, None] & across).flatten()

    def beside(self, chosen: Tensor) -> Tensor:
        """Return windows that are, or lie beside, one of these ``(W,)`` bool, ``(W,)`` bool."""
        grid = chosen.view(1, len(self.rows), len(self.columns)).float()
        return (F.max_pool2d(grid, 3, 1, 1) > 0).flatten()


def of_windows(
    fitted: Fitted,
    inputs: Tensor,
    target: Tensor,
    contrast: Tensor,
    *,
    logits: Tensor | None = None,
    large: int = LARGE,
) -> tuple[Tensor, Tensor]:
    """Return inputs with what costs the score most filled, and where that is, within ``fitted.asking()``.

    Args:
        fitted: whose classifier is asked.
        inputs: ``(N, C, H, W)`` on its device.
        target, contrast: ``(N,)``.
        logits: ``(N, K)`` of the inputs, where they are known.
        large: smaller side from which on not every window is tried.

    Returns:
        ``(N, C, H, W)``, and ``(N, H, W)`` bool; empty where no window costs enough.
    """
    logits = in_pieces(fitted.classifier, inputs) if logits is None else logits
    before = score_margin(logits, target, contrast)
    windows = _Windows.over(*inputs.shape[2:])
    costs = torch.stack(
        [_costs(fitted, windows, *one, large) for one in zip(inputs, target, contrast, before, strict=True)]
    )
    most = costs.amax(1)
    enough = most > _LEAST * before.abs()
    weight = costs * ((costs >= _NEARLY * most[:, None]) & enough[:, None])
    votes = torch.zeros_like(inputs[:, 0])
    for w, (top, left) in enumerate(windows.corners):
        votes[:, top : top + windows.height, left : left + windows.width] += weight[:, w, None, None]
    # What every costly window that covers a place agrees on is sharper than their union.
    mask = (votes >= _NEARLY * votes.flatten(1).amax(1)[:, None, None]) & enough[:, None, None]
    return continued(inputs, mask[:, None]), mask


def _costs(
    fitted: Fitted, windows: _Windows, image: Tensor, target: Tensor, contrast: Tensor, before: Tensor, large: int
) -> Tensor:
    """Return what filling each window costs the score of an image ``(C, H, W)``, ``(W,)``; 0 where not tried."""
    costs = image.new_zeros(len(windows.corners))

    def ask(chosen: Tensor) -> None:
        tried, kept = _tried(image, windows, chosen.nonzero()[:, 0])
        if len(kept):
            seen = in_pieces(fitted.classifier, tried)
            costs[kept] = before - score_margin(seen, target.repeat(len(seen)), contrast.repeat(len(seen)))

    if min(image.shape[1:]) < large:
        ask(torch.ones(len(costs), dtype=torch.bool))
        return costs
    first = windows.every_other()
    ask(first)
    if float(costs.amax()) <= _LEAST * abs(float(before)):
        # What lies across several of these may be enough in each of its pieces, so that none costs anything.
        ask(~first)
        return costs
    costly = (costs > 0) & (costs >= _NEARLY * costs.amax())
    ask(windows.beside(costly.cpu()) & ~first)
    return costs


def _tried(image: Tensor, windows: _Windows, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return an image ``(C, H, W)`` with each of these windows filled on its own, where that changes anything, and
    which those are.

    Only the surroundings of a window are looked at: all of the image for each window would take most of the time.
    """
    if not len(chosen):
        return image[None][:0], chosen
    height, width = windows.height, windows.width
    corners = [windows.corners[w] for w in chosen.tolist()]
    padded = F.pad(image, (_RIM,) * 4)
    known = F.pad(torch.ones_like(image[:1]), (_RIM,) * 4)
    crops = torch.stack([padded[:, t : t + height + 2 * _RIM, b : b + width + 2 * _RIM] for t, b in corners])
    weight = torch.stack([known[:, t : t + height + 2 * _RIM, b : b + width + 2 * _RIM] for t, b in corners])
    holes = torch.zeros_like(weight, dtype=torch.bool)
    holes[:, :, _RIM : _RIM + height, _RIM : _RIM + width] = True
    inside = (..., slice(_RIM, _RIM + height), slice(_RIM, _RIM + width))
    filled = continued(crops, holes, weight)[inside]
    span = (image.amax() - image.amin()).clamp_min(1e-6)
    changed = (filled - crops[inside]).abs().flatten(1).amax(1) > _VISIBLE * span
    kept = changed.cpu().nonzero()[:, 0]
    tried = image.repeat(len(kept), 1, 1, 1)
    for row, one in enumerate(kept.tolist()):
        top, left = corners[one]
        tried[row, :, top : top + height, left : left + width] = filled[one]
    return tried, chosen[kept]
