"""What a model's outputs stand for, and how they become the logits of classes that exclude each other.

A lens contrasts one class with another. Independent labels, a number and ordered grades are therefore read as two
classes, about one label or one threshold at a time: present or absent, above or below. Everything else in xlens
holds for them as it does for a model of two classes, and knows nothing of where the two came from. What a lens
learns is about these two, so that each label that is explained has a lens of its own, around the same model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.classifier.names import ordered_names
from xlens.errors import ModelError, did_you_mean

__all__ = ["OutputKind", "Outputs", "outputs_of", "rows_of", "tensor_of"]

#: What a model may return.
OutputKind: TypeAlias = Literal[
    "logits", "probabilities", "multilabel", "multilabel_probabilities", "regression", "ordinal"
]

_LABELS, _CUT = ("multilabel", "multilabel_probabilities"), ("regression", "ordinal")


@dataclass(frozen=True)
class Outputs:
    """What a model's outputs are, and which two classes are read out of them.

    Args:
        kind: what the model returns.
        labels: names of independent labels, or of ordered grades, in the model's order; None where none were given.
        label: the label that is asked about, of independent ones; None for all of them at once, side by side.
        threshold: what a number, or a grade, is asked to be above.
    """

    kind: OutputKind
    labels: tuple[str, ...] | None = None
    label: int | None = None
    threshold: float | None = None

    @property
    def independent(self) -> bool:
        """Whether the model's outputs are labels of which any number may hold at once."""
        return self.kind in _LABELS

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes that are read out of the outputs, where they follow from what was asked."""
        if self.threshold is not None:
            return self._sides(self.threshold)
        if self.label is None:
            return self.labels
        name = self.labels[self.label] if self.labels else f"label {self.label}"
        return (f"no {name}", name)

    @property
    def key(self) -> str:
        """What of this decides what the classifier says, as text for its fingerprint."""
        asked = {"label": self.label, "threshold": self.threshold}
        return self.kind + "".join(f"|{name}={value}" for name, value in asked.items() if value is not None)

    def logits(self, values: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of what the model returned, ``(N, M)``.

        Raises:
            ModelError: the outputs have no such label, or no such threshold.
        """
        return _READ[self.kind](self, values)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities ``(N, K)`` of :meth:`logits`: those of independent labels need not sum to 1."""
        return logits.sigmoid() if self.independent and self.label is None else logits.softmax(1)

    def zero(self, columns: int) -> bool:
        """Whether the logit of the first class is 0 by definition, where the model gives so many numbers."""
        if self.kind in ("logits", "probabilities"):
            return self.kind == "logits" and columns == 1
        return self.label is not None or self.kind == "regression"

    def _sides(self, threshold: float) -> tuple[str, str]:
        if self.kind == "regression":
            return f"below {threshold:g}", f"above {threshold:g}"
        grade = int(threshold)
        name = self.labels[grade] if self.labels and grade < len(self.labels) else f"grade {grade}"
        return f"below {name}", f"{name} or above"


def _logits(_: Outputs, values: Tensor) -> Tensor:
    return _against_zero(values) if values.shape[1] == 1 else values


def _probabilities(_: Outputs, values: Tensor) -> Tensor:
    if values.shape[1] == 1:
        values = torch.cat([1 - values, values], 1)
    return values.clamp_min(torch.finfo(values.dtype).tiny).log()


def _labels(outputs: Outputs, values: Tensor) -> Tensor:
    count, label = values.shape[1], outputs.label
    if outputs.labels is not None and len(outputs.labels) != count:
        raise ModelError(
            "Classifier: labels do not fit the model",
            given=f"{len(outputs.labels)} names for {count} outputs",
            do="name every label of the model once, in its order",
        )
    if label is None:
        return values
    if label >= count:
        raise ModelError("Classifier: the model has no such label", given=label, allowed=f"0 to {count - 1}")
    return _against_zero(values[:, label : label + 1])


def _label_probabilities(outputs: Outputs, values: Tensor) -> Tensor:
    # Where float32 ends, so that no logit is infinite.
    tiny = torch.finfo(values.dtype).eps
    return _labels(outputs, values.clamp(tiny, 1 - tiny).logit())


def _regression(outputs: Outputs, values: Tensor) -> Tensor:
    if values.shape[1] != 1:
        raise ModelError(
            "Classifier: outputs='regression' is of one number per input",
            given=f"{values.shape[1]} numbers",
            do="wrap the model in a module that returns the number to explain, (N,) or (N, 1)",
        )
    return _against_zero(values - float(outputs.threshold or 0))


def _ordinal(outputs: Outputs, values: Tensor) -> Tensor:
    first = int(outputs.threshold or 0)
    if values.shape[1] == 1:
        raise ModelError(
            "Classifier: outputs='ordinal' is of one logit for each grade",
            given="one number per input",
            do="say outputs='regression', and as threshold where the upper grade begins on that scale",
        )
    if not 0 < first < values.shape[1]:
        raise ModelError(
            "Classifier: threshold is no grade that others lie below",
            given=first,
            allowed=f"1 to {values.shape[1] - 1}, the index of the first grade above",
        )
    return torch.stack([values[:, :first].logsumexp(1), values[:, first:].logsumexp(1)], 1)


def _against_zero(single: Tensor) -> Tensor:
    return F.pad(single, (1, 0))


_READ: dict[str, Callable[[Outputs, Tensor], Tensor]] = {
    "logits": _logits,
    "probabilities": _probabilities,
    "multilabel": _labels,
    "multilabel_probabilities": _label_probabilities,
    "regression": _regression,
    "ordinal": _ordinal,
}


def outputs_of(
    kind: str,
    labels: Sequence[str] | Mapping[int, str] | Mapping[str, str] | None,
    label: int | str | None,
    threshold: float | None,
) -> Outputs:
    """Return what a user says of a model's outputs, checked.

    Raises:
        ModelError: there is no such kind of outputs, what was said does not belong to it, or no such label.

    >>> from xlens.classifier.outputs import outputs_of
    >>> outputs_of("multilabel", ["rust", "miner"], "miner", None).class_names
    ('no miner', 'miner')
    """
    found: dict[str, OutputKind] = {known: known for known in get_args(OutputKind)}
    if not isinstance(kind, str) or kind not in found:
        allowed = ", ".join(map(repr, found))
        raise ModelError("Classifier: outputs is wrong", given=repr(kind), allowed=allowed)
    said = {"labels": (labels, (*_LABELS, "ordinal")), "label": (label, _LABELS), "threshold": (threshold, _CUT)}
    for name, (value, kinds) in said.items():
        if value is not None and kind not in kinds:
            raise ModelError(
                f"Classifier: {name} says nothing of outputs={kind!r}",
                given=f"{name}={value!r}",
                allowed=" or ".join(f"outputs={one!r}" for one in kinds),
                do="name the classes with class_names" if name == "labels" else f"say outputs, or leave {name} out",
            )
    names = ordered_names(labels, "labels")
    return Outputs(found[kind], names, _index(label, names), _checked_threshold(kind, threshold))


def _index(label: int | str | None, names: tuple[str, ...] | None) -> int | None:
    if label is None:
        return None
    if isinstance(label, str):
        if names is not None and names.count(label) == 1:
            return names.index(label)
        raise ModelError(
            f"Classifier: label is not the name of one label.{did_you_mean(label, names or ())}",
            given=repr(label),
            allowed=", ".join(names) if names else "a number, because labels=[...] does not name them",
            do="use a name of labels=[...], each of which is there once, or the label's number",
        )
    most = None if names is None else len(names) - 1
    if isinstance(label, bool) or not isinstance(label, int) or label < 0 or (most is not None and label > most):
        raise ModelError(
            "Classifier: label is no label",
            given=repr(label),
            allowed=f"0 to {most}, or a name"
            if most is not None
            else "an int from 0 on, or a name of labels=[...]",
        )
    return label


def _checked_threshold(kind: str, threshold: float | None) -> float | None:
    if kind not in _CUT:
        return None
    number = not isinstance(threshold, bool) and isinstance(threshold, int | float) and math.isfinite(threshold)
    if not number or (kind == "ordinal" and threshold != int(threshold or 0)):
        raise ModelError(
            f"Classifier: outputs={kind!r} is explained as above a threshold rather than below it",
            given=f"threshold={threshold!r}",
            allowed="a number" if kind == "regression" else "the index of the first grade above, a whole number",
            do="say threshold=",
        )
    return float(threshold or 0)


def rows_of(output: Any, inputs: Tensor) -> Tensor:
    """Return one row of scores per input, ``(N, M)``, of whatever a model returned.

    Raises:
        ModelError: it returned something else.
    """
    values = tensor_of(output)
    if len(inputs) == 1 and values.dim() < 2:
        # A model that squeezes its output loses the batch dimension of a single input.
        values = values.reshape(1, -1)
    elif values.dim() == 1 and len(values) == len(inputs):
        values = values.unsqueeze(1)
    if values.dim() != 2 or len(values) != len(inputs) or values.shape[1] == 0:
        raise ModelError(
            "Classifier: the model does not return one row of class scores per input",
            given=f"an output of shape {tuple(values.shape)} for {len(inputs)} inputs",
            allowed="(N, K), or (N,) or (N, 1) for binary decisions",
            do="wrap the model in a module that returns its class logits",
        )
    return values


def tensor_of(output: Any) -> Tensor:
    """Return the tensor of scores in whatever a model returned.

    Raises:
        ModelError: there is none, or more than one that it may be.
    """
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits
    if isinstance(output, Mapping):
        if isinstance(output.get("logits"), Tensor):
            return output["logits"]
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        if len(tensors) == 1:
            return tensors[0]
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        return output[0]
    if isinstance(output, Tensor):
        return output
    given = f"{type(output).__name__}"
    if isinstance(output, Mapping):
        given += f" with keys {sorted(map(str, output))}"
    raise ModelError(
        "Classifier: cannot find the logits in what the model returns",
        given=given,
        allowed="a tensor, a tuple whose first element is one, a dict with 'logits', or an object with .logits",
        do="wrap the model in a module whose forward returns the logits",
    )
