"""Integrals by fixed nodes: Captum's rules, equation 7 of Dravid et al., and important-direction gradients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from xlens.attr.evaluate import Evaluation

__all__ = ["METHODS", "Method", "direction_integral", "nodes_and_weights", "paper_integral", "tangent_integral"]

Method = Literal[
    "midpoint", "gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"
]
#: ``"midpoint"`` goes by chords; the others are Captum's, and need the curve's exact velocity.
METHODS: tuple[str, ...] = get_args(Method)


@lru_cache(maxsize=32)
def nodes_and_weights(method: str, n_steps: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return positions in [0, 1] and weights that sum to 1, each ``(n_steps,)``.

    The nodes are Captum's. So are the weights but for ``"riemann_trapezoid"``, whose weights sum to 1 - 1/n there.

    >>> nodes, weights = nodes_and_weights("riemann_trapezoid", 3, torch.device("cpu"), torch.float64)
    >>> nodes.tolist(), weights.tolist()
    ([0.0, 0.5, 1.0], [0.25, 0.5, 0.25])
    """
    count = np.arange(n_steps)
    even = np.full(n_steps, 1 / n_steps)
    if method == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(n_steps)
        nodes, weights = (nodes + 1) / 2, weights / 2
    elif method == "riemann_left":
        nodes, weights = count / n_steps, even
    elif method == "riemann_right":
        nodes, weights = (count + 1) / n_steps, even
    elif method == "riemann_trapezoid" and n_steps > 1:
        nodes, weights = count / (n_steps - 1), np.full(n_steps, 1 / (n_steps - 1))
        weights[[0, -1]] /= 2
    else:  # the midpoints, which is what a trapezoid rule of one node comes to as well
        nodes, weights = (count + 0.5) / n_steps, even
    return torch.from_numpy(nodes).to(device, dtype), torch.from_numpy(weights).to(device, dtype)


def tangent_integral(evaluation: Evaluation, nodes: Tensor, weights: Tensor) -> Tensor:
    """Sum weight * velocity of the curve * gradient over the nodes, ``(G, *S)``.

    On smooth curves and scores Gauss-Legendre nodes converge far faster than chords.
    """
    sums: Tensor | None = None
    for local, at, weight in _positions(evaluation, nodes, weights):
        points, velocity = evaluation.tangents(local, at)
        _, gradient = evaluation.gradients(local, points)
        del points
        product = velocity.to(evaluation.wide).mul_(gradient)
        sums = _added(sums, evaluation, local, product.mul_(_shaped(weight, product)))
    return _some(sums)


def paper_integral(evaluation: Evaluation, nodes: Tensor, weights: Tensor, chord: Tensor) -> Tensor:
    """Return [x(1) - x(0)] times the mean gradient along the curve, ``(G, *S)``.

    Equation 7 of Dravid et al. (2022), as printed. The chord of the whole curve meets gradients along a curved
    path, so the sum is not the score difference, whatever the number of nodes.

    Args:
        evaluation: score and curves.
        nodes, weights: ``(n,)``.
        chord: ``(G, *S)`` x(1) - x(0).
    """
    mean: Tensor | None = None
    for local, at, weight in _positions(evaluation, nodes, weights):
        _, gradient = evaluation.gradients(local, evaluation.points(local, at))
        gradient = gradient.to(evaluation.wide)
        mean = _added(mean, evaluation, local, gradient.mul_(_shaped(weight, gradient)))
    return chord.to(evaluation.wide) * _some(mean)


def direction_integral(evaluation: Evaluation, edges: Tensor) -> Tensor:
    """Sum g*g / (g.g) times the change of the score over each segment, ``(G, *S)``.

    Important-direction gradient integration (Yang, Wang and Bilgic 2023, eq. 7), with g the gradient where the
    segment begins. It is complete at any number of steps. Where g vanishes although the score changes, the
    segment's own chord takes its place.

    Args:
        evaluation: score and curves.
        edges: ``(G, n + 1)`` positions.
    """
    g, steps = edges.shape[0], edges.shape[1] - 1
    local = torch.arange(g, device=edges.device).repeat_interleave(steps)
    scores = evaluation.scores(torch.arange(g, device=edges.device).repeat_interleave(steps + 1), edges.reshape(-1))
    change = scores.view(g, -1).diff(dim=1).reshape(-1)
    low, high = edges[:, :-1].reshape(-1), edges[:, 1:].reshape(-1)
    sums: Tensor | None = None
    for start in range(0, len(local), evaluation.batch):
        chosen = slice(start, start + evaluation.batch)
        rows = local[chosen]
        points = evaluation.points(rows, low[chosen])
        _, gradient = evaluation.gradients(rows, points)
        squared = gradient.to(evaluation.wide).square()
        flat = squared.flatten(1).sum(1) == 0
        if bool(flat.any()):
            chord = evaluation.points(rows[flat], high[chosen][flat]) - points[flat]
            squared[flat] = chord.to(evaluation.wide).square()
        total = squared.flatten(1).sum(1)
        share = change[chosen] / torch.where(total > 0, total, torch.ones_like(total))
        sums = _added(sums, evaluation, rows, squared.mul_(_shaped(share, squared)))
    return _some(sums)


def _positions(evaluation: Evaluation, nodes: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches of local rows, positions and weights: every node of every curve."""
    g, n = len(evaluation.members), len(nodes)
    local = torch.arange(g, device=nodes.device).repeat_interleave(n)
    size = evaluation.batch
    yield from zip(local.split(size), nodes.repeat(g).split(size), weights.repeat(g).split(size), strict=True)


def _shaped(weights: Tensor, values: Tensor) -> Tensor:
    return weights.view(-1, *([1] * (values.dim() - 1)))


def _some(sums: Tensor | None) -> Tensor:
    """Return what was summed: of one curve at least, at one node at least."""
    return cast(Tensor, sums)


def _added(sums: Tensor | None, evaluation: Evaluation, local: Tensor, values: Tensor) -> Tensor:
    if sums is None:
        sums = values.new_zeros(len(evaluation.members), *values.shape[1:])
    return sums.index_add_(0, local, values)
