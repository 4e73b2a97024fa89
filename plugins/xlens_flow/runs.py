"""Runs of the ODE that a search has made already, kept for whoever asks next for points on the way."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from xlens_flow.ode import Velocity, step_forward

__all__ = ["Runs", "recalled", "remember"]


class Runs:
    """The best run so far of each row: its states before each step and after the last.

    Args:
        own: ``(N, *S)`` states before the first steps of a run that all others begin like.
        steps: of the ODE.
    """

    def __init__(self, own: list[Tensor], steps: int) -> None:
        self.own, self.steps = own, steps
        self.states = [*(state.clone() for state in own)]
        self.states += [torch.zeros_like(own[0]) for _ in range(steps + 1 - len(own))]
        self.heights = own[0].new_full((len(own[0]),), torch.nan)

    def run(self, velocity: Velocity, rows: Tensor, begun: Tensor) -> list[Tensor]:
        """Return the states from the first step of any on: each row leaves its own run at its own step.

        Args:
            velocity: of these rows, which it knows by their place among them.
            rows: ``(m,)``.
            begun: ``(m,)`` the step from which on the velocity is another than that of the row's own run.
        """
        first = int(begun.min())
        states = [self.own[first][rows]]
        for step in range(first, self.steps):
            moving = (begun <= step).nonzero()[:, 0]
            moved = step_forward(velocity, states[-1][moving], step, self.steps, moving)
            if len(moving) < len(rows):
                state = self.own[step + 1][rows]
                state[moving] = moved
                moved = state
            states.append(moved)
        return states

    def keep(self, rows: Tensor, heights: Tensor, states: list[Tensor]) -> None:
        """Keep the last states of these rows, and at which heights ``(m,)`` they were."""
        first = len(self.states) - len(states)
        # Until then they are the row's own again, also where a run that began sooner was kept before.
        for kept, own in zip(self.states[:first], self.own[:first], strict=True):
            kept[rows] = own[rows]
        for kept, state in zip(self.states[first:], states, strict=True):
            kept[rows] = state
        self.heights[rows] = heights


#: Codes -> lens, states, version of the codes, and rows of which they are.
_FOUND = WeakTensorKeyDictionary()


def remember(lens: nn.Module, codes: Tensor, states: list[Tensor], rows: Tensor) -> None:
    """Remember the run that these codes make, as long as there are these codes.

    Args:
        lens: makes it.
        codes: ``(N, d)``.
        states: ``(N, *S)`` before each step and after the last.
        rows: ``(N,)`` bool, of which rows they are.
    """
    if not codes.is_inference():
        _FOUND[codes] = (weakref.ref(lens), states, codes._version, rows)


def recalled(lens: nn.Module, codes: Tensor, run: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
    """Return the states ``(N, *S)`` of these codes' run, which are then forgotten.

    Args:
        lens: makes the run.
        codes: ``(N, d)``.
        run: makes it of these rows ``(m,)``, for those that are not remembered.
    """
    found = _FOUND.pop(codes, None)
    if found is None or found[0]() is not lens or found[2] != codes._version:
        return run(torch.arange(len(codes), device=codes.device))
    states, known = found[1], found[3]
    others = (~known).nonzero()[:, 0]
    if len(others):
        for state, missing in zip(states, run(others), strict=True):
            state[others] = missing
    return states
