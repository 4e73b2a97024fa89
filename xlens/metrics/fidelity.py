"""How well a lens reproduces an input, and how smoothly its path goes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["monotone_share", "ssim"]


def ssim(first: Tensor, second: Tensor, data_range: float) -> Tensor:
    """Structural similarity (SSIM) of each pair, ``(N,)``, at most 1.

    Images ``(N, C, H, W)`` are compared in all uniform windows of up to 7x7 pixels that lie inside; anything else
    over its whole extent at once.

    Args:
        first, second: ``(N, *S)``.
        data_range: largest minus smallest possible value.

    References:
        Wang, Bovik, Sheikh, Simoncelli (2004), Image Quality Assessment: From Error Visibility to
        Structural Similarity.

    >>> import torch
    >>> image = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    >>> ssim(image, image, 1.0)
    tensor([1., 1.])
    """
    first, second = first.double(), second.double()
    if first.dim() != 4:
        return _global_ssim(first.flatten(1), second.flatten(1), data_range)
    smallest = min(first.shape[-2:])
    window = min(7, smallest - 1 + smallest % 2)

    def local(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, window, stride=1)

    a, b = local(first), local(second)
    # Centred first, because a large offset would cancel the digits of a small variance.
    u, v = first - first.mean((2, 3), keepdim=True), second - second.mean((2, 3), keepdim=True)
    mean_u, mean_v = local(u), local(v)
    covariance = local(u * v) - mean_u * mean_v
    spread = (local(u * u) - mean_u**2 + local(v * v) - mean_v**2).clamp_min(0)
    return _similarity(a, b, covariance, spread, data_range).flatten(1).mean(1).float()


def monotone_share(path_scores: Tensor, slack: float = 0.01) -> Tensor:
    """Monotonicity: share of a path's steps on which the score does not fall, ``(N,)``.

    Args:
        path_scores: ``(N, T)`` from counterfactual to input.
        slack: fall, relative to the path's range, that does not count.

    >>> import torch
    >>> monotone_share(torch.tensor([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]]))
    tensor([1.0000, 0.5000])
    """
    steps = path_scores.diff(dim=1)
    allowed = slack * (path_scores.amax(1) - path_scores.amin(1)).unsqueeze(1)
    return (steps >= -allowed).float().mean(1)


def _global_ssim(first: Tensor, second: Tensor, data_range: float) -> Tensor:
    a, b = first.mean(1), second.mean(1)
    covariance = ((first - a[:, None]) * (second - b[:, None])).mean(1)
    spread = first.var(1, correction=0) + second.var(1, correction=0)
    return _similarity(a, b, covariance, spread, data_range).float()


def _similarity(a: Tensor, b: Tensor, covariance: Tensor, spread: Tensor, data_range: float) -> Tensor:
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return (2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (spread + c2))
