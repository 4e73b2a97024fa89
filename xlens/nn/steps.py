"""How far to go along a direction: until the classifier is as sure as it is of real inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["step_that_reaches"]

_SPACING = 1.0
_HALVINGS = 4


def step_that_reaches(
    score: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], n: int, longest: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return, per row, the smallest step found that reaches its goal, and whether there was one, ``(n,)`` each.

    Where no step reaches the goal, the step with the best score. Steps are tried upward from 0, and the interval
    before the first that reaches is halved, so the result is at most a sixteenth too long.

    Args:
        score: maps rows ``(m,)`` and steps ``(m,)`` to a score and to whether the goal is reached, ``(m,)`` each.
        n: number of rows.
        longest: longest step.
        device: where rows and steps lie.
    """
    # Not the program's default, which may be another.
    kind = {"device": device, "dtype": torch.float32}
    upper = torch.zeros(n, **kind)
    lower = torch.zeros(n, **kind)
    best = torch.full((n,), -torch.inf, **kind)
    reached = torch.zeros(n, dtype=torch.bool, device=device)
    open_rows = torch.arange(n, device=device)
    count = max(1, round(longest / _SPACING))
    for index in range(count + 1):
        step = longest * index / count
        steps = torch.full((len(open_rows),), step, **kind)
        value, there = score(open_rows, steps)
        better = there | (value > best[open_rows])
        rows = open_rows[better]
        best[rows], upper[rows] = value[better], step
        lower[open_rows[there]] = max(0.0, longest * (index - 1) / count)
        reached[open_rows[there]] = True
        open_rows = open_rows[~there]
        if not len(open_rows):
            break
    rows = (reached & (upper > 0)).nonzero()[:, 0]
    for _ in range(_HALVINGS if len(rows) else 0):
        middle = (lower[rows] + upper[rows]) / 2
        _, there = score(rows, middle)
        upper[rows] = torch.where(there, middle, upper[rows])
        lower[rows] = torch.where(there, lower[rows], middle)
    return upper, reached
