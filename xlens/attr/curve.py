"""Curves that begin at a counterfactual and end at an input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Curve", "Decoded", "Polyline", "Segment", "broadcast"]


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
    """Decoded curve G(z(a)): what a generator makes of a curve in codes."""

    codes: Curve
    decode: Callable[[Tensor], Tensor]

    def __call__(self, rows: Tensor, alphas: Tensor) -> Tensor:
        """Return points ``(M, *S)``."""
        return self.decode(self.codes(rows, alphas))


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """Shape ``(M,)`` as ``(M, 1, ...)`` with the dimensions and dtype of `like`."""
    return values.to(like.dtype).view(-1, *([1] * (like.dim() - 1)))
