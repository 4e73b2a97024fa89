"""What the flow works on: a layer's activations or another lens's codes, standardised, and narrow enough."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Space"]

#: A unit that varies less than this, relative to the one that varies most, is left as it is.
_DEAD = 1e-6
#: Components that are looked for beside those that are wanted.
_SPARE = 16


class Space(nn.Module):
    """Standardised coordinates y of activations h, and what they leave out, so that the way back is exact.

    Up to `most` dimensions, y is h with each unit standardised. Wider ones are turned onto their principal
    components, and what these leave of h is kept beside them, unchanged.

    Args:
        shape: of one h.
        most: largest width of y.
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor

    def __init__(self, shape: tuple[int, ...], most: int) -> None:
        super().__init__()
        self.shape, size = tuple(shape), math.prod(shape)
        self.wide = size > most
        self.width = most if self.wide else size
        kind: dict[str, Any] = {"dtype": torch.float64}
        self.register_buffer("mean", torch.zeros(size, **kind))
        self.register_buffer("scale", torch.ones(self.width, **kind))
        self.register_buffer("basis", torch.eye(size, most, **kind) if self.wide else torch.zeros(0, **kind))

    @property
    def kept(self) -> int:
        """How many numbers are kept beside y."""
        return len(self.mean) if self.wide else 0

    def settle(self, activations: Tensor) -> None:
        """Take mean, components and scales from activations ``(n, *A)``."""
        flat = activations.flatten(1).double()
        self.mean.copy_(flat.mean(0))
        centred = flat - self.mean
        if self.wide:
            # More than are wanted, of which the last are the inexact ones.
            _, _, found = torch.svd_lowrank(centred, min(self.width + _SPARE, *centred.shape), niter=6)
            # Components that the sample is too small to show stay what they are, perpendicular to the others.
            full = torch.cat([found[:, : self.width], self.basis], 1)
            self.basis.copy_(torch.linalg.qr(full).Q[:, : self.width])
            centred = centred @ self.basis
        spread = centred.std(0, correction=0)
        self.scale.copy_(torch.where(spread > _DEAD * spread.max(), spread, 1.0))

    def forward(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Map activations ``(N, *A)`` to y ``(N, width)`` and what is kept beside it ``(N, kept)``, in float64."""
        centred = activations.flatten(1).double() - self.mean
        if not self.wide:
            return centred / self.scale, centred[:, :0]
        main = centred @ self.basis
        return main / self.scale, centred - main @ self.basis.T

    def inverse(self, y: Tensor, rest: Tensor) -> Tensor:
        """Map y and what was kept back to activations ``(N, *A)``, in float64."""
        main = y * self.scale
        flat = main @ self.basis.T + rest if self.wide else main
        return (flat + self.mean).unflatten(1, self.shape)
