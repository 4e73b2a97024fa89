"""Frechet distance between images in the features of an independent ten-class classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def features(net: nn.Sequential, images: Tensor) -> Tensor:
    """Return what the last linear layer of a network sees, ``(n, width)``."""
    return torch.cat([net[:-1](part) for part in images.split(256)])


def frechet(first: Tensor, second: Tensor) -> float:
    """Return the Frechet distance between Gaussians fitted to features ``(n, d)`` and ``(m, d)``, n, m >> d."""
    first, second = first.double(), second.double()
    a, b = first.T.cov(), second.T.cov()
    # The trace of the root of a b is that of the symmetric root(a) b root(a).
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b @ root).clamp_min(0).sqrt().sum()
    means = (first.mean(0) - second.mean(0)).square().sum()
    return float(means + a.trace() + b.trace() - 2 * cross)
