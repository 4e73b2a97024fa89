"""Attributions as one number per pixel, and their order."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.errors import DataError

__all__ = ["pixel_maps", "removal_order"]


def pixel_maps(attributions: Tensor) -> Tensor:
    """Return attributions ``(N, *S)`` summed over their channels, as rows ``(N, P)`` of pixels.

    Raises:
        DataError: no batch, or values that are not finite.

    >>> import torch
    >>> pixel_maps(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 16])
    """
    if attributions.dim() < 2 or not len(attributions) or not bool(attributions.isfinite().all()):
        raise DataError(
            "metrics: attributions cannot be judged",
            given=f"shape {tuple(attributions.shape)}",
            allowed="finite numbers (N, *S), N >= 1",
        )
    summed = attributions.sum(1) if attributions.dim() > 2 else attributions
    return summed.detach().flatten(1).double()


def removal_order(attributions: Tensor) -> Tensor:
    """Return the place ``(N, P)`` of each pixel when they go by attribution, the largest first.

    Pixels of equal attribution go in an order that is random but the same for every input, so that a map that says
    nothing does not take an image away from the top.
    """
    maps = pixel_maps(attributions)
    n_pixels = maps.shape[1]
    mixed = torch.randperm(n_pixels, generator=torch.Generator().manual_seed(0)).to(maps.device)
    order = mixed[maps[:, mixed].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(n_pixels, device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
