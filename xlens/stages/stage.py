"""A stage: inputs to the values that a lens is fitted on, and back to what the lens then decodes to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import Spec

__all__ = ["Stage", "where_it_is"]


class Stage(nn.Module, ABC):
    """What stands between inputs and a lens.

    It is stored by its ``state_dict``, and built again of :meth:`facts`. The user's classifier is no part of it.

    Args:
        spec: shape, range and classes of the values.
    """

    #: By which it is found again in a saved lens; see `xlens.stages.building`.
    kind: ClassVar[str]
    #: What :meth:`decode` returns, and with it the lens.
    decodes_to: Literal["inputs", "layer"]
    #: Whether what the lens leaves out of the values is kept as a part of the code, so that nothing is lost.
    keeps_rest: bool = False

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec

    @property
    @abstractmethod
    def classifier(self) -> Classifier:
        """The classifier of values: what the user's says of inputs, it says of what they are encoded to."""

    def held(self) -> AbstractContextManager[object]:
        """Return the context in which it is asked; what belongs to somebody else is frozen there."""
        return nullcontext()

    @abstractmethod
    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to values ``(N, *V)``; gradients flow."""

    @abstractmethod
    def decode(self, values: Tensor) -> Tensor:
        """Map values ``(N, *V)`` to what the lens decodes to: inputs ``(N, *S)``, or activations ``(N, *A)``."""

    @property
    def shows(self) -> bool:
        """Whether :meth:`show` makes inputs."""
        return self.decodes_to == "inputs"

    def show(self, values: Tensor) -> Tensor | None:
        """Return inputs ``(N, *S)`` to show values by, where the stage makes any; None where it does not."""
        return self.decode(values) if self.shows else None

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return, as plain JSON, what it is built from again."""


def where_it_is(model: nn.Module, otherwise: torch.device) -> torch.device:
    """Return the device of a part of the user's model, which its owner may have moved since the fit.

    Args:
        model: the part.
        otherwise: where it is if it has no parameters that would say so.
    """
    first = next(model.parameters(), None)
    return otherwise if first is None else first.device
