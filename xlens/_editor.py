"""The part of an explainer that edits by name: directions, what leaks between them, and how far f is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from xlens._arguments import check_explain
from xlens._edit import Steps, carry_edit, directions_of, held_names, measure_leakage, steps_to_flip
from xlens.attr.edit import Carry
from xlens.classifier import Classifier
from xlens.contracts import Lens, Spec
from xlens.data import as_inputs
from xlens.nn.mask import EditMask

__all__ = ["Editor"]

_BATCH = 64


class Editor:
    """Mixed into the explainer, which brings everything that is only declared here."""

    classifier: Classifier
    lens: Lens
    spec: Spec
    mask: EditMask | None
    device: torch.device
    _asking: Callable[[], AbstractContextManager[None]]
    _require: Callable[[str], None]
    _require_decoder: Callable[[str], None]
    _classes: Callable[..., tuple[Tensor, Tensor]]

    def edit(
        self,
        inputs: Any,
        amounts: Mapping[str, float | Tensor],
        *,
        carry: Carry | None = None,
        hold: Sequence[str] = (),
    ) -> Tensor:
        """Add amounts of named features or directions to each input, or take them away, ``(N, *S)``.

        Args:
            inputs: ``(N, *S)``.
            amounts: name of a direction or feature -> how much: a number, or ``(N,)``. Along a direction it is a
                distance in the code; a feature's block is lengthened by it, as in :meth:`traverse`.
            carry: ``"residual"`` (default) adds the decoding's change to the input; ``"masked"`` adds the mask's
                share of it, and opens the mask further only where f sees another class on the decoding than on the
                reconstruction; ``"none"`` returns the decoding itself.
            hold: directions to which the edit, along directions and features alike, is made perpendicular at the
                same length, as one of two correlated attributes asks for.

        Raises:
            OptionError: an unknown name, an amount that is no number, or nothing left after holding.
            UnsupportedError: something is held, and this lens has no directions; or it decodes to a hidden layer.

        >>> explainer.edit(images[:2], {"evidence for class 1": -0.5}).shape
        torch.Size([2, 1, 8, 8])
        """
        self._require_decoder("edit")
        carry = check_explain("edit", self.mask is not None, carry=carry or "residual")
        hold = held_names(hold)
        if hold:
            self._require("directions")
        with self._asking():
            source = as_inputs(inputs, self.spec.shape)
            edited = carry_edit(self, source.to(self.device), amounts, carry, hold, _BATCH)
        return edited.to(source.device)

    @property
    def directions(self) -> Mapping[str, Tensor]:
        """Name -> unit vector ``(d,)`` of the code along which it grows; empty where the lens has none."""
        return directions_of(self.lens)

    def leakage(self, inputs: Any, amount: float = 3.0, *, orthogonal: bool = False) -> dict[str, dict[str, float]]:
        """Measure how much an edit along each direction changes what the lens reads along the others.

        Each edit is decoded and encoded again; the figures are changes per unit of the edit, averaged over inputs.

        Args:
            inputs: ``(N, *S)``.
            amount: length of the edits.
            orthogonal: hold others in each edit: the least related (by cosine) first, and none that would leave
                less than 0.4 of the edit. Directions of K classes depend on each other, so that of two classes one
                stays free always, and of more the one most opposed, as a rule.

        Returns:
            edited direction -> direction read -> change.

        Raises:
            OptionError: the amount is no number, not finite, or 0.
            UnsupportedError: this lens has no directions.
        """
        self._require("directions")
        self._require_decoder("leakage")
        with self._asking():
            source = as_inputs(inputs, self.spec.shape).to(self.device)
            return measure_leakage(self.lens, source, amount, orthogonal, _BATCH)

    def steps(
        self, inputs: Any, *, target: int | Tensor | None = None, contrast: int | Tensor | None = None
    ) -> Steps:
        """Return how far in the code f flips on the decoding, how far the counterfactual goes, and if far enough.

        Arguments as in :meth:`explain`.

        >>> steps = explainer.steps(images[:2])
        >>> steps.flip.shape, steps.used.shape, steps.reached.dtype
        (torch.Size([2]), torch.Size([2]), torch.bool)
        """
        self._require_decoder("steps")
        with self._asking():
            source = as_inputs(inputs, self.spec.shape)
            moved = source.to(self.device)
            target, contrast = self._classes(moved, target, contrast, _BATCH)
            found = steps_to_flip(self.classifier, self.lens, self.spec, moved, target, contrast, _BATCH)
        return Steps(*(part.to(source.device) for part in found))
