"""What a velocity network is to the lens: units, conditions, and a velocity between noise and data."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from xlens import Spec

__all__ = ["Velocities"]


class Velocities(nn.Module, ABC):
    """The velocity dx/dt of states between noise (t = 0) and data (t = 1), in units of a like range.

    Args:
        spec: shape and range of the data.
    """

    middle: Tensor
    scale: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        low, span = spec.per_channel("minimum"), spec.span()
        # Images in [-1, 1], as they fill their range; anything else by its own mean and spread.
        middle = low + span / 2 if spec.is_image else spec.per_channel("mean")
        scale = span / 2 if spec.is_image else spec.per_channel("std").clamp_min(1e-3 * span)
        self.register_buffer("middle", middle, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    @property
    def num_attributes(self) -> int:
        """Number A of attributes that are conditions."""
        return 0

    def standardised(self, inputs: Tensor) -> Tensor:
        """Return data ``(N, *S)`` in the flow's units."""
        return (inputs - self.middle) / self.scale

    def restored(self, states: Tensor) -> Tensor:
        """Return states ``(N, *S)`` in the units of the data."""
        return states * self.scale + self.middle

    @abstractmethod
    def forward(self, states: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        """Return velocities ``(N, *S)``.

        Args:
            states: ``(N, *S)``.
            times: ``(N,)`` in [0, 1].
            conditions: ``(N, K + 2 A)`` class probabilities, values of attributes, and 1 where they are observed;
                zeros where there is no condition.
        """
