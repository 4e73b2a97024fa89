"""What remains when evidence is taken away: accuracy with and without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xlens.auditing.group import Group
from xlens.auditing.labels import labelled
from xlens.auditing.sweep import true_classes
from xlens.auditing.tone import Tone
from xlens.data import as_data
from xlens.errors import DataError
from xlens.fitted import Fitted

__all__ = ["Remedy", "cell", "remedied"]

_BATCH = 256


@dataclass(frozen=True, repr=False)
class Remedy:
    """Accuracy of the classifier with and without some evidence.

    Args:
        accuracy: on the data as they are.
        without: on the data with the evidence filled, and tones shifted.
        changed: share of decisions that change.
        there: share of the inputs in which the evidence was found.
        classes: class -> accuracy with and without.
        groups: whose evidence was filled, by name or number, and tones.
    """

    accuracy: float
    without: float
    changed: float
    there: float
    classes: dict[str, tuple[float, float]]
    groups: tuple[str, ...]

    @property
    def drop(self) -> float:
        """By how much accuracy falls without the evidence."""
        return self.accuracy - self.without

    def __repr__(self) -> str:
        """Return a table: what one wants to see at a prompt."""
        lines = [
            "| | as it is | filled |",
            "|---|---|---|",
            f"| accuracy | {self.accuracy:.3f} | {self.without:.3f} |",
        ]
        lines += [f"| {cell(name)} | {one:.3f} | {other:.3f} |" for name, (one, other) in self.classes.items()]
        filled = f"Filled: {', '.join(self.groups)}; found in {self.there:.0%} of the inputs."
        return "\n".join([*lines, "", f"{filled} {self.changed:.0%} of the decisions change."])


def remedied(fitted: Fitted, data: Any, evidence: Sequence[tuple[str, Group | Tone]]) -> Remedy:
    """Return accuracy with and without some evidence.

    Args:
        fitted: of which the classifier is asked.
        data: inputs with labels.
        evidence: groups and tones, each with what it is called.

    Raises:
        DataError: the data have no labels, or some that are no classes, or inputs of another shape.
    """
    names = fitted.class_names
    labels, before, after, there = [], [], [], []
    for batch in labelled(as_data(data), fitted, "Audit.remedy").batches(_BATCH):
        if batch.labels is None:
            raise DataError("Audit.remedy: accuracy needs labels", given=batch.unlabelled, do="pass (X, y)")
        if tuple(batch.inputs.shape[1:]) != fitted.spec.shape:
            raise DataError(
                "Audit.remedy: not the shape that the lens was fitted on",
                given=tuple(batch.inputs.shape[1:]),
                allowed=fitted.spec.shape,
                do="apply the preprocessing that the classifier was trained with",
            )
        labels.append(true_classes(batch.labels, len(names), "Audit.remedy", least=0))
        filled, found = batch.inputs.float(), torch.zeros(len(batch), dtype=torch.bool, device="cpu")
        for _, one in evidence:
            found |= one.find(filled)[1]
            filled = one.mask_out(filled)
        there.append(found)
        before.append(fitted.probabilities(batch.inputs.float()).argmax(1))
        after.append(fitted.probabilities(filled).argmax(1))
    true, own, other, found = (torch.cat(values) for values in (labels, before, after, there))
    classes = {
        name: (_mean((own == c)[true == c]), _mean((other == c)[true == c]))
        for c, name in enumerate(names)
        if bool((true == c).any())
    }
    right, still = _mean(own == true), _mean(other == true)
    return Remedy(right, still, _mean(own != other), _mean(found), classes, tuple(said for said, _ in evidence))


def cell(text: str) -> str:
    """Return a name as a cell of a Markdown table.

    >>> from xlens.auditing.remedy import cell
    >>> print(cell("rust | leaf"))
    rust \\| leaf
    """
    return " ".join(text.split()).replace("|", r"\|")


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
