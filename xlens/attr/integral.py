"""The true line integral of a score's gradient along a curve, refined until it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.attr.curve import Curve

__all__ = ["path_integral"]

#: A segment is halved at most this many times, which bounds the work at kinks of f.
_DEEPEST = 8


def path_integral(
    score: Callable[[Tensor, Tensor], Tensor],
    curve: Curve,
    n: int,
    *,
    device: torch.device,
    n_steps: int = 16,
    tolerance: float = 0.01,
    internal_batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Integrate the gradient of `score` along each of N curves.

    Each segment contributes its chord times the gradient at its middle, A_k = (x_{k+1} - x_k) * grad
    f(x(a_k + h/2)). The sum of the attributions is f(x(1)) - f(x(0)) up to the quadrature error. On curves
    where that exceeds the tolerance, the segments whose own error exceeds their share of it are halved,
    up to eight times.

    Args:
        score: maps points ``(M, *S)`` and their rows ``(M,)`` to scores ``(M,)``.
        curve: the curves.
        n: number of curves N.
        device: device of rows and positions.
        n_steps: segments to begin with.
        tolerance: largest error of the sum, relative to the score difference.
        internal_batch_size: points evaluated at once.

    Returns:
        attributions ``(N, *S)`` and the convergence delta ``(N,)``, their sum minus the score difference.

    >>> import torch
    >>> from xlens.attr import Segment, path_integral
    >>> line = Segment(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]))
    >>> a, delta = path_integral(lambda x, rows: x.square().sum(1), line, 1, device=torch.device("cpu"))
    >>> a.round(decimals=4)
    tensor([[1., 4.]])
    """
    evaluate = _Evaluator(score, curve, internal_batch_size)
    everyone = torch.arange(n, device=device)
    first = evaluate.scores(everyone, torch.zeros(n, device=device, dtype=torch.float64))
    last = evaluate.scores(everyone, torch.ones(n, device=device, dtype=torch.float64))
    difference = last - first
    # A curve along which the score hardly changes is held to an absolute error.
    allowed = tolerance * difference.abs().clamp_min(1e-3)
    edges = torch.linspace(0, 1, n_steps + 1, device=device, dtype=torch.float64)
    segments = _Segments(everyone.repeat_interleave(n_steps), edges[:-1].repeat(n), edges[1:].repeat(n))
    kept: _Sums | None = None
    for depth in range(_DEEPEST + 1):
        kept, pending, refused = evaluate.level(segments, n, allowed, kept)
        # A curve is done when its errors cancel, even where single segments are inexact.
        done = (kept.errors + pending.errors).abs() <= allowed
        if depth == _DEEPEST:
            done = torch.ones_like(done)
        kept.add(pending, done)
        segments = segments.where(refused & ~done[segments.rows])
        if not len(segments.rows):
            break
        segments = segments.halved()
    return kept.values.to(evaluate.dtype), kept.values.flatten(1).sum(1) - difference


@dataclass
class _Segments:
    """Pieces of curves: ``(M,)`` rows and where each piece begins and ends."""

    rows: Tensor
    low: Tensor
    high: Tensor

    def where(self, chosen: Tensor) -> _Segments:
        return _Segments(self.rows[chosen], self.low[chosen], self.high[chosen])

    def halved(self) -> _Segments:
        middle = (self.low + self.high) / 2
        return _Segments(self.rows.repeat(2), torch.cat([self.low, middle]), torch.cat([middle, self.high]))

    def split(self, size: int) -> Iterator[_Segments]:
        parts = zip(self.rows.split(size), self.low.split(size), self.high.split(size), strict=True)
        return (_Segments(*part) for part in parts)


@dataclass
class _Sums:
    """Sums over the segments of each curve: contributions ``(N, *S)`` and errors ``(N,)``."""

    values: Tensor
    errors: Tensor

    @classmethod
    def zero(cls, n: int, like: Tensor) -> _Sums:
        return cls(
            torch.zeros(n, *like.shape[1:], dtype=torch.float64, device=like.device),
            torch.zeros(n, dtype=torch.float64, device=like.device),
        )

    def count(self, rows: Tensor, values: Tensor, errors: Tensor, chosen: Tensor) -> None:
        self.values.index_add_(0, rows[chosen], values[chosen])
        self.errors.index_add_(0, rows[chosen], errors[chosen])

    def add(self, other: _Sums, rows: Tensor) -> None:
        self.values[rows] += other.values[rows]
        self.errors[rows] += other.errors[rows]


class _Evaluator:
    """Evaluates segments in batches that fit."""

    def __init__(self, score: Callable[[Tensor, Tensor], Tensor], curve: Curve, batch: int) -> None:
        self.score, self.curve, self.batch = score, curve, batch
        self.dtype = torch.float32

    def scores(self, rows: Tensor, alphas: Tensor) -> Tensor:
        """Return float64 scores at these positions."""
        with torch.no_grad():
            parts = [
                self.score(self.curve(r, a), r).double()
                for r, a in zip(rows.split(self.batch), alphas.split(self.batch), strict=True)
            ]
        return torch.cat(parts)

    def level(
        self, segments: _Segments, n: int, allowed: Tensor, kept: _Sums | None
    ) -> tuple[_Sums, _Sums, Tensor]:
        """Evaluate segments; add the exact ones to `kept` and the others to sums of their own.

        Args:
            segments: the pieces, of all curves.
            n: number of curves.
            allowed: ``(N,)`` tolerated error of a whole curve; a segment's share is its length.
            kept: what was exact before.

        Returns:
            kept, the sums over the inexact segments, and which segments are inexact.
        """
        pending: _Sums | None = None
        refused = []
        for part in segments.split(self.batch):
            values, errors = self._contribution(part)
            kept = kept or _Sums.zero(n, values)
            pending = pending or _Sums.zero(n, values)
            bad = errors.abs() > allowed[part.rows] * (part.high - part.low)
            kept.count(part.rows, values, errors, ~bad)
            pending.count(part.rows, values, errors, bad)
            refused.append(bad)
        return kept, pending, torch.cat(refused)

    def _contribution(self, segments: _Segments) -> tuple[Tensor, Tensor]:
        """Return what each segment contributes ``(M, *S)``, and its error ``(M,)``."""
        rows, m = segments.rows, len(segments.rows)
        both = torch.stack([rows.double().repeat(2), torch.cat([segments.low, segments.high])], 1)
        # Neighbouring segments share an edge, which is evaluated once.
        edges, position = torch.unique(both, dim=0, return_inverse=True)
        with torch.no_grad():
            at_edges = self.curve(edges[:, 0].long(), edges[:, 1])
            scores = self.score(at_edges, edges[:, 0].long()).double()
            points = self.curve(rows, (segments.low + segments.high) / 2)
        self.dtype = points.dtype
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.score(points, rows).sum(), points)
        start, end = position[:m], position[m:]
        contribution = (at_edges[end].double() - at_edges[start].double()) * gradient.double()
        return contribution, contribution.flatten(1).sum(1) - (scores[end] - scores[start])
