"""What makes a method of xlens's own one of Captum's: wrappers, metrics and delta work with it as with theirs."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from captum.attr import GradientAttribution
from torch import Tensor

from xlens.attr.targets import Target

__all__ = ["CompleteAttribution", "wrappable"]

P = ParamSpec("P")
R = TypeVar("R")


def wrappable(function: Callable[P, R]) -> Callable[P, R]:
    """Method decorator: what Captum's wrappers (``NoiseTunnel``) call is there, as ``__wrapped__``."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return call


class CompleteAttribution(GradientAttribution):  # type: ignore[misc]  # Captum brings no types
    """Captum ``GradientAttribution`` whose attributions sum to a difference of the output."""

    @abstractmethod
    def outputs(self, count: int) -> Callable[..., Any]:
        """Return what maps `count` inputs of ``attribute``, and further arguments, to outputs ``(N, ...)``."""

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions are of the score and not of its slope: yes."""
        return True

    def has_convergence_delta(self) -> bool:
        """Return whether ``return_convergence_delta`` means something: yes."""
        return True

    def compute_convergence_delta(
        self,
        attributions: Tensor | tuple[Tensor, ...],
        start_point: Any,
        end_point: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: Any = None,
    ) -> Tensor:
        """Return the convergence delta ``(N,)``: sum of attributions minus the difference of the output.

        Args:
            attributions: of any shape, one row per input.
            start_point, end_point: baselines and inputs, as ``attribute`` takes them.
            target, additional_forward_args: as ``attribute`` takes them.
        """
        count = len(end_point) if isinstance(end_point, tuple) else 1
        delta: Tensor = GradientAttribution(self.outputs(count)).compute_convergence_delta(
            attributions, start_point, end_point, target, additional_forward_args
        )
        return delta
