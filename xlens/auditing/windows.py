"""Evidence by windows: each is filled from its surroundings, and what costs the score most is evidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.auditing.filling import continued
from xlens.auditing.slopes import slopes
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
#: In images of this side and more every third window in each direction and those that a gradient promises most of
#: are tried first, more of these where they cost too little, and then what lies beside the costly ones, so often:
#: some 28 images for the classifier, the gradient among them, instead of 81. Of 170 leaves of 224 pixels what is
#: found shares .84 with what all windows find; every other window first shares .79 for 43 questions, and a gradient
#: alone .76 for 20 (docs/benchmarks/shortcuts.md).
LARGE = 128
_PROMISING, _MORE, _ROUNDS = 6, 24, 3


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

    def spread(self) -> Tensor:
        """Return every third window in each direction, ``(W,)`` bool."""
        down, across = (torch.arange(n) % 3 == 1 for n in (len(self.rows), len(self.columns)))
        return (down[:, None] & across).flatten()

    def beside(self, chosen: Tensor) -> Tensor:
        """Return these windows ``(W,)`` bool and what lies above, below, left and right of each, ``(W,)`` bool."""
        grid = chosen.view(1, len(self.rows), len(self.columns)).float()
        return ((F.max_pool2d(grid, (3, 1), 1, (1, 0)) + F.max_pool2d(grid, (1, 3), 1, (0, 1))) > 0).flatten()

    def cut(self, image: Tensor, which: Tensor, rim: int = 0) -> Tensor:
        """Return what is in these windows ``(k,)`` of an image ``(C, H, W)`` that has so much around it besides,
        ``(k, C, h, w)``."""
        corners = [self.corners[w] for w in which.tolist()]
        height, width = self.height + 2 * rim, self.width + 2 * rim
        return torch.stack([image[:, top : top + height, left : left + width] for top, left in corners])


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
    slope = None
    if min(inputs.shape[2:]) >= large:
        # On the input itself what is evident has little slope, as the score is flat where it is sure.
        slope = slopes(fitted, (inputs + _blurred(inputs, windows)) / 2, target, contrast)
    costs = torch.stack(
        [
            _costs(fitted, windows, *one, None if slope is None else slope[i])
            for i, one in enumerate(zip(inputs, target, contrast, before, strict=True))
        ]
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


def _blurred(inputs: Tensor, windows: _Windows) -> Tensor:
    """Return the mean of what surrounds each pixel of inputs ``(N, C, H, W)``, over as much as a window holds."""
    height, width = (side // 2 * 2 + 1 for side in (windows.height, windows.width))
    rim = (width // 2, width // 2, height // 2, height // 2)
    return F.avg_pool2d(F.avg_pool2d(F.pad(inputs, rim, mode="reflect"), (1, width), 1), (height, 1), 1)


def _costs(
    fitted: Fitted,
    windows: _Windows,
    image: Tensor,
    target: Tensor,
    contrast: Tensor,
    before: Tensor,
    slope: Tensor | None,
) -> Tensor:
    """Return what filling each window costs the score of an image ``(C, H, W)``, ``(W,)``; 0 where not tried.

    Without a slope of the score, as of classifiers without a gradient, all are tried.
    """
    filled, visible = _filled(image, windows)
    costs, tried = image.new_zeros(len(filled)), ~visible

    def ask(chosen: Tensor) -> None:
        fresh = (chosen & ~tried).nonzero()[:, 0]
        tried[fresh] = True
        if len(fresh):
            seen = in_pieces(fitted.classifier, _pasted(image, windows, fresh, filled))
            after = score_margin(seen, target.repeat(len(seen)), contrast.repeat(len(seen)))
            costs[fresh] = (before - after).to(costs.dtype)

    if slope is None:
        ask(visible)
        return costs
    every = torch.arange(len(filled))
    promised = ((windows.cut(image, every) - filled) * windows.cut(slope, every)).sum((1, 2, 3))
    order = promised.masked_fill(~visible, -torch.inf).argsort(descending=True, stable=True)
    enough = _LEAST * abs(float(before))
    # A slope overlooks what is evident: where the score is flat on the input, it promises nothing.
    first = windows.spread().to(image.device)
    first[order[:_PROMISING]] = True
    ask(first)
    if float(costs.amax()) <= enough:
        first[order[:_MORE]] = True
        ask(first)
    if float(costs.amax()) > enough:
        for _ in range(_ROUNDS):
            ask(windows.beside((costs > 0) & (costs >= _NEARLY * costs.amax())))
    return costs


def _filled(image: Tensor, windows: _Windows) -> tuple[Tensor, Tensor]:
    """Return what stands in each window of an image ``(C, H, W)`` once it is filled, ``(W, C, h, w)``, and where
    that changes anything, ``(W,)`` bool.

    Only the surroundings of a window are looked at: all of the image for each window would take most of the time.
    """
    every = torch.arange(len(windows.corners))
    crops = windows.cut(F.pad(image, (_RIM,) * 4), every, _RIM)
    known = windows.cut(F.pad(torch.ones_like(image[:1]), (_RIM,) * 4), every, _RIM)
    inside = (..., slice(_RIM, _RIM + windows.height), slice(_RIM, _RIM + windows.width))
    holes = torch.zeros_like(known, dtype=torch.bool)
    holes[inside] = True
    filled = continued(crops, holes, known)[inside]
    span = (image.amax() - image.amin()).clamp_min(1e-6)
    return filled, (filled - crops[inside]).abs().flatten(1).amax(1) > _VISIBLE * span


def _pasted(image: Tensor, windows: _Windows, which: Tensor, filled: Tensor) -> Tensor:
    """Return an image ``(C, H, W)`` with each of these windows ``(k,)`` filled on its own, ``(k, C, H, W)``."""
    tried = image.repeat(len(which), 1, 1, 1)
    for row, w in enumerate(which.tolist()):
        top, left = windows.corners[w]
        tried[row, :, top : top + windows.height, left : left + windows.width] = filled[w]
    return tried
