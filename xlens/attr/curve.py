"""Curves that begin at a counterfactual and end at an input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from xlens.nn.mask import clamped

__all__ = ["CarriedCurve", "Curve", "Decoded", "Polyline", "Segment", "broadcast"]


class Curve(Protocol):
    """A batch of N curves; each is asked for points at any position."""

    def __call__(self, rows: Tensor, alphas: Tensor) -> Tensor:
        """Return points ``(M, *S)``.

        Args:
            rows: ``(M,)`` which of the N curves.
            alphas: ``(M,)`` where on it: 0 is its beginning, 1 its end.
        """


@dataclass(frozen=True)
class Segment:
    """The straight line from `start` to `end`, each ``(N, *S)``."""

    start: Tensor
    end: Tensor

    def __call__(self, rows: Tensor, alphas: Tensor) -> Tensor:
        """Return points ``(M, *S)``."""
        return torch.lerp(self.start[rows], self.end[rows], broadcast(alphas, self.end))


@dataclass(frozen=True)
class Polyline:
    """Straight lines through T knots ``(N, T, *S)``, which lie at equal distances in alpha."""

    knots: Tensor

    def __call__(self, rows: Tensor, alphas: Tensor) -> Tensor:
        """Return points ``(M, *S)``."""
        pieces = self.knots.shape[1] - 1
        position = alphas * pieces
        index = position.detach().floor().long().clamp(0, pieces - 1)
        start, end = self.knots[rows, index], self.knots[rows, index + 1]
        return torch.lerp(start, end, broadcast(position - index, end))


@dataclass(frozen=True)
class Decoded:
    """What a generator makes of a curve in codes: G(z(a))."""

    codes: Curve
    decode: Callable[[Tensor], Tensor]

    def __call__(self, rows: Tensor, alphas: Tensor) -> Tensor:
        """Return points ``(M, *S)``."""
        return self.decode(self.codes(rows, alphas))


@dataclass(frozen=True)
class CarriedCurve:
    """The lens's path in codes, carried onto the real input.

    With z(a) a curve in codes from z0 to z, usually the straight one, and m the mask:

    - ``"masked"``: x(a) = x + m [G(z(a)) - G(z) + (1 - a)(G(z) - x)]
    - ``"residual"``: x(a) = x + G(z(a)) - G(z)
    - ``"none"``: x(a) = G(z(a))

    The first two are clamped to the range of the data (or of the input, where that is wider), and end at x.

    Args:
        inputs: ``(N, *S)`` x.
        codes: z(a).
        reconstruction: ``(N, *S)`` G(z).
        decode: G.
        carry: which of the three.
        mask: ``(N, 1, *spatial)`` for ``"masked"``.
        minimum, maximum: range of the data, broadcast over ``(N, *S)``.
    """

    inputs: Tensor
    codes: Curve
    reconstruction: Tensor
    decode: Callable[[Tensor], Tensor]
    carry: Literal["masked", "residual", "none"]
    mask: Tensor | None
    minimum: Tensor
    maximum: Tensor

    def __call__(self, rows: Tensor, alphas: Tensor) -> Tensor:
        """Return points ``(M, *S)``."""
        decoded = self.decode(self.codes(rows, alphas))
        if self.carry == "none":
            return decoded
        inputs, reconstruction = self.inputs[rows], self.reconstruction[rows]
        alphas = broadcast(alphas, inputs)
        change = decoded - reconstruction
        if self.mask is not None:
            change = self.mask[rows] * (change + (1 - alphas) * (reconstruction - inputs))
        carried = clamped(inputs + change, inputs, self.minimum, self.maximum)
        # At the end it is x exactly, whatever a decoder's rounding makes of the same code twice; the curve's
        # velocity there stays what it is.
        return torch.where(alphas == 1, carried - carried.detach() + inputs, carried)


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """Shape ``(M,)`` as ``(M, 1, ...)`` with the dimensions and dtype of `like`."""
    return values.to(like.dtype).view(-1, *([1] * (like.dim() - 1)))
