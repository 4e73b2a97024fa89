"""What a lens is: a generative model around a classifier, working in codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from xlens.classifier.classifier import Classifier

__all__ = ["Feature", "FittedLens", "Lens"]


@dataclass(frozen=True)
class Feature:
    """A named part of the code.

    Args:
        name: what a person calls it.
        dims: the code dimensions that it occupies.
        role: ``"class"`` (evidence for a class), ``"nuisance"`` (everything else) or
            ``"attribute"`` (side information).
        class_index: the class that it is evidence for, where there is one.

    >>> from xlens import Feature
    >>> Feature("pathology", (0, 1, 2), "class", class_index=1).role
    'class'
    """

    name: str
    dims: tuple[int, ...]
    role: Literal["class", "nuisance", "attribute"]
    class_index: int | None = None


class Lens(nn.Module, ABC):
    """A generative model around a classifier, working in codes.

    A lens has to be deterministic: the same input gives the same code, whatever else is in the
    batch. It is stored by its ``state_dict``, and built again by its backend's ``build``. Its methods
    may run the classifier, so they are called within ``classifier.frozen()``, as the explainer does.
    """

    @abstractmethod
    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to codes ``(N, d)``."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``, or to the classifier's named layer; see `decodes_to`."""

    @abstractmethod
    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Return codes ``(N, d)`` of the same thing with its evidence for `target` taken away.

        Args:
            codes: ``(N, d)``.
            target: ``(N,)`` the class whose evidence is taken away.
            contrast: ``(N,)`` the class that the result should belong to.
        """

    @property
    @abstractmethod
    def features(self) -> Sequence[Feature]:
        """The named parts of the code; each of its dimensions is in exactly one."""

    #: The class that all others are explained against ("healthy"), or None for f's runner-up.
    reference_class: int | None = None
    #: Whether ``encode`` is a plain forward pass. Where it searches, the mask is fitted on fewer inputs.
    encodes_directly: bool = True
    #: What ``decode`` returns: inputs, or the activations ``(N, *A)`` of the classifier's named layer, of which
    #: f's tail makes logits. A lens of the second kind declares ``"retrieve"``, to show real inputs instead.
    decodes_to: Literal["inputs", "layer"] = "inputs"
    if TYPE_CHECKING:

        @property
        def kept_inputs(self) -> Tensor | None:
            """For type checkers a property, so that a lens may make it one, a buffer or a plain attribute."""
    else:
        #: Real inputs ``(B, *S)`` that the lens keeps, or None. The mask is fitted anew on them once it was taught.
        kept_inputs: Tensor | None = None


@runtime_checkable
class FittedLens(Protocol):
    """A lens together with the classifier that it was fitted around: every explainer is one.

    What a backend finds in :attr:`Run.over` and :attr:`Run.start_from`.
    """

    @property
    def classifier(self) -> Classifier:
        """The classifier that the lens explains."""

    @property
    def lens(self) -> Lens:
        """The fitted lens."""
