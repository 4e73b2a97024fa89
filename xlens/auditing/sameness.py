"""One and the same thing: whether parts of several inputs show one picture, which others do not have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Template", "best_match", "template_of"]

#: A thing is judged by the pixels that are most alike, which bear this share of what sets all of them apart from
#: others. Not by a share of the pixels: a box around a thing holds more than it, and rims that are black everywhere
#: are alike but set nothing apart.
_CORE = 0.5
#: A pixel belongs to the thing where inputs vary by less than this share of what sets them apart from others.
_BELONGS = 0.1
#: Share of a group that is taken to belong to it.
_BELONG = 0.8
#: Places that are drawn, and so many that are as much the same are enough to know that it is chance.
_ELSEWHERE, _ENOUGH = 199, 5
#: The least distance that is still a match, for things that are alike to the last bit.
_LEAST = 1e-6


@dataclass(frozen=True)
class Template:
    """What the parts of a group have in common.

    Args:
        picture: ``(C, h, w)`` in the data's own units.
        extent: ``(1, h, w)`` bool, what belongs to the thing; the box around it holds more.
        sameness: 1 less the variance among the group's inputs as share of the difference to others; 1 for a stamp,
            at most 0 where there is no one thing.
        p: that a place elsewhere in the same inputs, drawn by chance and put to the same test, is as much the same;
            1 where there is no one thing, or the part leaves no place elsewhere.
        place: row and column of the usual centre, from 0 to 1.
        reach: how far from there it is looked for, in pixels, down and right.
        within: the largest distance to the template that is still a match.
        others: share of the inputs decided otherwise that match, too.
        sides: height and width of the inputs.
    """

    picture: Tensor
    extent: Tensor
    sameness: float
    p: float
    place: tuple[float, float]
    reach: tuple[int, int]
    within: float
    others: float
    sides: tuple[int, int]


@dataclass(frozen=True)
class _Aligned:
    """A thing as one place shows it: fields as of a template; `usual` is its top and left in pixels."""

    picture: Tensor
    extent: Tensor
    sameness: float
    usual: Tensor
    reach: tuple[int, int]


def template_of(group: Tensor, centres: Tensor, others: Tensor, size: tuple[int, int], seed: int) -> Template:
    """Align the parts of a group, and compare them with the same places of others.

    Args:
        group: ``(N, C, H, W)`` inputs.
        centres: ``(N, 2)`` row and column of the part in each, from 0 to 1.
        others: ``(M, C, H, W)`` inputs that are not in the group.
        size: height and width of the part in pixels.
        seed: draws places elsewhere.
    """
    sides = torch.tensor(group.shape[2:])
    size = (min(size[0], int(sides[0])), min(size[1], int(sides[1])))
    corners = corners_of(centres, size, group)
    found = _aligned(group, corners, others, size)
    _, own = best_match(group, found.picture, found.extent, found.usual.expand(len(group), 2), found.reach)
    _, besides = best_match(others, found.picture, found.extent, found.usual.expand(len(others), 2), found.reach)
    # What is much nearer than others are is the thing, be it ever so exact in this group.
    within = max(2 * float(own.quantile(_BELONG)), _BELONGS * float(besides.median()), _LEAST)
    middle = (found.usual + torch.tensor(size) / 2) / sides
    return Template(
        found.picture,
        found.extent,
        found.sameness,
        _by_chance(group, corners, others, size, found, seed),
        (float(middle[0]), float(middle[1])),
        found.reach,
        within,
        float((besides <= within).float().mean()),
        (int(sides[0]), int(sides[1])),
    )


def corners_of(centres: Tensor, size: tuple[int, int], inputs: Tensor) -> Tensor:
    """Return the top left pixels of boxes, ``(..., 2)``, from their centres, moved so that they lie in the inputs.

    Args:
        centres: ``(..., 2)`` row and column of each box's middle, from 0 to 1.
        size: height and width of the boxes in pixels.
        inputs: ``(N, C, H, W)``.
    """
    sides, box = torch.tensor(inputs.shape[2:]), torch.tensor(size)
    corners = (centres * sides - box / 2).round().long()
    return torch.minimum(corners.clamp_min(0), (sides - box).clamp_min(0))


def best_match(
    inputs: Tensor, picture: Tensor, extent: Tensor, corners: Tensor, reach: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return where a picture fits best, top and left ``(N, 2)``, and its mean squared distance there ``(N,)``.

    Args:
        inputs: ``(N, C, H, W)``.
        picture, extent: ``(C, h, w)`` and where it counts ``(1, h, w)`` bool; everywhere if that is nowhere.
        corners: ``(N, 2)`` top and left around which it is looked for.
        reach: how far from there, in pixels.
    """
    weight = (extent if extent.any() else torch.ones_like(extent)).double()
    far, size = torch.tensor(reach), torch.tensor(picture.shape[1:])
    # No more of the inputs than the window that holds all places that are looked at.
    first = (corners.min(0).values - far).clamp_min(0)
    last = torch.minimum(corners.max(0).values + far + size, torch.tensor(inputs.shape[2:]))
    seen = inputs[:, :, first[0] : last[0], first[1] : last[1]]
    distances = _distances(seen.double(), picture.double(), weight)
    height, width = distances.shape[1:]
    rows = first[0] + torch.arange(height)[None, :, None]
    columns = first[1] + torch.arange(width)[None, None, :]
    outside = ((rows - corners[:, 0, None, None]).abs() > reach[0]) | (
        (columns - corners[:, 1, None, None]).abs() > reach[1]
    )
    found = distances.masked_fill(outside, torch.inf).flatten(1).min(1)
    places = torch.stack([found.indices // width, found.indices % width], 1)
    return first + places, found.values.clamp_min(0).to(inputs.dtype)


def _distances(inputs: Tensor, picture: Tensor, weight: Tensor) -> Tensor:
    """Return the mean squared distance to a picture, where it counts, at every place where it lies within inputs.

    The square is multiplied out, and its sums are taken in the frequency domain: in the pixels' own a picture of a
    quarter of the side takes seventy times as long.
    """
    sides, size = inputs.shape[2:], picture.shape[1:]
    forth = torch.fft.rfft2
    squares = forth((inputs**2).sum(1)) * forth(weight[0], s=sides).conj()
    products = (forth(inputs) * forth(weight * picture, s=sides).conj()).sum(1)
    sums = torch.fft.irfft2(squares - 2 * products, s=sides)
    sums = sums[:, : sides[0] - size[0] + 1, : sides[1] - size[1] + 1]
    return (sums + (weight * picture**2).sum()) / (weight.sum() * len(picture))


def _aligned(group: Tensor, corners: Tensor, others: Tensor, size: tuple[int, int]) -> _Aligned:
    crops = _crops(group, corners, size)
    apart = torch.cdist(crops.flatten(1), crops.flatten(1))
    picture, extent = crops[apart.median(1).values.argmin()], torch.ones(1, *size, dtype=torch.bool)
    near = (max(1, size[0] // 2), max(1, size[1] // 2))
    # First by all of the box, and then by what has turned out to belong to the thing.
    for _ in range(2):
        matched, distance = best_match(group, picture, extent, corners, near)
        crops = _crops(group, matched, size)
        picture, usual = crops.median(0).values, matched.median(0).values
        # Jitter has an end, and a group may not have seen it.
        spread = (matched - usual).abs().max(0).values + torch.tensor(near)
        reach = int(spread[0]), int(spread[1])
        # Some of a group are in it by mistake, and one that lacks the thing varies more than all others.
        crops = crops[distance <= distance.quantile(_BELONG)]
        elsewhere, _ = best_match(others, picture, extent, usual.expand(len(others), 2), reach)
        control = _crops(others, elsewhere, size)
        extent = _extent(crops, control) | _core(crops, control)
    return _Aligned(picture, extent, _sameness(crops, control), usual, reach)


def _crops(inputs: Tensor, corners: Tensor, size: tuple[int, int]) -> Tensor:
    pairs = zip(inputs, corners.tolist(), strict=True)
    return torch.stack([one[:, top : top + size[0], left : left + size[1]] for one, (top, left) in pairs])


def _sameness(crops: Tensor, control: Tensor) -> float:
    """Return 1 less the variance of the core as share of what sets it apart from others.

    Its pixels are chosen by one half of the crops and judged by the other, and the other way round: the best of
    many would look good anyway.
    """
    varied = apart = 0.0
    for half in (0, 1):
        core = _core(crops[half::2], control[half::2])[0]
        varies, differs = _varies(crops[1 - half :: 2], control[1 - half :: 2])
        varied, apart = varied + float(varies[core].sum()), apart + float(differs[core].sum())
    return 1 - varied / apart if apart > 0 else 0.0


def _core(crops: Tensor, control: Tensor) -> Tensor:
    """Return which pixels count ``(1, h, w)``; none, where nothing sets any apart."""
    varies, differs = (values.flatten() for values in _varies(crops, control))
    ratio = torch.where(differs > 0, varies / differs.clamp_min(1e-12), torch.inf)
    order = ratio.argsort()
    carried = differs.clamp_min(0)[order].cumsum(0)
    if carried[-1] <= 0:
        return torch.zeros(1, *crops.shape[2:], dtype=torch.bool)
    most = ratio[order[int((carried < _CORE * carried[-1]).sum())]]
    # All that are as steady, too: of a thing that is the same to the last bit, all of it.
    return ((ratio <= most) & (differs > 0)).view(1, *crops.shape[2:])


def _extent(crops: Tensor, control: Tensor) -> Tensor:
    varies, differs = _varies(crops, control)
    return (varies < _BELONGS * differs)[None]


def _varies(crops: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance of each pixel ``(h, w)``, and its squared difference to others beyond chance."""
    own, other = crops.var(0), control.var(0)
    chance = own / len(crops) + other / len(control)
    return own.sum(0), ((crops.mean(0) - control.mean(0)) ** 2 - chance).sum(0)


def _by_chance(
    group: Tensor, corners: Tensor, others: Tensor, size: tuple[int, int], found: _Aligned, seed: int
) -> float:
    """Return how often a place elsewhere in the same inputs is as much the same, drawn until that is known.

    References:
        Besag and Clifford (1991), Sequential Monte Carlo p-values.
    """
    last = torch.tensor(group.shape[2:]) - torch.tensor(size)
    places = torch.cartesian_prod(torch.arange(int(last[0]) + 1), torch.arange(int(last[1]) + 1))
    # So far away that the thing itself is not found again.
    away = torch.tensor(size) + torch.tensor(found.reach)
    places = places[((places - found.usual).abs() >= away).any(1)]
    if not len(places) or found.sameness <= 0:
        return 1.0
    about = corners - corners.median(0).values
    draw = np.random.default_rng(seed)
    as_much = 0
    for drawn in range(1, _ELSEWHERE + 1):
        moved = places[int(draw.integers(len(places)))] + about
        moved = torch.minimum(moved.clamp_min(0), last)
        as_much += _aligned(group, moved, others, size).sameness >= found.sameness
        if as_much == _ENOUGH:
            return _ENOUGH / drawn
    return (1 + as_much) / (1 + _ELSEWHERE)
