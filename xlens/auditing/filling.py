"""Filling holes of images from what surrounds them, smoothly, and without a look at any classifier."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.data import as_inputs
from xlens.data.numbers import as_tensor
from xlens.errors import DataError
from xlens.files.plain import said

__all__ = ["as_images", "continued"]

#: Averages over the neighbours at each level, which take the blocks of the coarser one away.
_SWEEPS = 6


def as_images(who: str, data: Any, channels: int, sides: tuple[int, int] | None = None) -> Tensor:
    """Return images of so many channels as floats ``(N, C, H, W)``; one alone becomes a batch.

    Args:
        who: named in errors.
        data: as given.
        channels: so many they have.
        sides: their height and width; None for any.

    Raises:
        DataError: no images, or of other channels or sides.
    """
    allowed = f"a tensor or an array (N, {channels}, {', '.join(map(str, sides or 'HW'))})"
    try:
        images = as_tensor(data)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(
            f"{who}: these are no images",
            given=f"{type(data).__name__}: {said(fault)}",
            allowed=allowed,
            do="pass the images alone, without labels",
        ) from None
    wanted = (channels, *(sides or images.shape[-2:]))
    if images.dim() not in (3, 4) or tuple(images.shape[-3:]) != wanted:
        raise DataError(
            f"{who}: not the shape of the audit's images",
            given=tuple(images.shape),
            allowed=allowed,
            do="apply the preprocessing that the classifier was trained with",
        )
    return as_inputs(images, wanted)


def continued(inputs: Tensor, holes: Tensor, known: Tensor | None = None) -> Tensor:
    """Smooth continuation of images into holes, by pull-push.

    Args:
        inputs: ``(N, C, H, W)``.
        holes: ``(N, 1, H, W)`` bool; where an image is nothing but hole, its own mean stands.
        known: ``(N, 1, H, W)`` 1 where there is an image at all, else 0; None for everywhere.

    Returns:
        ``(N, C, H, W)``, outside of the holes the inputs exactly.

    References:
        Gortler et al. (1996), The Lumigraph.

    >>> import torch
    >>> from xlens.auditing.filling import continued
    >>> hole = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    >>> hole[..., 2:4, 2:4] = True
    >>> bool((continued(torch.ones(1, 1, 8, 8).masked_fill(hole, 9.0), hole) == 1).all())
    True
    """
    weight = (~holes).to(inputs.dtype) * (1 if known is None else known)
    mean = inputs.mean((2, 3), keepdim=True)
    smooth = _pulled(inputs * weight, weight, mean)
    return torch.where(holes, smooth, inputs)


def _pulled(values: Tensor, weight: Tensor, mean: Tensor) -> Tensor:
    """Return values ``(N, C, H, W)``, already weighted, with what has no weight taken from a coarser level."""
    height, width = values.shape[2:]
    if min(height, width) <= 1:
        return torch.where(weight > 0, values / weight.clamp_min(1e-6), mean.expand_as(values))
    coarse = _pulled(_halved(values), _halved(weight), mean)
    below = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    own = values / weight.clamp_min(1e-6)
    found = weight * own + (1 - weight) * below
    for _ in range(_SWEEPS):
        near = F.avg_pool2d(F.pad(found, (1, 1, 1, 1), mode="replicate"), 3, 1)
        found = weight * own + (1 - weight) * near
    return found


def _halved(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)
