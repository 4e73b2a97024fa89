"""Sparse linear classifiers of the code: an L1 path of logistic regressions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["PENALTIES", "non_sparse", "sparse_path"]

#: Strengths of the L1 penalty (lambda), relative to the mean log loss.
PENALTIES = (0.0, 0.001, 0.01, 0.1)
_STEPS = 3000
_TOLERANCE = 1e-7
#: Rows that decide the weights; more only cost time.
_MOST_ROWS = 20000


@torch.no_grad()
def sparse_path(codes: Tensor, classes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Fit each class against the rest, at every strength of :data:`PENALTIES`.

    Minimises mean log loss + lambda |w|_1 by accelerated proximal gradient steps; the intercept is not penalised.
    Without a penalty, classes that a plane divides have no smallest loss, and the steps end by their number.

    Args:
        codes: ``(n, d)``.
        classes: ``(n,)``.
        num_classes: K; two classes share one plane.

    Returns:
        weights ``(L, K, d)`` and intercepts ``(L, K)``; the logit of a class is its weights' product with a code
        plus its intercept. A class that no row is of has weights of 0.
    """
    # At random: every second row of data in which two classes alternate is of one class.
    some = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))[:_MOST_ROWS].sort().values
    values = codes[some.to(codes.device)].double()
    wanted = F.one_hot(classes[some.to(classes.device)], num_classes).double()
    if num_classes == 2:
        wanted = wanted[:, 1:]
    found = [_fit(values, wanted, penalty) for penalty in PENALTIES]
    weights, intercepts = (torch.stack(parts) for parts in zip(*found, strict=True))
    # Nothing tells a class that no row, or every row, is of: what is left of its weights is rounding.
    weights[:, wanted.mean(0) % 1 == 0] = 0
    if num_classes == 2:
        weights = torch.cat([-weights, weights], 1)
        intercepts = torch.cat([-intercepts, intercepts], 1)
    return weights.to(codes.dtype), intercepts.to(codes.dtype)


def non_sparse(weights: Tensor) -> Tensor:
    """Return the share of weights ``(..., d)`` of at least a tenth of the largest; 0 where all are zero.

    >>> import torch
    >>> non_sparse(torch.tensor([[2.0, -0.3, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    tensor([0.5000, 0.0000])
    """
    size = weights.abs()
    large = (size >= 0.1 * size.amax(-1, keepdim=True)) & (size > 0)
    return large.to(weights.dtype).mean(-1)


def _fit(values: Tensor, wanted: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Return weights ``(R, d)`` and intercepts ``(R,)`` for R columns of answers at once."""
    # Centred, which changes nothing but the intercept, and makes the steps longer.
    centre = values.mean(0)
    centred = values - centre
    n, d = centred.shape
    rows = torch.cat([centred, centred.new_ones(n, 1)], 1)
    curvature = torch.linalg.eigvalsh(rows.T @ rows / n)[-1] / 4
    threshold = torch.full((d + 1,), penalty, dtype=values.dtype, device=values.device) / curvature
    threshold[-1] = 0
    point = values.new_zeros(wanted.shape[1], d + 1)
    ahead, momentum = point, 1.0
    for _ in range(_STEPS):
        gradient = ((rows @ ahead.T).sigmoid() - wanted).T @ rows / n
        moved = ahead - gradient / curvature
        moved = moved.sign() * (moved.abs() - threshold).clamp_min(0)
        # Momentum starts anew where it points uphill.
        if float(((ahead - moved) * (moved - point)).sum()) > 0:
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        change = moved - point
        ahead = moved + (momentum - 1) / following * change
        point, momentum = moved, following
        if float(change.abs().max()) <= _TOLERANCE * max(1.0, float(point.abs().max())):
            break
    return point[:, :-1], point[:, -1] - point[:, :-1] @ centre
