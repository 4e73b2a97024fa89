"""How the reconstruction fares in the course of a fit: whether the game is destroying it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LOST_AT", "CollapsedError", "Course"]

_DECAY = 0.9
#: A sound fit's average falls, and wavers by a few hundredths; lost games double it within some hundred steps.
LOST_AT = 1.5


class CollapsedError(Exception):
    """The game destroys the reconstruction; caught where the fit is begun anew."""


class Course(nn.Module):
    """The moving average of the reconstruction's error, and the least that this has been.

    A module without weights, so that a trainer keeps its state in checkpoints, winds it back with the rest, and
    averages it over processes, which then all decide alike.
    """

    average: Tensor
    least: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("least", torch.zeros(()))

    @torch.no_grad()
    def follow(self, error: Tensor, *, first: bool) -> None:
        """Take in the error ``()`` of one step; the first is where the average begins."""
        if first:
            self.average.copy_(error)
            self.least.copy_(error)
        self.average.lerp_(error.to(self.average.dtype), 1 - _DECAY)
        self.least.copy_(torch.minimum(self.least, self.average))

    @property
    def worsening(self) -> float:
        """How many times its least the average is."""
        return float(self.average / self.least.clamp_min(1e-12))

    @property
    def lost(self) -> bool:
        """Whether reconstructions have become so much worse than they were that the game is lost."""
        return self.worsening > LOST_AT
