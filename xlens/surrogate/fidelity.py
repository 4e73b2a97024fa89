"""How well a surrogate has stood for the classifier, on what the lens made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xlens.classifier.margins import decision_margins

__all__ = ["SurrogateFidelity", "fidelity_of"]


@dataclass(frozen=True)
class SurrogateFidelity:
    """How well a surrogate has stood for the classifier.

    All is of what the lens asked in the second half of its training, and of answers that the surrogate gave before
    it was told those of the classifier.

    Args:
        agreement: share on which it saw the class that the classifier sees; NaN where nothing was compared.
        usual: share of the class that the classifier sees most often: the agreement of who says only that one.
        score_gap: mean difference of the margins of the classifier's decision, relative to their mean.
        compared: how many answers were compared.
    """

    agreement: float
    usual: float
    score_gap: float
    compared: int

    def __str__(self) -> str:
        """Return the figures in words."""
        return (
            f"the surrogate agrees with the classifier on {self.agreement:.3f} of {self.compared} images that the "
            f"lens made (margins differ by {self.score_gap:.2f} of their mean; one class alone is {self.usual:.2f})"
        )

    def facts(self) -> dict[str, Any]:
        """Return the figures as plain JSON; None where nothing was compared."""
        figures = dataclasses.asdict(self)
        return figures if self.compared else {**dict.fromkeys(figures), "compared": 0}


def fidelity_of(said: Tensor, true: Tensor) -> SurrogateFidelity:
    """Compare a surrogate's logits ``(n, K)`` with the classifier's ``(n, K)``.

    >>> import torch
    >>> true = torch.tensor([[0.0, 2.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    >>> fidelity_of(true.flip(1)[:0], true[:0]).compared
    0
    >>> found = fidelity_of(true * torch.tensor([[1.0], [-1.0], [1.0], [1.0]]), true)
    >>> found.agreement, found.usual, found.score_gap
    (0.75, 0.75, 0.5)
    """
    if not len(true):
        return SurrogateFidelity(float("nan"), float("nan"), float("nan"), 0)
    margin, own = decision_margins(true, said)
    classes = true.argmax(1)
    same = (classes == said.argmax(1)).float().mean()
    usual = classes.bincount().max() / len(classes)
    gap = torch.sum((own - margin).abs()) / margin.sum().clamp_min(1e-12)
    return SurrogateFidelity(float(same), float(usual), float(gap), len(true))
