"""What lenses that ask their classifier have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import margin_over_rest, score_margin
from xlens.contracts.backend import Spec
from xlens.contracts.lens import Lens

__all__ = ["AskingLens", "decoded_as"]


class AskingLens(Lens):
    """A lens that asks its classifier how it sees decodings.

    The classifier is neither a submodule nor part of the state.

    Args:
        classifier: the user's classifier.
        spec: the data and the classes.
    """

    margins: Tensor

    def __init__(self, classifier: Classifier, spec: Spec) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is neither submodule nor state
        self.spec = spec
        self.register_buffer("margins", spec.usual_margins(), persistent=False)

    @property
    def classifier(self) -> Classifier:
        """The classifier that the lens was fitted around."""
        return self._classifier[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, no two of them the same."""
        return self.classifier.names(self.spec.num_classes)

    def convinces(self, codes: Tensor, target: Tensor, contrast: Tensor) -> tuple[Tensor, Tensor]:
        """Ask the classifier whether decodings are what counterfactuals should be.

        Args:
            codes: ``(N, d)``.
            target, contrast: ``(N,)`` the class left and the class wanted.

        Returns:
            The classifier's margin of `contrast` over all others ``(N,)``, and whether it is above 0 and that over
            `target` is the median that the classifier gives to real inputs of `contrast`, ``(N,)`` bool.
        """
        logits = self.classifier(self.decode(codes)).to(codes.dtype)
        over_rest = margin_over_rest(logits, contrast)
        # As `slack` has it, which would ask for the margin over the rest once more.
        sure = score_margin(logits, contrast, target) >= self.margins[contrast, target]
        return over_rest, sure & (over_rest > 0)

    def slack(self, logits: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Return by how much logits ``(N, K)`` exceed what :meth:`convinces` asks for, ``(N,)``."""
        sure = score_margin(logits, contrast, target) - self.margins[contrast, target]
        return torch.minimum(sure, margin_over_rest(logits, contrast))


def decoded_as(lens: Lens, classifier: Classifier, codes: Tensor, target: int) -> Tensor:
    """Return the decodings ``(N, *S)`` of codes, moved to class `target` where the classifier sees another.

    Args:
        lens: decodes, and moves by its own ``counterfactual``.
        classifier: asked what it sees.
        codes: ``(N, d)``, which are changed.
        target: the class.
    """
    wanted = torch.full((len(codes),), target, device=codes.device)
    seen = classifier(lens.decode(codes)).argmax(1)
    others = (seen != wanted).nonzero()[:, 0]
    if len(others):
        codes[others] = lens.counterfactual(codes[others], seen[others], wanted[others])
    return lens.decode(codes)
