"""Anderson's acceleration: what a map misses is made smaller, in few evaluations, row by row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["corrected"]

#: Differences of earlier tries that a step is made of, and what keeps it finite where they are much the same.
_MEMORY, _RIDGE = 3, 1e-6

#: Maps states ``(m, *S)`` and which rows they are ``(m,)`` to what each misses, ``(m, *S)``.
Missing = Callable[[Tensor, Tensor], Tensor]


#: Told of the rows ``(b,)`` for which the states asked of last are the best so far, and which of these they are.
Better = Callable[[Tensor, Tensor], None]


def corrected(
    missing: Missing, states: Tensor, corrections: int, tolerance: float, better: Better | None = None
) -> Tensor:
    """Return states ``(N, *S)`` that miss no more than these: of those that are tried, the one that misses least.

    Each row is tried again while it misses more than the tolerance. The plain fixed point adds what is missing; it
    does not converge where the map is stiff, which Anderson's does.

    Args:
        missing: what states miss; asked of open rows only.
        states: ``(N, *S)``.
        corrections: at most, one evaluation each, and one to begin with.
        tolerance: root mean square that a row may miss.
        better: told of rows as what was asked of last is the best so far; of all of them to begin with.

    >>> import torch
    >>> rates = torch.tensor([[0.5], [-4.0]])
    >>> found = corrected(lambda x, rows: 1 - x + rates[rows] * x, torch.zeros(2, 1), 3, 1e-6)
    >>> found.round(decimals=4)  # x = 1 + rate * x
    tensor([[2.0000],
            [0.2000]])

    References:
        Walker, Ni (2011), Anderson Acceleration for Fixed-Point Iterations, eq. 2.1 to 2.4.
    """
    rows = torch.arange(len(states), device=states.device)
    best, lack = states.clone(), missing(states, rows)
    least = _size(lack)
    if better is not None:
        better(rows, rows)
    points, lacks = [states.flatten(1)], [lack.flatten(1)]
    for _ in range(corrections):
        still = least[rows] > tolerance
        rows = rows[still]
        if not len(rows):
            break
        points, lacks = ([one[still] for one in kept[-_MEMORY - 1 :]] for kept in (points, lacks))
        tried = _step(points, lacks)
        states = tried.view(-1, *best.shape[1:])
        lack = missing(states, rows)
        size = _size(lack)
        nearer = (size < least[rows]).nonzero()[:, 0]
        best[rows[nearer]], least[rows[nearer]] = states[nearer], size[nearer]
        if better is not None:
            better(rows[nearer], nearer)
        points.append(tried)
        lacks.append(lack.flatten(1))
    return best


def _step(points: list[Tensor], lacks: list[Tensor]) -> Tensor:
    """Return the next points ``(m, D)``: from the mixture of earlier ones that misses least."""
    point, lack = points[-1], lacks[-1]
    if len(points) == 1:
        return point + lack
    moves = torch.stack([point - one for one in points[:-1]], 2)
    changes = torch.stack([lack - one for one in lacks[:-1]], 2)
    products = changes.transpose(1, 2) @ changes
    # In units of each change's own length, so that the ridge means the same for all.
    length = products.diagonal(dim1=1, dim2=2).sqrt().clamp_min(torch.finfo(lack.dtype).tiny)
    scaled = products / (length.unsqueeze(1) * length.unsqueeze(2))
    scaled = scaled + _RIDGE * torch.eye(scaled.shape[1], dtype=scaled.dtype, device=scaled.device)
    wanted = (changes.transpose(1, 2) @ lack.unsqueeze(2)) / length.unsqueeze(2)
    shares = torch.linalg.solve(scaled, wanted) / length.unsqueeze(2)
    return point + lack - ((moves + changes) @ shares).squeeze(2)


def _size(lack: Tensor) -> Tensor:
    return lack.flatten(1).square().mean(1).sqrt()
