"""The search until the classifier is convinced: the smallest step that reaches a goal, per input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["smallest_step", "step_that_reaches"]

_SPACING = 1.0
_HALVINGS = 4

#: Maps rows ``(m,)`` and steps ``(m,)`` to a score and to whether the goal is reached, ``(m,)`` each.
Score = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def smallest_step(
    score: Score, n: int, rungs: Sequence[float], halvings: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return, per row, the smallest step found that reaches its goal, and whether there was one, ``(n,)`` each.

    Where no step reaches the goal, the step with the best score. The rungs are tried upward, because a score need
    not grow with the step; then the interval below the first that reaches is halved.

    Args:
        score: maps rows and steps to a score and to whether the goal is reached; it is asked of open rows only.
        n: number of rows.
        rungs: steps to try, from the smallest, where each row may be done already, to the largest.
        halvings: of the interval before the first rung that reaches.
        device: where rows and steps lie.

    >>> import torch
    >>> goals = torch.tensor([0.3, 2.0, 9.0])
    >>> smallest_step(lambda rows, s: (s, s >= goals[rows]), 3, (0.0, 1.0, 2.0, 4.0), 4, goals.device)
    (tensor([0.3125, 2.0000, 4.0000]), tensor([ True,  True, False]))
    """
    # Not the program's default, which may be another.
    kind: dict[str, Any] = {"device": device, "dtype": torch.float32}
    upper, lower = torch.zeros(n, **kind), torch.zeros(n, **kind)
    best = torch.full((n,), -torch.inf, **kind)
    reached = torch.zeros(n, dtype=torch.bool, device=device)
    open_rows = torch.arange(n, device=device)
    previous = rungs[0]
    for rung in rungs:
        value, there = score(open_rows, torch.full((len(open_rows),), rung, **kind))
        better = there | (value > best[open_rows])
        rows = open_rows[better]
        best[rows], upper[rows] = value[better].to(best.dtype), rung
        lower[open_rows[there]] = previous
        reached[open_rows[there]] = True
        open_rows, previous = open_rows[~there], rung
        if not len(open_rows):
            break
    rows = (reached & (upper > rungs[0])).nonzero()[:, 0]
    for _ in range(halvings if len(rows) else 0):
        middle = (lower[rows] + upper[rows]) / 2
        _, there = score(rows, middle)
        upper[rows] = torch.where(there, middle, upper[rows])
        lower[rows] = torch.where(there, lower[rows], middle)
    return upper, reached


def step_that_reaches(score: Score, n: int, longest: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the smallest step along a direction that reaches its goal, and whether there was one, ``(n,)`` each.

    Steps from 0 to `longest` about a unit apart are tried; the result is at most a sixteenth of that too long.
    Where none reaches the goal, it is the step with the best score.

    Args:
        score: maps rows ``(m,)`` and steps ``(m,)`` to a score and to whether the goal is reached, ``(m,)`` each.
        n: number of rows.
        longest: longest step.
        device: where rows and steps lie.
    """
    count = max(1, round(longest / _SPACING))
    rungs = [longest * index / count for index in range(count + 1)]
    return smallest_step(score, n, rungs, _HALVINGS, device)
