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

    def forward(self, points: Tensor, change: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map points ``(N, d)`` to their images, and log|det| of the Jacobian ``(N,)``.

        Args:
            points: ``(N, d)``.
            change: ``(N, T, 2d + 1)`` what is added to w, u and b for each point, whose flow is then its own.
        """
        total = points.new_zeros(len(points))
        for w, u, b in self._layers(change):
            bent = torch.tanh(_dot(points, w) + b)
            points = points + bent.unsqueeze(1) * u
            total = total + torch.log1p(_dot(w, u) * (1 - bent.square()))
        return points, total

    def inverse(self, images: Tensor) -> Tensor:
        """Map images ``(N, d)`` back to points; gradients flow."""
        for w, u, b in reversed(self._layers()):
            root = _root(w @ u, images @ w + b)
            images = images - torch.tanh(root).unsqueeze(1) * u
        return images

    def _layers(self, change: Tensor | None = None) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return w, u and b of each layer: ``(d,)``, ``(d,)`` and ``()``; with changes of rows ``(N, ...)``."""
        w, u, b = self.w, self.u, self.b
        if change is not None:
            width = w.shape[1]
            of_w, of_u, of_b = change.transpose(0, 1).split([width, width, 1], 2)
            w, u, b = w.unsqueeze(1) + of_w, u.unsqueeze(1) + of_u, b.unsqueeze(1) + of_b.squeeze(2)
        inner = (w * u).sum(-1, keepdim=True)
        wanted = F.softplus(inner) - 1 + _LEAST_SLOPE
        corrected = u + (wanted - inner) * w / w.square().sum(-1, keepdim=True).clamp_min(1e-12)
        return list(zip(w, corrected, b, strict=True))


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Return inner products with a vector ``(d,)``, or row by row."""
    return one @ other if other.dim() == 1 else (one * other).sum(1)


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
