"""Curves in codes other than the straight one: the shortest for the eye, and the one the classifier cares least
about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from xlens.attr.curve import Curve, Polyline, Segment
from xlens.attr.evaluate import Score
from xlens.errors import ModelError

__all__ = ["PATHS", "CodePath", "code_path", "geodesic", "guided"]

CodePath = Literal["linear", "geodesic", "guided", "pixel"]
#: ``"pixel"`` is straight between the decoded ends, so it is no curve in codes.
PATHS: tuple[str, ...] = get_args(CodePath)
_KNOTS = 9
_GUIDED_STEPS = 50


def code_path(
    path: CodePath,
    start: Tensor,
    end: Tensor,
    decode: Callable[[Tensor], Tensor],
    score: Score,
    batch: int = 64,
) -> Curve:
    """Return a curve from codes `start` to codes `end`, each ``(N, d)``.

    Args:
        path: ``"linear"``, ``"geodesic"`` (:func:`geodesic`), ``"guided"`` (:func:`guided`), or ``"pixel"``, which
            has no curve in codes and stands for the straight one here.
        start, end: ``(N, d)``.
        decode: the generator.
        score: maps decoded points ``(M, *S)`` and rows ``(M,)`` to scores.
        batch: codes decoded at once.
    """
    if path == "geodesic":
        return geodesic(start, end, decode, batch=batch)
    if path == "guided":
        return guided(start, end, lambda codes, rows: score(decode(codes), rows), batch=batch)
    return Segment(start, end)


def geodesic(
    start: Tensor,
    end: Tensor,
    decode: Callable[[Tensor], Tensor],
    *,
    knots: int = _KNOTS,
    n_iterations: int = 60,
    lr: float = 0.03,
    batch: int = 64,
) -> Polyline:
    """Geodesic in codes: the curve whose decoding is shortest, through `knots` codes.

    The energy ``sum_k |G(z_{k+1}) - G(z_k)|^2`` is minimised over the inner knots by Adam from the straight line on
    (Manifold Integrated Gradients, Zaher et al. 2024). Each row keeps the best that it has seen, so no curve
    has more energy than the straight one.

    Args:
        start, end: ``(N, d)``.
        decode: the generator.
        knots: codes on the curve, both ends included.
        n_iterations: steps of the minimisation.
        lr: step size, relative to the distance of the ends.
        batch: codes decoded at once; the knots of one curve always are, because they share a graph.
    """
    per_group = max(1, batch // knots)
    pairs = zip(start.split(per_group), end.split(per_group), strict=True)
    return Polyline(torch.cat([_shortened(a, b, decode, knots, n_iterations, lr) for a, b in pairs]))


def _shortened(
    start: Tensor, end: Tensor, decode: Callable[[Tensor], Tensor], knots: int, n_iterations: int, lr: float
) -> Tensor:
    start, end = start.detach(), end.detach()
    alphas = torch.linspace(0, 1, knots, device=end.device, dtype=end.dtype).view(1, -1, 1)
    line = torch.lerp(start.unsqueeze(1), end.unsqueeze(1), alphas)
    # In units of the distance between the ends, so that one step size fits all rows.
    scale = (end - start).abs().amax(1).clamp_min(torch.finfo(end.dtype).tiny).view(-1, 1, 1)
    with torch.enable_grad():
        shift = torch.zeros_like(line[:, 1:-1]).requires_grad_()
        optimizer = torch.optim.Adam([shift], lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_iterations)
        best, least = line, None
        for iteration in range(n_iterations + 1):
            inner = line[:, 1:-1] + scale * shift
            curve = torch.cat([line[:, :1], inner, line[:, -1:]], 1)
            decoded = decode(curve.flatten(0, 1)).reshape(len(end), knots, -1)
            energy = decoded.diff(dim=1).square().sum((1, 2))
            with torch.no_grad():
                better = energy < least if least is not None else torch.ones_like(energy, dtype=torch.bool)
                best = torch.where(better.view(-1, 1, 1), curve, best)
                least = torch.where(better, energy, least) if least is not None else energy.clone()
            if iteration == n_iterations:
                break
            if not energy.requires_grad:
                raise ModelError(
                    "path='geodesic': the generator cannot be differentiated",
                    do="use path='linear', or a generator of torch operations that does not detach",
                )
            relative = energy / energy.detach().clamp_min(torch.finfo(end.dtype).tiny)
            (shift.grad,) = torch.autograd.grad(relative.sum(), shift)
            optimizer.step()
            schedule.step()
    return best.detach()


def guided(
    start: Tensor,
    end: Tensor,
    score: Score,
    *,
    n_steps: int = _GUIDED_STEPS,
    max_dist: float = 0.02,
    batch: int = 64,
) -> Polyline:
    """Guided path: the curve that always moves first what the score responds to least.

    Guided Integrated Gradients (Kapishnikov et al. 2021): each step brings the point nearer to its end by one
    `n_steps`-th of the L1 distance, moving coordinates in the order of their gradients' magnitude. No coordinate
    strays from the straight line by more than `max_dist` of its own way, except that the last one moved goes
    only as far as the step's distance allows. Here the smallest gradients move before all others, which is the
    limit of the paper's quantiles.

    Args:
        start, end: ``(N, *S)`` codes, or inputs.
        score: maps points ``(M, *S)`` and rows ``(M,)`` to scores.
        n_steps: steps, and pieces of the curve.
        max_dist: in [0, 1]; 0 is the straight line, 1 leaves every freedom.
        batch: points evaluated at once. All `n_steps` + 1 points of every row are kept.
    """
    rows = torch.arange(len(end), device=end.device)
    parts = [
        _guided(a, b, r, score, n_steps, max_dist)
        for a, b, r in zip(start.split(batch), end.split(batch), rows.split(batch), strict=True)
    ]
    return Polyline(torch.cat(parts))


def _guided(start: Tensor, end: Tensor, rows: Tensor, score: Score, n_steps: int, max_dist: float) -> Tensor:
    shape, dtype = end.shape, end.dtype
    # Lengths are summed over all coordinates, which half precision does not hold.
    wide = torch.promote_types(dtype, torch.float32)
    start, end_ = start.detach().flatten(1).to(wide), end.detach().flatten(1).to(wide)
    way = end_ - start
    distance = way.abs()
    done = torch.zeros_like(way)  # share of its way that each coordinate has gone
    knots = [start]
    for step in range(1, n_steps + 1):
        reached = step / n_steps
        at_least, at_most = max(reached - max_dist, 0), min(reached + max_dist, 1)
        done = done.clamp_min(at_least)
        needed = (reached * distance.sum(1) - (done * distance).sum(1)).clamp_min(0)
        order = _gradient(score, (start + done * way).to(dtype).view(shape), rows).abs().argsort(1)
        room = ((at_most - done) * distance).gather(1, order)
        before = room.cumsum(1) - room
        moved = torch.minimum((needed.unsqueeze(1) - before).clamp_min(0), room)
        gone = torch.zeros_like(moved).scatter_(1, order, moved)
        done = done + torch.where(distance > 0, gone / distance, torch.zeros_like(gone))
        knots.append(start + done * way)
    knots[-1] = end_
    return torch.stack(knots, 1).to(dtype).view(len(end), n_steps + 1, *shape[1:])


def _gradient(score: Score, points: Tensor, rows: Tensor) -> Tensor:
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        values = score(points, rows)
        if not values.requires_grad:
            raise ModelError(
                "path='guided': the score does not depend on the code in a way that autograd can follow",
                do="use path='linear', or a generator and a model of torch operations that do not detach",
            )
        (gradient,) = torch.autograd.grad(values.sum(), points)
    return gradient.flatten(1)
