"""What an independent ten-class classifier sees of images, for Frechet distances."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def features(net: nn.Sequential, images: Tensor) -> Tensor:
    """Return what the last linear layer of a network sees, ``(n, width)``."""
    return torch.cat([net[:-1](part) for part in images.split(256)])
