"""The ODE between noise and data: Heun's method, forward and backward over one grid of times."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

__all__ = ["Velocity", "backward", "forward"]

#: Maps a state ``(N, *S)``, a time and the number of the step that it belongs to, to a velocity ``(N, *S)``.
Velocity = Callable[[Tensor, float, int], Tensor]


def forward(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Return the data ``(N, *S)`` that noise flows to, from time 0 to 1.

    Args:
        velocity: of the flow; asked at both ends of each step.
        noise: ``(N, *S)``.
        steps: equal steps, two velocities each.

    >>> import torch
    >>> round(float(forward(lambda x, t, step: x, torch.ones(1), 64)), 3)  # dx/dt = x
    2.718
    """
    return _heun(velocity, noise, steps, range(steps), 1)


def backward(velocity: Velocity, data: Tensor, steps: int) -> Tensor:
    """Return the noise ``(N, *S)`` from which data flow, from time 1 to 0; arguments as for :func:`forward`.

    >>> import torch
    >>> round(float(backward(lambda x, t, step: x, torch.ones(1), 64)), 3)
    0.368
    """
    return _heun(velocity, data, steps, reversed(range(steps)), -1)


def _heun(velocity: Velocity, state: Tensor, steps: int, order: Iterable[int], sign: int) -> Tensor:
    for step in order:
        first, last = (step, step + 1) if sign > 0 else (step + 1, step)
        begin = velocity(state, first / steps, step)
        end = velocity(state + sign / steps * begin, last / steps, step)
        state = state + sign / (2 * steps) * (begin + end)
    return state
