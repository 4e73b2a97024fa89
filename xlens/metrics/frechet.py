"""Frechet distances between two sets of features: how real edited inputs look to a network."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.errors import DataError

__all__ = ["frechet_distance", "split_frechet_distance"]


def frechet_distance(first: Tensor, second: Tensor, *, weights: Tensor | None = None) -> float:
    """Frechet distance, squared, between Gaussians fitted to two sets of features.

    It is biased upward for small sets: each should have many times more rows than features.

    Args:
        first, second: ``(n, d)`` and ``(m, d)`` features, such as the classifier's own penultimate ones. Those of a
            network made for other images mean nothing.
        weights: ``(n,)`` of the rows of `first`, such as give its classes the shares that they have in `second`;
            None for all alike.

    Raises:
        DataError: sets of different width, fewer than two rows, values that are not finite, or weights that do not
            fit.

    References:
        Heusel et al. (2017), GANs Trained by a Two Time-Scale Update Rule.

    >>> import torch
    >>> rows = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    >>> round(frechet_distance(rows, rows + torch.tensor([2.0, 0.0, 0.0])), 3)
    4.0
    """
    for rows in (first, second):
        if rows.dim() != 2 or len(rows) < 2 or rows.shape[1] != first.shape[-1] or not rows.isfinite().all():
            raise DataError(
                "frechet_distance: not two sets of features",
                given=f"{tuple(first.shape)} and {tuple(second.shape)}",
                allowed="finite (n, d) and (m, d), two rows at least",
            )
    if weights is not None and (
        weights.shape != first.shape[:1] or bool((weights < 0).any()) or not 0 < float(weights.sum()) < torch.inf
    ):
        raise DataError(
            "frechet_distance: weights do not fit the first set",
            given=f"shape {tuple(weights.shape)}, sum {float(weights.sum()):g}",
            allowed=f"({len(first)},), none below 0, with a sum above 0",
        )
    first, second = first.double(), second.double()
    shares = torch.full_like(first[:, 0], 1 / len(first)) if weights is None else weights.to(first) / weights.sum()
    width = first.shape[1]
    a = first.T.cov(aweights=None if weights is None else shares).reshape(width, width)
    b = second.T.cov().reshape(width, width)
    # The trace of the root of a b is that of the symmetric root(a) b root(a).
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b @ root).clamp_min(0).sqrt().sum()
    means = (shares @ first - second.mean(0)).square().sum()
    return float((means + a.trace() + b.trace() - 2 * cross).clamp_min(0))


def split_frechet_distance(real: Tensor, edited: Tensor, *, splits: int = 10, seed: int = 0) -> float:
    """Split Frechet distance (sFID): mean over one half of the edited inputs and the other half of the real ones.

    An edited input resembles its own original, whatever became of it; in different halves they never meet.

    Args:
        real, edited: ``(n, d)`` features; row i of one is what row i of the other was made from.
        splits: random halvings that are averaged.
        seed: decides them.

    Raises:
        DataError: sets of different size, or fewer than four rows.

    References:
        Jeanneret, Simon, Jurie (2023), Adversarial Counterfactual Visual Explanations (sFID).
    """
    if real.shape != edited.shape or len(real) < 4:
        raise DataError(
            "split_frechet_distance: not two sets of one size",
            given=f"{tuple(real.shape)} and {tuple(edited.shape)}",
            allowed="(n, d) both, n >= 4",
        )
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(splits):
        order = torch.randperm(len(real), generator=generator).to(real.device)
        one, other = order[: len(order) // 2], order[len(order) // 2 :]
        found += [frechet_distance(real[one], edited[other]), frechet_distance(real[other], edited[one])]
    return sum(found) / len(found)
