"""The network of a surrogate: convolutions over latents, pooled, and a linear read-out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xlens.contracts.backend import Spec

__all__ = ["SurrogateNetwork"]


class SurrogateNetwork(nn.Module):
    """Convolutional network from latents ``(N, c, h, w)`` to logits ``(N, K)``.

    Means and maxima over the grid are read out: evidence may be all over an image, or in one place.

    Args:
        spec: shape, statistics and classes of the latents.
        width: channels of the first convolution.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, width: int) -> None:
        super().__init__()
        std = spec.per_channel("std")
        self.register_buffer("mean", spec.per_channel("mean"))
        self.register_buffer("std", torch.where(std > 0, std, torch.ones_like(std)))
        self.layers = nn.Sequential(
            nn.Conv2d(spec.shape[0], width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(2 * width, 4 * width, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(4 * width, 4 * width, 3, padding=1),
            nn.GELU(),
        )
        self.hidden = nn.Sequential(nn.Linear(8 * width, 2 * width), nn.GELU())
        self.out = nn.Linear(2 * width, spec.num_classes)

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents ``(N, c, h, w)`` to logits ``(N, K)``."""
        maps = self.layers((latents - self.mean) / self.std).flatten(2)
        return self.out(self.hidden(torch.cat([maps.mean(2), maps.amax(2)], 1)))
