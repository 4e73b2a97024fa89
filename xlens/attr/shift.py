"""Latent shift: walk a code along the gradient of the classifier, and see what changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LatentShift", "latent_shift"]


@dataclass(frozen=True)
class LatentShift:
    """A walk through codes against the evidence for a class.

    Args:
        frames: ``(N, T, *S)`` G(z + l_t g), from l = 0 on; a row that has stopped repeats its last frame.
        probabilities: ``(N, T)`` sigmoid of the score on each frame.
        shifts: ``(N, T)`` the l of each frame, at most 0.
        heatmap: ``(N, *S)`` mean absolute difference of the frames that were walked from the first.
        stopped: ``(N,)`` whether one of the stops was reached within the steps.
    """

    frames: Tensor
    probabilities: Tensor
    shifts: Tensor
    heatmap: Tensor
    stopped: Tensor


def latent_shift(
    score: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    codes: Tensor,
    *,
    span: float,
    n_steps: int = 32,
    drop: float = 0.8,
    floor: float = 0.05,
    largest_change: float = 0.05,
) -> LatentShift:
    """Latent shift x_l = G(z + l d f_c(G(z))/dz): codes moved until the classifier lets go.

    Latent Shift (Cohen et al. 2021) needs no training of its own. The step doubles every fourth frame, from
    one that changes the score by about .1 to first order. A row stops where its probability has dropped by
    `drop`, is below `floor`, or the mean absolute change of its pixels exceeds `largest_change` of `span`.

    Args:
        score: maps decoded points ``(N, *S)`` to each row's margin ``(N,)`` in logits.
        decode: the generator.
        codes: ``(N, d)``.
        span: range of the data.
        n_steps: frames after the first.
        drop, floor, largest_change: the three stops.

    >>> import torch
    >>> shift = latent_shift(lambda x: x[:, 0], lambda z: 4 * z, torch.ones(1, 2), span=100.0)
    >>> bool(shift.stopped), shift.heatmap[0, 1].item()
    (True, 0.0)
    """
    codes = codes.detach().requires_grad_()
    with torch.enable_grad():
        first = decode(codes)
        margin = score(first)
        (gradient,) = torch.autograd.grad(margin.sum(), codes)
    codes, first, before = codes.detach(), first.detach(), margin.detach().sigmoid()
    steepness = gradient.square().sum(1).to(before.dtype)
    # Where the classifier does not respond at all there is nowhere to go, and the row stays.
    unit = torch.where(steepness > 0, 0.1 / steepness, torch.zeros_like(steepness))
    shift = torch.zeros_like(before)
    live = torch.ones_like(before, dtype=torch.bool)
    frames, probabilities, shifts = [first], [before], [shift]
    total, walked = torch.zeros_like(first), torch.zeros_like(before)
    for step in range(n_steps):
        shift = torch.where(live, shift - unit * 2 ** (step // 4), shift)
        with torch.no_grad():
            moved = decode(codes + shift.to(codes.dtype).unsqueeze(1) * gradient)
            frame = torch.where(_like(live, moved), moved, frames[-1])
            at = score(frame).sigmoid()
        change = (frame - first).abs()
        total += change * _like(live, change)
        walked += live
        frames.append(frame)
        probabilities.append(at)
        shifts.append(shift)
        far = change.flatten(1).mean(1) > largest_change * span
        live = live & (before - at < drop) & (at >= floor) & ~far
        if not bool(live.any()):
            break
    return LatentShift(
        frames=torch.stack(frames, 1),
        probabilities=torch.stack(probabilities, 1),
        shifts=torch.stack(shifts, 1),
        heatmap=total / _like(walked.clamp_min(1), total),
        stopped=~live,
    )


def _like(values: Tensor, points: Tensor) -> Tensor:
    return values.view(-1, *([1] * (points.dim() - 1)))
