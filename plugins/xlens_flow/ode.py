"""The ODE between noise and data: Heun's method forward over a grid of times, and its inverse backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xlens_flow.fixed_point import corrected

__all__ = ["Velocity", "backward", "forward", "grid", "step_forward"]

#: Maps a state ``(N, *S)``, a time, the number of the step that it belongs to, and which rows ``(N,)`` the states
#: are, to a velocity ``(N, *S)``.
Velocity = Callable[[Tensor, float, int, Tensor], Tensor]

#: Near data the velocity changes faster than near noise. Of powers 1, 1.5 and 2, this one lost least on images.
_POWER = 1.5


def grid(steps: int) -> tuple[float, ...]:
    """Return the times at which steps begin and end, from 0 (noise) to 1 (data), denser toward data.

    >>> [round(time, 2) for time in grid(4)]
    [0.0, 0.35, 0.65, 0.88, 1.0]
    """
    return tuple(1 - (1 - step / steps) ** _POWER for step in range(steps + 1))


def forward(velocity: Velocity, noise: Tensor, steps: int, first: int = 0, last: int | None = None) -> list[Tensor]:
    """Return the states ``(N, *S)`` that noise flows through: before a first step, and after each from there on.

    Args:
        velocity: of the flow; asked at both ends of each step.
        noise: ``(N, *S)``, or the states before the step `first`.
        steps: of the grid, two velocities each.
        first: step to begin with.
        last: step to end before; None for none.

    >>> import torch
    >>> round(float(forward(lambda x, t, step, rows: x, torch.ones(1), 64)[-1]), 2)  # dx/dt = x
    2.72
    """
    rows = torch.arange(len(noise), device=noise.device)
    states = [noise]
    for step in range(first, steps if last is None else last):
        states.append(step_forward(velocity, states[-1], step, steps, rows))
    return states


def step_forward(velocity: Velocity, states: Tensor, step: int, steps: int, rows: Tensor) -> Tensor:
    """Return the states ``(N, *S)`` of these rows after one step of the grid."""
    times = grid(steps)
    return states + _change(velocity, states, step, times[step], times[step + 1], rows)


def backward(
    velocity: Velocity,
    data: Tensor,
    steps: int,
    corrections: int = 0,
    tolerance: float = 0.0,
    steady: bool = False,
) -> Tensor:
    """Return the noise ``(N, *S)`` from which data flow, from time 1 to 0.

    Heun's method backward undoes Heun's method forward up to an error of third order in each step. Corrections move
    the state before a step until the step forward from there ends where it has to.

    Args:
        velocity: of the flow.
        data: ``(N, *S)``.
        steps: of the grid, two velocities each.
        corrections: of each step at most, two more velocities each, and two to begin with.
        tolerance: root mean square that a step may miss; no correction of rows below it.
        steady: the velocity does not depend on the step, so that the check of a step has asked already for what the
            next one begins with.

    >>> import torch
    >>> round(float(backward(lambda x, t, step, rows: x, torch.ones(1, 1), 64)), 2)
    0.37
    """
    times, state = grid(steps), data
    rows = torch.arange(len(data), device=data.device)
    slopes: Tensor | None = None
    for step in reversed(range(steps)):
        before, after = times[step], times[step + 1]
        end = state
        state = state + _change(velocity, state, step, after, before, rows, slopes if steady else None)
        if corrections:
            check = _Check(velocity, end, step, before, after)
            state = corrected(check.missing, state, corrections, tolerance, check.better)
            slopes = check.slopes
    return state


class _Check:
    """One step forward again: what states before it miss of where they have to end.

    `slopes` are the velocities ``(N, *S)`` with which the best of them begin.
    """

    def __init__(self, velocity: Velocity, end: Tensor, step: int, before: float, after: float) -> None:
        self.velocity, self.end, self.step, self.before, self.after = velocity, end, step, before, after
        self.slopes = torch.zeros_like(end)

    def missing(self, tried: Tensor, rows: Tensor) -> Tensor:
        self.asked = self.velocity(tried, self.before, self.step, rows)
        change = _change(self.velocity, tried, self.step, self.before, self.after, rows, self.asked)
        return self.end[rows] - (tried + change)

    def better(self, rows: Tensor, among: Tensor) -> None:
        self.slopes[rows] = self.asked[among]


def _change(
    velocity: Velocity,
    states: Tensor,
    step: int,
    start: float,
    end: float,
    rows: Tensor,
    first: Tensor | None = None,
) -> Tensor:
    """Return Heun's change of states from one time to another; `first` is the velocity there, where it is known."""
    if first is None:
        first = velocity(states, start, step, rows)
    second = velocity(states + (end - start) * first, end, step, rows)
    return (end - start) / 2 * (first + second)
