"""What everybody is judged by, and a figure before it has an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.contracts.additions import MapMetric
from xlens.evaluation.contenders import Asked

__all__ = ["Score", "Suite", "of_all"]


@dataclass(frozen=True)
class Score:
    """A figure before it has an interval: values ``(m,)`` of the inputs `index`, or one value of the whole set."""

    name: str
    values: Tensor
    better: str = ""
    index: Tensor | None = None


@dataclass(frozen=True)
class Suite:
    """What everybody is judged by.

    Args:
        asked: the inputs and what is known of them.
        masks: ``(N, 1, *spatial)`` bool, or None.
        oracles: name -> independent classifier, frozen by the caller.
        smoothing: standard deviation in pixels of the Gaussian under which maps are judged once more; 0 for not.
        share: of the pixels, for the drop.
        points: of the curves of deletion, insertion and COUT.
        added: third parties' figures of maps.
        notes: what was left out, and why; it grows.
    """

    asked: Asked
    masks: Tensor | None
    oracles: Mapping[str, Classifier]
    smoothing: float
    share: float
    points: int
    added: tuple[MapMetric, ...] = ()
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say once what was left out, and why."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def span(self) -> float:
        """Largest minus smallest value of the data."""
        return (max(self.asked.spec.maximum) - min(self.asked.spec.minimum)) or 1.0

    @property
    def masked(self) -> Tensor:
        """Positions of the inputs that have a mask with something in it."""
        if self.masks is None:
            return torch.empty(0, dtype=torch.long)
        return self.masks.flatten(1).any(1).nonzero()[:, 0]

    @cached_property
    def has_clean(self) -> Tensor:
        """Which inputs differ from themselves without their cause, ``(N,)`` bool."""
        inputs, clean = self.asked.inputs, self.asked.clean
        if clean is None:
            return torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
        return (inputs != clean).flatten(1).any(1)


def of_all(name: str, value: float, better: str = "") -> Score:
    """Return a figure of the whole set."""
    return Score(name, torch.tensor([value], dtype=torch.float64), better, torch.empty(0, dtype=torch.long))
