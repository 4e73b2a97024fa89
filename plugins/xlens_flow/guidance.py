"""Guidance: velocities under signed weights of classes, which are codes' evidence, and of attributes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens_flow.velocities import Velocities

__all__ = ["guided", "terms_of", "with_attributes"]

#: A term that weighs less than this is not asked for.
_LEAST = 1e-4


def terms_of(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Split signed weights of classes into at most three conditions and their weights, which sum to 1.

    Their positive part is one condition, their negative part another that is moved away from, and what they lack
    of, or exceed, a sum of 1 falls to no condition at all (zeros). So probabilities are a condition as they stand,
    ``w`` times one class is classifier-free guidance of strength w, and ``1 + w`` of one class with ``-w`` of
    another is guidance toward the one and away from the other.

    Args:
        weights: ``(N, K)``.

    Returns:
        Conditions ``(3, N, K)`` and their weights ``(3, N)``.

    >>> import torch
    >>> conditions, weights = terms_of(torch.tensor([[3.0, -2.0], [2.0, 0.0]]))
    >>> weights.T
    tensor([[ 3., -2.,  0.],
            [ 2., -0., -1.]])

    References:
        Ho, Salimans (2022), Classifier-Free Diffusion Guidance, eq. 6.
    """
    toward, away = weights.clamp_min(0), (-weights).clamp_min(0)
    gain, loss = toward.sum(1), away.sum(1)
    tiny = torch.finfo(weights.dtype).tiny
    conditions = [
        toward / gain.clamp_min(tiny)[:, None],
        away / loss.clamp_min(tiny)[:, None],
        torch.zeros_like(weights),
    ]
    return torch.stack(conditions), torch.stack([gain, -loss, 1 - gain + loss])


def with_attributes(conditions: Tensor, shares: Tensor, strengths: Tensor) -> tuple[Tensor, Tensor]:
    """Add guidance toward attributes to the terms of classes: each one beside the class that is moved toward.

    An attribute of strength w moves |w| times from that class alone to that class with the attribute: with it where
    w is above 0 (one standard deviation above the mean, where it is measured), and without it where w is below.

    Args:
        conditions, shares: ``(3, N, K)`` and ``(3, N)``, of :func:`terms_of`.
        strengths: ``(N, A)``.

    Returns:
        Conditions ``(3 + A, N, K + 2 A)`` and their weights ``(3 + A, N)``.
    """
    count = strengths.shape[1]
    plain = F.pad(conditions, (0, 2 * count))
    with_one = plain[:1].repeat(count, 1, 1)
    observed = torch.eye(count, dtype=strengths.dtype, device=strengths.device)[:, None]
    with_one[:, :, -2 * count : -count] = observed * strengths.sign()
    with_one[:, :, -count:] = observed
    sizes = strengths.abs().T
    shares = torch.cat([shares[:1] - sizes.sum(0), shares[1:], sizes])
    return torch.cat([plain, with_one]), shares


def guided(flow: Velocities, states: Tensor, time: float, weights: Tensor) -> Tensor:
    """Return velocities ``(N, *S)`` under signed weights of classes and attributes ``(N, K + A)``, at one time."""
    count = flow.num_attributes
    conditions, shares = terms_of(weights[:, : weights.shape[1] - count])
    if count:
        conditions, shares = with_attributes(conditions, shares, weights[:, -count:])
    asked = shares.abs() > _LEAST
    # Each row's own terms, all of them in one pass.
    rows = torch.arange(len(states), device=states.device).expand_as(asked)[asked]
    times = states.new_full((len(rows),), time)
    found = flow(states[rows], times, conditions[asked])
    shares = shares[asked].view(-1, *[1] * (states.dim() - 1))
    return torch.zeros_like(states).index_add_(0, rows, shares * found)
