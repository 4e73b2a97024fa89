"""Lattices: patterns that repeat from cell to cell, which decoders leave where an image is even."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.errors import DataError

__all__ = ["lattice_energy"]


def lattice_energy(images: Tensor, period: int, flat: Tensor | None = None, cells: int = 3) -> Tensor:
    """Spectral energy of images ``(N, C, H, W)`` at the frequencies of a lattice, where they are flattest ``(N,)``.

    Windows of a few cells a side are looked at, the flattest eighth of all. The power of the frequencies k / period
    is added up, but for that of the mean.

    Args:
        images: the images.
        period: pixels from one cell to the next.
        flat: ``(N, C, H, W)`` decides where it is flat; the images themselves where it is None. A reconstruction is
            looked at where its input is flat.
        cells: cells a side of a window.

    Raises:
        DataError: the images are smaller than one window.

    >>> import torch
    >>> from xlens.metrics import lattice_energy
    >>> even, dotted = torch.zeros(1, 1, 24, 24), torch.zeros(1, 1, 24, 24)
    >>> dotted[..., ::4, ::4] = 1
    >>> lattice_energy(even, 4).item(), round(lattice_energy(dotted, 4).item(), 4)
    (0.0, 0.0586)
    """
    side = period * cells
    if period < 2 or min(images.shape[2:]) < side:
        raise DataError(
            "lattice_energy: the images are smaller than a few cells",
            given=f"shape {tuple(images.shape)} and a period of {period}",
            allowed=f"sides of at least {side} pixels, and a period of at least 2",
        )
    windows, judged = _windows(images, side), _windows(images if flat is None else flat, side)
    variance = judged.var((2, 3, 4), correction=0)
    chosen = variance.topk(max(1, windows.shape[1] // 8), largest=False).indices
    rows = torch.arange(len(windows), device=windows.device)[:, None]
    some = windows[rows, chosen].double()
    power = torch.fft.fft2(some - some.mean((-2, -1), keepdim=True)).abs().square() / side**4
    ours = torch.arange(period, device=images.device) * cells
    found = power[..., ours[:, None], ours]
    return found.sum((-2, -1)).mean((1, 2))


def _windows(images: Tensor, side: int) -> Tensor:
    """Return windows ``(N, M, C, side, side)`` side by side."""
    n, channels = images.shape[:2]
    found = F.unfold(images, side, stride=side)
    return found.view(n, channels, side, side, -1).permute(0, 4, 1, 2, 3)
