"""One and the same thing: whether parts of several inputs show one picture, which others do not have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Template", "best_match", "template_of"]

#: Share of a template's pixels that count: those that are most alike, as a box around a thing holds more than it.
_CORE = 1 / 3
#: A pixel belongs to the thing where inputs vary by less than this share of what sets them apart from others.
_BELONGS = 0.5
_ROUNDS = 2
#: Share of a group that is taken to belong to it.
_BELONG = 0.9
_SHUFFLES = 499
#: The least distance that is still a match, for things that are alike to the last bit.
_LEAST = 1e-6


@dataclass(frozen=True)
class Template:
    """What the parts of a group have in common.

    Args:
        picture: ``(C, h, w)`` in the data's own units.
        core: ``(1, h, w)`` 1 where it counts.
        extent: ``(1, h, w)`` bool, what belongs to the thing.
        sameness: 1 less the variance among the group's inputs as share of the difference to others; 1 for a stamp,
            at most 0 where there is no one thing.
        p: that a difference as large comes about by chance, by shuffling who is in the group.
        place: row and column of the usual centre, from 0 to 1.
        reach: how far from there it is looked for, in pixels, down and right.
        within: the largest distance to the template that is still a match.
        others: share of the inputs decided otherwise that match, too.
    """

    picture: Tensor
    core: Tensor
    extent: Tensor
    sameness: float
    p: float
    place: tuple[float, float]
    reach: tuple[int, int]
    within: float
    others: float


def template_of(group: Tensor, centres: Tensor, others: Tensor, size: tuple[int, int], seed: int) -> Template:
    """Align the parts of a group, and compare them with the same places of others.

    Args:
        group: ``(N, C, H, W)`` inputs.
        centres: ``(N, 2)`` row and column of the part in each, from 0 to 1.
        others: ``(M, C, H, W)`` inputs that are not in the group.
        size: height and width of the part in pixels.
        seed: shuffles.
    """
    sides = torch.tensor(group.shape[2:])
    size = (min(size[0], int(sides[0])), min(size[1], int(sides[1])))
    corners = (centres * sides - torch.tensor(size) / 2).round().long()
    corners = torch.minimum(corners.clamp_min(0), sides - torch.tensor(size))
    crops = _crops(group, corners, size)
    apart = ((crops[:, None] - crops[None]) ** 2).flatten(2).mean(2)
    picture, core = crops[apart.median(1).values.argmin()], torch.ones(1, *size)
    near = (max(1, size[0] // 2), max(1, size[1] // 2))
    for _ in range(_ROUNDS):
        matched, distance = best_match(group, picture, core, corners, near)
        crops = _crops(group, matched, size)
        picture = crops.median(0).values
    usual = corners.median(0).values
    spread = (corners - usual).abs().float().quantile(0.95, 0).ceil().long() + torch.tensor(near)
    reach = int(spread[0]), int(spread[1])
    # Some of a group are in it by mistake, and one that lacks the thing varies more than all others.
    crops = crops[distance <= distance.quantile(_BELONG)]
    elsewhere, _ = best_match(others, picture, core, usual.expand(len(others), 2), reach)
    control = _crops(others, elsewhere, size)
    core, sameness = _core(crops, control)
    _, distance = best_match(group, picture, core, usual.expand(len(group), 2), reach)
    within = max(2 * float(distance.quantile(_BELONG)), _LEAST)
    _, besides = best_match(others, picture, core, usual.expand(len(others), 2), reach)
    middle = (usual + torch.tensor(size) / 2) / sides
    return Template(
        picture,
        core,
        _extent(crops, control) | core.bool(),
        sameness,
        _by_chance(crops, control, sameness, seed),
        (float(middle[0]), float(middle[1])),
        reach,
        within,
        float((besides <= within).float().mean()),
    )


def best_match(
    inputs: Tensor, picture: Tensor, core: Tensor, corners: Tensor, reach: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return where a picture fits best, top and left ``(N, 2)``, and its mean squared distance there ``(N,)``.

    Args:
        inputs: ``(N, C, H, W)``.
        picture, core: ``(C, h, w)`` and where it counts ``(1, h, w)``.
        corners: ``(N, 2)`` top and left around which it is looked for.
        reach: how far from there, in pixels.
    """
    weight = core.expand_as(picture)
    # (x - t)^2 summed over the core at every place, as two convolutions.
    own = F.conv2d(inputs**2, weight[None]) - 2 * F.conv2d(inputs, (weight * picture)[None])
    distances = (own[:, 0] + (weight * picture**2).sum()) / weight.sum()
    height, width = distances.shape[1:]
    rows, columns = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    far = ((rows - corners[:, 0, None, None]).abs() > reach[0]) | (
        (columns - corners[:, 1, None, None]).abs() > reach[1]
    )
    found = distances.masked_fill(far, torch.inf).flatten(1).min(1)
    return torch.stack([found.indices // width, found.indices % width], 1), found.values.clamp_min(0)


def _crops(inputs: Tensor, corners: Tensor, size: tuple[int, int]) -> Tensor:
    pairs = zip(inputs, corners.tolist(), strict=True)
    return torch.stack([one[:, top : top + size[0], left : left + size[1]] for one, (top, left) in pairs])


def _core(crops: Tensor, control: Tensor) -> tuple[Tensor, float]:
    """Return the third of the pixels that are most alike and most unlike others, and how much so they are.

    The pixels are chosen by one half of the crops and judged by the other: the best of many would look good anyway.
    """
    varies, differs = _varies(crops[::2], control[::2])
    ratio = varies / differs.clamp_min(1e-9)
    kept = ratio.flatten().argsort()[: max(1, round(_CORE * ratio.numel()))]
    varies, differs = (values.flatten()[kept].sum() for values in _varies(crops[1::2], control[1::2]))
    core = torch.zeros(ratio.numel())
    core[kept] = 1
    return core.view(1, *ratio.shape), 1 - float(varies) / max(float(differs), 1e-9)


def _extent(crops: Tensor, control: Tensor) -> Tensor:
    varies, differs = _varies(crops, control)
    return (varies < _BELONGS * differs)[None]


def _varies(crops: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance of each pixel ``(h, w)``, and its squared difference to others beyond chance."""
    own, other = crops.var(0), control.var(0)
    chance = own / len(crops) + other / len(control)
    return own.sum(0), ((crops.mean(0) - control.mean(0)) ** 2 - chance).sum(0)


def _by_chance(crops: Tensor, control: Tensor, sameness: float, seed: int) -> float:
    both, n = torch.cat([crops, control]), len(crops)
    draw = np.random.default_rng(seed)
    as_much = 0
    for _ in range(_SHUFFLES):
        order = torch.from_numpy(draw.permutation(len(both)))
        as_much += _core(both[order[:n]], both[order[n:]])[1] >= sameness
    return (1 + as_much) / (1 + _SHUFFLES)
