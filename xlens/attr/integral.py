"""The true line integral of a score's gradient along a curve, refined until it is complete."""

from __future__ import annotations

from collections.abc import Callable

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
    f(x(a_k + h/2)). The sum of the attributions is f(x(1)) - f(x(0)) up to the quadrature error. Segments
    whose own error exceeds their share of the tolerance are halved, up to eight times.

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
    rows = torch.arange(n, device=device).repeat_interleave(n_steps)
    edges = torch.linspace(0, 1, n_steps + 1, device=device, dtype=torch.float64)
    low, high = edges[:-1].repeat(n), edges[1:].repeat(n)
    ends = torch.arange(n, device=device)
    first = evaluate.scores(ends, torch.zeros(n, device=device, dtype=torch.float64))
    last = evaluate.scores(ends, torch.ones(n, device=device, dtype=torch.float64))
    difference = last - first
    # A curve along which the score hardly changes is held to an absolute error.
    allowed = tolerance * difference.abs().clamp_min(1e-3)
    total: Tensor | None = None
    for depth in range(_DEEPEST + 1):
        keep_all = depth == _DEEPEST
        total, refused = evaluate.add(total, n, rows, low, high, None if keep_all else allowed)
        if not bool(refused.any()):
            break
        rows, low, high = rows[refused], low[refused], high[refused]
        middle = (low + high) / 2
        rows, low, high = rows.repeat(2), torch.cat([low, middle]), torch.cat([middle, high])
    delta = total.flatten(1).sum(1) - difference
    return total.to(evaluate.dtype), delta


class _Evaluator:
    """Evaluates segments in batches that fit, and adds those that are good enough."""

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

    def add(
        self, total: Tensor | None, n: int, rows: Tensor, low: Tensor, high: Tensor, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Add the contributions of these segments to `total`.

        Args:
            allowed: ``(N,)`` tolerated error of a whole curve; None accepts every segment.

        Returns:
            the new total and which segments were refused for being too inexact.
        """
        refused = []
        for r, a, b in zip(
            rows.split(self.batch), low.split(self.batch), high.split(self.batch), strict=True
        ):
            contribution, error = self._contribution(r, a, b)
            bad = torch.zeros_like(r, dtype=torch.bool)
            if allowed is not None:
                bad = error.abs() > allowed[r] * (b - a)
            if total is None:
                total = torch.zeros(n, *contribution.shape[1:], dtype=torch.float64, device=r.device)
            total.index_add_(0, r[~bad], contribution[~bad])
            refused.append(bad)
        return total, torch.cat(refused)

    def _contribution(self, rows: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            start, end = self.curve(rows, low), self.curve(rows, high)
            points = self.curve(rows, (low + high) / 2)
            rise = self.score(end, rows).double() - self.score(start, rows).double()
        self.dtype = points.dtype
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.score(points, rows).sum(), points)
        contribution = (end.double() - start.double()) * gradient.double()
        return contribution, contribution.flatten(1).sum(1) - rise
