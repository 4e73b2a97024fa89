"""Planar flows that are inverted numerically."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PlanarFlow"]

#: k = w.u stays this far above -1, where a layer would fold space.
_LEAST_SLOPE = 0.05
#: Halvings of the interval that holds the root, and Newton steps after them; together exact to rounding.
_HALVINGS, _NEWTON = 24, 4


class PlanarFlow(nn.Module):
    """T layers z + u tanh(w.z + b), each invertible, with their inverse.

    The correction of u that keeps a layer invertible divides by |w|^2, and k = w.u is held above -0.95, so that no
    layer stretches by more than 20 on the way back.

    Args:
        width: dimensions d.
        layers: number of layers T.

    References:
        Rezende, Mohamed (2015), Variational Inference with Normalizing Flows, section 4 and appendix A.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(layers, width) / width**0.5)
        self.u = nn.Parameter(0.1 * torch.randn(layers, width))
        self.b = nn.Parameter(torch.zeros(layers))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Map points ``(N, d)`` to their images, and log|det| of the Jacobian ``(N,)``."""
        total = points.new_zeros(len(points))
        for w, u, b in self._layers():
            bent = torch.tanh(points @ w + b)
            points = points + bent.unsqueeze(1) * u
            total = total + torch.log1p((w @ u) * (1 - bent.square()))
        return points, total

    def inverse(self, images: Tensor) -> Tensor:
        """Map images ``(N, d)`` back to points; gradients flow."""
        for w, u, b in reversed(self._layers()):
            root = _root(w @ u, images @ w + b)
            images = images - torch.tanh(root).unsqueeze(1) * u
        return images

    def _layers(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        inner = (self.w * self.u).sum(1, keepdim=True)
        wanted = F.softplus(inner) - 1 + _LEAST_SLOPE
        corrected = self.u + (wanted - inner) * self.w / self.w.square().sum(1, keepdim=True).clamp_min(1e-12)
        return list(zip(self.w, corrected, self.b, strict=True))


def _root(k: Tensor, c: Tensor) -> Tensor:
    """Return a with a + k tanh(a) = c, for c ``(N,)`` and one k > -1."""
    with torch.no_grad():
        low, high = c - k.abs(), c + k.abs()
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = middle + k * torch.tanh(middle) > c
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        root = (low + high) / 2
        for _ in range(_NEWTON - 1):
            root = (root - _newton(root, k, c)).clamp(c - k.abs(), c + k.abs())
    # The last step is part of the graph: its derivative at the root is that of the implicit function.
    return root - _newton(root, k, c)


def _newton(root: Tensor, k: Tensor, c: Tensor) -> Tensor:
    bent = torch.tanh(root)
    return (root + k * bent - c) / (1 + k * (1 - bent.square()))
