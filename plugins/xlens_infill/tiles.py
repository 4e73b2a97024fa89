"""Search by tiles: where does filling help, on this input alone?

For data whose classes the survey cannot tell apart, patch by patch, so that there is no map of what looks like
evidence; and of a label among others where the masks of that map do not turn it alone.
The input is cut into tiles of two sizes and two offsets. Tiles that touch at corners only are filled together, so
that eight fills give the filling of every tile. The gradient of the classifier's margin times what the fill would
change is summed by tile; the most promising tiles, alone and together, are put in, the classifier is asked, and
what gains most for its size stays. That goes on, in rounds, until the classifier is convinced.

References:
    Fong, Vedaldi (2017), Interpretable Explanations of Black Boxes by Meaningful Perturbation (deletion).
    Chang et al. (2019), Explaining Image Classifiers by Counterfactual Generation (FIDO).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

PARTS = (7, 14)  # tiles along the shorter side
OFFSETS = 2
ROUNDS = 12
SMALLEST = 4  # pixels of a tile's side
FILLED_AT_ONCE = 1 << 16  # values
ALONE, TOGETHER = 6, (2, 4, 8)  # of the most promising tiles, tried alone, and so many of them at once

Margin = Callable[[Tensor], Tensor]
Fill = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Tiling:
    """A cut of an input into tiles, and the input with each of them filled as if it alone were a hole."""

    names: Tensor  # (H, W) long, the tile of each pixel, counted on from one tiling to the next
    filled: Tensor  # (C, H, W)


@torch.no_grad()
def tilings(x: Tensor, fill: Fill, within: Tensor) -> tuple[list[Tiling], int]:
    """Return several cuts of one input ``(1, C, H, W)``, and how many tiles they have together."""
    height, width = x.shape[-2:]
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    cuts: list[Tensor] = []
    holes: list[Tensor] = []
    number = 0
    for parts in PARTS:
        side = max(SMALLEST, round(min(height, width) / parts))
        for offset in range(OFFSETS):
            row, column = ((at + offset * side // OFFSETS) // side for at in (rows, columns))
            cuts.append(number + row[:, None] * (int(column.max()) + 1) + column)
            number = int(cuts[-1].max()) + 1
            # As on a chess board: what is filled at once touches at corners only.
            holes += [((row[:, None] + column) % 2 == colour)[None] & within[0] for colour in (0, 1)]
    # Of small images together: the calls take longer than what they compute. Large ones leave the caches so.
    together = torch.stack(holes).split(max(1, FILLED_AT_ONCE // x.numel()))
    all_filled = torch.cat(
        [fill(x.expand(len(some), -1, -1, -1), some, within.expand(len(some), -1, -1, -1)) for some in together]
    )
    out = [
        Tiling(names, torch.where(holes[2 * n + 1], all_filled[2 * n + 1], all_filled[2 * n]))
        for n, names in enumerate(cuts)
    ]
    return out, number


def searched(
    margin: Margin,
    x: Tensor,
    fill: Fill,
    within: Tensor,
    goal: float,
    largest: float,
    cuts: tuple[list[Tiling], int] | None = None,
) -> tuple[Tensor, Tensor, float]:
    """Return the mask ``(1, 1, H, W)`` of tiles whose filling lifts the margin most, the input filled there, and
    its margin.

    Args:
        margin: of the contrast class over all others, of inputs ``(N, C, H, W)``.
        x: ``(1, C, H, W)``.
        fill: fills a hole of an image from the pixels that a third argument allows.
        within: ``(1, 1, H, W)`` bool, the object.
        goal: the margin at which the search ends.
        largest: share of the object at which it ends too.
        cuts: `tilings` of x by this fill, where they are known.

    Where x has the margin already nothing is filled.
    """
    tiles, number = tilings(x, fill, within) if cuts is None else cuts
    now, mask, reached = x, torch.zeros_like(within), -torch.inf
    for _ in range(ROUNDS):
        # The pass that has the gradient says what the margin is, too.
        slope, reached = _slope(margin, now)
        if reached >= goal and reached > 0:
            break
        asked = [_put(now, mask, tiles, chosen, number) for chosen in _promising(slope, now, tiles, number)]
        if not asked:
            break
        with torch.no_grad():
            seen = margin(torch.cat([points for points, _ in asked]))
        areas = torch.stack([(where & within).sum() for _, where in asked]).float()
        best = _best(seen - reached, areas - mask.sum(), seen >= goal)
        if float(seen[best]) <= reached:
            break
        now, mask, reached = asked[best][0], asked[best][1] & within, float(seen[best])
        # One hole has fewer seams than tiles that were filled one by one; but what it is filled from lies further.
        whole = fill(x, mask, within)
        with torch.no_grad():
            as_one = float(margin(whole))
        if as_one >= min(reached, goal):
            now, reached = whole, as_one
        if reached >= goal or int(mask.sum()) > largest * int(within.sum()):
            break
    return mask, now, reached


def _slope(margin: Margin, now: Tensor) -> tuple[Tensor, float]:
    points = now.detach().requires_grad_()
    with torch.enable_grad():
        reached = margin(points).sum()
        (slope,) = torch.autograd.grad(reached, points)
    return slope, float(reached.detach())


def _promising(slope: Tensor, now: Tensor, cuts: list[Tiling], number: int) -> list[Tensor]:
    """Return sets of tiles whose filling should raise the margin, to first order, most for their size."""
    gain, size = now.new_zeros(number), now.new_zeros(number)
    for cut in cuts:
        earned = (slope[0] * (cut.filled - now[0])).sum(0)
        gain.index_add_(0, cut.names.flatten(), earned.flatten())
        size.index_add_(0, cut.names.flatten(), torch.ones_like(earned).flatten())
    order = (gain / size.clamp(min=1).sqrt()).argsort(descending=True, stable=True)[: max(TOGETHER)]
    order = order[gain[order] > 0]
    alone = [order[i : i + 1] for i in range(min(ALONE, len(order)))]
    return alone + [order[:several] for several in TOGETHER if several <= len(order)]


def _put(now: Tensor, mask: Tensor, cuts: list[Tiling], tiles: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return the input with these tiles filled too, and where it is filled now."""
    wanted = torch.zeros(number, dtype=torch.bool, device=tiles.device)
    wanted[tiles] = True
    for cut in cuts:
        chosen = wanted[cut.names][None, None]
        now, mask = torch.where(chosen, cut.filled, now), mask | chosen
    return now, mask


def _best(gain: Tensor, area: Tensor, convinces: Tensor) -> int:
    """Return the smallest that convinces; while none does, the one that gains most for its size."""
    if bool(convinces.any()):
        return int(torch.where(convinces, area, torch.inf).argmin())
    return int((gain / area.clamp(min=1).sqrt()).argmax())
