"""What a lens is: a generative model around a classifier, working in codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.errors import UnsupportedError

__all__ = ["EditingLens", "Feature", "FittedLens", "Lens", "LocalEdit"]


@dataclass(frozen=True)
class Feature:
    """A named part of the code.

    Args:
        name: what a person calls it.
        dims: the code dimensions that it occupies.
        role: ``"class"`` (evidence for a class), ``"nuisance"`` (everything else) or
            ``"attribute"`` (side information).
        class_index: the class that it is evidence for, where there is one.
        taught: False where the name waits for answers and has none yet: explanations credit it with nothing.

    >>> from xlens import Feature
    >>> Feature("pathology", (0, 1, 2), "class", class_index=1).role
    'class'
    """

    name: str
    dims: tuple[int, ...]
    role: Literal["class", "nuisance", "attribute"]
    class_index: int | None = None
    taught: bool = True


class Lens(nn.Module, ABC):
    """Lens: a generative model around a classifier, between inputs ``(N, *S)`` and codes ``(N, d)``.

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

    #: The class that all others are explained against ("healthy"), or None for the classifier's runner-up.
    reference_class: int | None = None
    #: Whether ``encode`` is a plain forward pass. Where it searches, the mask is fitted on fewer inputs.
    encodes_directly: bool = True
    #: What ``decode`` returns: inputs, or the activations ``(N, *A)`` of the classifier's named layer, of which
    #: the classifier's tail makes logits. A lens of the second kind declares ``"retrieve"``, to show real inputs
    #: instead. ``"edits"`` is that of an :class:`EditingLens`, which decodes nothing without the input.
    decodes_to: Literal["inputs", "layer", "edits"] = "inputs"
    #: Whether images get a mask. False where the lens's own changes are no larger than they need be: they are then
    #: added to the input, ``carry="residual"``, and a mask is fitted only where ``fit(..., mask=...)`` asks for it.
    masked: bool = True
    #: Whether its backend's own fit asks the classifier what it sees in reconstructions and counterfactuals, and
    #: warns of a lens that fails; of all others ``xlens.fit`` does.
    examined: bool = False
    if TYPE_CHECKING:

        @property
        def kept_inputs(self) -> Tensor | None:
            """For type checkers a property, so that a lens may make it one, a buffer or a plain attribute."""
    else:
        #: Real inputs ``(B, *S)`` that the lens keeps, or None. The mask is fitted anew on them once it was taught.
        kept_inputs: Tensor | None = None


@dataclass(frozen=True)
class LocalEdit:
    """What a lens that edits inputs directly would change: what it fills in, and where, part by part.

    The counterfactual is ``inputs + sum_p parts[:, p] * (filled - inputs)``.

    Args:
        filled: ``(N, C, H, W)`` the inputs with the parts filled; outside of them it does not matter.
        parts: ``(N, P, H, W)`` in [0, 1], which nowhere add up to more than 1; a part that is not there is zero.
        problems: per input, in words, why there is no local counterfactual; None where there is one.
    """

    filled: Tensor
    parts: Tensor
    problems: tuple[str | None, ...]


class EditingLens(Lens):
    """A lens that edits real inputs directly, where the evidence is: nothing is encoded, and nothing decoded.

    Its code has one dimension for each part of the edit: 1 where that part of the input is as it was, 0 where it is
    filled. Its features name the parts, one dimension each, by how much they carry.
    """

    decodes_to: Literal["inputs", "layer", "edits"] = "edits"
    if TYPE_CHECKING:

        @property
        def unfit(self) -> str | None:
            """For type checkers a property, so that a lens may make it one, or a plain attribute."""

        @property
        def doubt(self) -> str | None:
            """Likewise."""
    else:
        #: Why no input of the data that it was fitted on has an answer, in words; None where some may.
        unfit: str | None = None
        #: Why edits may show no evidence though they turn the classifier, in words: such a lens is not chosen where
        #: no backend is named. None where nothing speaks against them.
        doubt: str | None = None

    @abstractmethod
    def edit(self, inputs: Tensor, target: Tensor, contrast: Tensor) -> LocalEdit:
        """Return where the evidence for `target` is, and the inputs ``(N, C, H, W)`` with it filled.

        Args:
            inputs: ``(N, C, H, W)``.
            target, contrast: ``(N,)`` the class left, and the class that the result should belong to.
        """

    @abstractmethod
    def fill(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Fill any region ``(N, 1, H, W)`` of inputs, without a look at the classifier."""

    def encode(self, inputs: Tensor) -> Tensor:
        """Return ones ``(N, P)``: every part is as it was."""
        return torch.ones(len(inputs), len(self.features), device=inputs.device, dtype=inputs.dtype)

    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Return zeros ``(N, P)``: every part is filled."""
        return torch.zeros_like(codes)

    def decode(self, codes: Tensor) -> Tensor:
        """Refuse: what a code stands for depends on the input.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            "decode: this lens edits inputs, and decodes nothing without them",
            do="ask the explainer: explain, counterfactual or traverse",
        )


@runtime_checkable
class FittedLens(Protocol):
    """A lens together with the classifier that it was fitted around: every explainer is one.

    What a backend finds in ``Run.over`` and ``Run.start_from``.
    """

    @property
    def classifier(self) -> Classifier:
        """The classifier that the lens explains."""

    @property
    def lens(self) -> Lens:
        """The fitted lens."""
