"""Foreign colours: whether a part shows colours that hardly any input decided otherwise has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.auditing.chance import more_than_chance

__all__ = ["foreign"]

#: Steps into which the range of each channel is divided.
_STEPS = 16
#: Colours and their neighbours are known that more than this share of others have; a few of these, decided
#: wrongly, may have the thing as well.
_RARE = 0.1
#: Places elsewhere in the same input with which a part is compared.
_PLACES = 4


def foreign(
    inputs: Tensor,
    corners: Tensor,
    others: Tensor,
    size: tuple[int, int],
    ranges: Sequence[tuple[float, float]],
    seed: int,
) -> tuple[float, float]:
    """Share of the pixels of parts whose colour hardly any others have, and how likely that is at any place.

    Args:
        inputs: ``(N, C, H, W)``.
        corners: ``(N, 2)`` top and left of the part in each.
        others: ``(M, C, H, W)``.
        size: height and width of the part in pixels.
        ranges: of each channel, in the data's own units.
        seed: draws places elsewhere.

    Returns:
        the mean share, from 0 to 1; and p, by Wilcoxon's signed rank test against places elsewhere in the same
        inputs. Of images with other than three channels, of which nothing is known as colour: 0 and 1.

    >>> import torch
    >>> from xlens.auditing.foreign import foreign
    >>> grey = torch.full((8, 3, 12, 12), 0.5)
    >>> red = grey.clone()
    >>> red[:, :, 2:4, 2:4] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    >>> foreign(red, torch.full((8, 2), 2), grey, (2, 2), [(0.0, 1.0)] * 3, 0)[0]
    1.0
    """
    if inputs.shape[1] != 3:
        return 0.0, 1.0
    known = _known(_binned(others, ranges).flatten(1))
    unknown = ~known[_binned(inputs, ranges)]
    own = _shares(unknown, corners, size)
    draw = np.random.default_rng(seed)
    last = np.array(inputs.shape[2:]) - np.array(size)
    elsewhere = [
        _shares(unknown, torch.from_numpy(draw.integers(0, last + 1, (len(inputs), 2))), size)
        for _ in range(_PLACES)
    ]
    more = (own - torch.stack(elsewhere).mean(0)).double().numpy()
    return float(own.mean()), more_than_chance(more)


def _binned(inputs: Tensor, ranges: Sequence[tuple[float, float]]) -> Tensor:
    """Return the number of each pixel's colour, ``(N, H, W)``."""
    number = torch.zeros_like(inputs[:, 0], dtype=torch.long)
    for channel, (low, high) in enumerate(ranges):
        step = ((inputs[:, channel] - low) / (high - low) * _STEPS).long().clamp(0, _STEPS - 1)
        number = number * _STEPS + step
    return number


def _known(numbers: Tensor) -> Tensor:
    """Return which colours many have, or are next to one that many have: ``(steps ** 3,)`` bool."""
    has = torch.zeros(len(numbers), _STEPS**3).scatter_(1, numbers, 1.0)
    occurs = (has.mean(0) > _RARE).float().view(1, 1, _STEPS, _STEPS, _STEPS)
    return F.max_pool3d(occurs, 3, stride=1, padding=1).flatten() > 0


def _shares(unknown: Tensor, corners: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the share of unknown colours in a box of each input, ``(N,)``."""
    pairs = zip(unknown, corners.tolist(), strict=True)
    return torch.stack(
        [one[top : top + size[0], left : left + size[1]].float().mean() for one, (top, left) in pairs]
    )
