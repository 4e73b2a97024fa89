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
    """Straight lines through T knots.

    Args:
        knots: ``(N, T, *S)``.
        at: ``(N, T)`` the alpha of each, from 0 to 1 and never less than the one before it; two knots at one alpha
            are the same point. None: at equal distances.
    """

    knots: Tensor
    at: Tensor | None = None

    def __call__(self, rows: Tensor, alphas: Tensor) -> Tensor:
        """Return points ``(M, *S)``."""
        pieces = self.knots.shape[1] - 1
        if self.at is None:
            position = alphas * pieces
            index = position.detach().floor().long().clamp(0, pieces - 1)
            inside = position - index
        else:
            at = self.at[rows].to(alphas.dtype)
            found = torch.searchsorted(at, alphas.detach().unsqueeze(1).contiguous(), right=True)
            index = (found.squeeze(1) - 1).clamp(0, pieces - 1)
            low, high = (at.gather(1, (index + one).unsqueeze(1)).squeeze(1) for one in (0, 1))
            inside = torch.where(high > low, (alphas - low) / torch.where(high > low, high - low, 1), 1)
        start, end = self.knots[rows, index], self.knots[rows, index + 1]
        return torch.lerp(start, end, broadcast(inside, end))


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
