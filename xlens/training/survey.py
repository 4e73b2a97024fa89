"""One pass over the data: their shape and range, and what the classifier says of each input."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.pieces import in_pieces
from xlens.contracts.backend import Spec
from xlens.data import Batch, Data
from xlens.data.batch import several_labels
from xlens.errors import DataError, ModelError, XlensError, XlensWarning, warn
from xlens.training.bar import Bar

__all__ = ["Statistics", "Survey", "classify", "measured", "survey"]

_SAMPLE = 512
_SAMPLED_BATCHES = 32
#: Values of inputs that are kept at once: 256 MB of float32, or 16 of each batch of images up to 147x147 in colour.
_SAMPLED_VALUES = 1 << 26
#: What outputs are called that were taken for logits and are the same after a sigmoid.
_SQUASHED = {"logits": "probabilities", "multilabel": "multilabel_probabilities"}


@dataclass(frozen=True)
class Survey:
    """What one pass over the data found.

    Args:
        spec: shape, range and classes.
        logits: ``(n, K)`` the classifier's outputs in the data's order, or None for a stream of batches and for
            data with random transforms.
        sample: up to 512 of the inputs, for what needs a look at the data.
        digest: a hash of inputs and labels in their order; empty for a stream of batches.
        seen: a hash of what this pass saw, batch by batch, also where another pass sees something else.
    """

    spec: Spec
    logits: Tensor | None
    sample: Tensor
    digest: str
    seen: str


class Statistics:
    """Running range and moments per channel.

    Args:
        shape: of one input, channels first.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        channels = shape[0]
        self.shape = shape
        self.count = 0
        self.minimum = torch.full((channels,), torch.inf)
        self.maximum = torch.full((channels,), -torch.inf)
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.square = torch.zeros(channels, dtype=torch.float64)

    def add(self, inputs: Tensor) -> None:
        """Add inputs ``(n, *S)``.

        Raises:
            DataError: they are of another shape.
        """
        if tuple(inputs.shape[1:]) != self.shape:
            raise DataError(
                "data: inputs of different shapes",
                given=f"{tuple(inputs.shape[1:])} after {self.shape}",
                do="resize or crop all inputs to one shape",
            )
        values = inputs.transpose(0, 1).flatten(1)
        self.minimum = torch.minimum(self.minimum, values.amin(1))
        self.maximum = torch.maximum(self.maximum, values.amax(1))
        self.total += values.double().sum(1)
        self.square += values.double().square().sum(1)
        self.count += values.shape[1]

    def as_tuples(self) -> dict[str, tuple[float, ...]]:
        """Return ``minimum``, ``maximum``, ``mean`` and ``std`` of each channel."""
        mean = self.total / self.count
        std = (self.square / self.count - mean.square()).clamp_min(0).sqrt()
        named = {"minimum": self.minimum, "maximum": self.maximum, "mean": mean, "std": std}
        return {name: tuple(values.tolist()) for name, values in named.items()}


def survey(classifier: Classifier, data: Data, *, progress: bool | None = None, use_labels: bool = False) -> Survey:
    """Survey of the data: one pass that checks them, and keeps what the classifier says.

    Args:
        classifier: the frozen classifier.
        data: the user's data.
        progress: whether to show a progress bar; None shows it on a terminal.
        use_labels: whether the data's own labels will be used, and so have to be there and to fit.

    Raises:
        DataError: no inputs, inputs of different shapes, values that are not finite, constant inputs,
            or labels that are missing or outside the classifier's classes.
        ModelError: the classifier gives values that are not finite, or its number of classes changes.

    Warns:
        XlensWarning: the data look like those of independent labels, and the outputs are read as classes.
    """
    statistics: Statistics | None = None
    logits: list[Tensor] = []
    sample: list[Tensor] = []
    labelled, several = set[int](), False
    digest = hashlib.sha256()
    bar = Bar(desc="survey", unit="input", disable=None if progress is None else not progress)
    with torch.no_grad(), bar:
        for batch in data.batches():
            statistics = statistics or Statistics(tuple(batch.inputs.shape[1:]))
            statistics.add(batch.inputs)
            found = classify(classifier, batch, logits)
            labels = _checked_labels(batch, found.shape[1]) if use_labels else None
            logits.append(found.float().cpu())
            several |= batch.unlabelled == several_labels(found.shape[1])
            # Sharing out a stream goes by its batches, so how it is cut counts as well.
            digest.update(b"" if data.indexed else f"{len(batch)};".encode())
            digest.update(batch.inputs.contiguous().numpy().tobytes())
            if labels is not None:
                labelled.update(labels.long().unique().tolist())
                digest.update(labels.contiguous().numpy().tobytes())
            some = _at_most(batch.inputs)
            sample.append(batch.inputs[:: max(len(batch) // some, 1)][:some].clone())
            # Halved when it grows too long, so that it stays spread over all of the data.
            if len(sample) > 2 * _SAMPLED_BATCHES:
                sample = sample[::2]
            bar.update(len(batch))
    if statistics is None:
        raise DataError("data: there are no inputs")
    figures = statistics.as_tuples()
    if all(low == high for low, high in zip(figures["minimum"], figures["maximum"], strict=True)):
        raise DataError("data: every input is the same constant", do="check how the inputs are loaded")
    outputs = torch.cat(logits)
    if classifier.outputs in _SQUASHED and _sigmoid(outputs):
        raise ModelError(
            "fit: the classifier's single output looks like a probability, and a logit was promised",
            given=f"{len(outputs)} numbers from 0 to 1",
            do=f"say so: xlens.fit(xlens.Classifier(model, outputs={_SQUASHED[classifier.outputs]!r}), ...); or "
            "pass the model without its sigmoid",
        )
    if outputs.argmax(1).unique().numel() < 2:
        raise DataError(
            "data: the classifier puts every input in one class, so there is nothing to contrast",
            given=f"{len(outputs)} inputs, all of class {int(outputs[0].argmax())}{_called(classifier, outputs)}",
            allowed="inputs of at least two predicted classes",
            do="pass data that hold more classes, or check that they are preprocessed as in training",
        )
    if use_labels and len(labelled) < 2:
        raise DataError(
            "fit: all labels are the same, so there is nothing to contrast",
            given=f"{len(outputs)} labels, all {labelled.pop()}",
            allowed="labels of at least two classes",
            do="pass data that hold more classes, or leave supervision='classifier'",
        )
    if several and classifier.outputs in ("logits", "probabilities"):
        warn(
            f"fit: beside the inputs are 0 or 1 for each of the classifier's {outputs.shape[1]} outputs, as of "
            "independent labels, and these are read as classes that exclude each other. Of labels, say so: "
            "Classifier(model, outputs='multilabel', label=0), or 'multilabel_probabilities' after a sigmoid",
            XlensWarning,
        )
    spec = _spec(statistics, outputs)
    seen = digest.hexdigest()
    if not data.indexed or not _repeats(data):
        return Survey(spec, None, torch.cat(sample)[:_SAMPLE], "", seen)
    return Survey(spec, outputs, torch.cat(sample)[:_SAMPLE], seen, seen)


def measured(classifier: Classifier, data: Data) -> Spec:
    """Return what is known of data and classifier by a look at them, without asking whether a lens could be fitted.

    Args:
        classifier: the frozen classifier.
        data: the user's data.

    Raises:
        DataError: no inputs, or inputs of different shapes.
        ModelError: the classifier gives values that are not finite, or its number of classes changes.
    """
    statistics: Statistics | None = None
    logits: list[Tensor] = []
    with torch.no_grad():
        for batch in data.batches():
            statistics = statistics or Statistics(tuple(batch.inputs.shape[1:]))
            statistics.add(batch.inputs)
            logits.append(classify(classifier, batch, logits).float().cpu())
    if statistics is None:
        raise DataError("data: there are no inputs")
    return _spec(statistics, torch.cat(logits))


def _called(classifier: Classifier, outputs: Tensor) -> str:
    """Return what the class is called that all inputs are put in, where it has a name."""
    names = classifier.class_names or ()
    predicted = int(outputs[0].argmax())
    return f" ({names[predicted]!r})" if predicted < len(names) else ""


def _spec(statistics: Statistics, outputs: Tensor) -> Spec:
    return Spec(
        shape=statistics.shape,
        num_classes=outputs.shape[1],
        class_margins=_class_margins(outputs),
        **statistics.as_tuples(),
    )


def _sigmoid(logits: Tensor) -> bool:
    """Whether a single logit, which stands beside a column of zeros, is never below 0 and never above 1."""
    single = logits.shape[1] == 2 and not bool(logits[:, 0].any())
    return single and bool(((logits[:, 1] >= 0) & (logits[:, 1] <= 1)).all()) and bool(logits[:, 1].any())


def _repeats(data: Data) -> bool:
    """Whether the data set gives the same inputs again; with random transforms it does not."""
    some = torch.arange(min(8, len(data)))
    return torch.equal(data.take(some).inputs, data.take(some).inputs)


def _at_most(inputs: Tensor) -> int:
    """Return how many inputs of a batch are kept: 16, or fewer where they are large, at least one."""
    return min(16, max(1, _SAMPLED_VALUES // (2 * _SAMPLED_BATCHES * max(1, inputs[0].numel()))))


def classify(classifier: Classifier, batch: Batch, before: list[Tensor]) -> Tensor:
    """Return the classifier's logits ``(n, K)`` on a batch.

    Args:
        classifier: the frozen classifier.
        batch: the inputs.
        before: logits of earlier batches, which have to be of as many classes.

    Raises:
        ModelError: the classifier fails, gives values that are not finite, or its number of classes changes.
    """
    try:
        logits = in_pieces(classifier, batch.inputs)
    except XlensError:
        raise
    except Exception as fault:
        says = (str(fault) or type(fault).__name__).splitlines()[0]
        raise ModelError(
            "fit: the classifier fails on these data",
            given=f"inputs of shape {tuple(batch.inputs.shape)}; it says: {says}",
            do="check the number of channels, the size, and that data and model were preprocessed alike"
            # A list is one of batches; single images in one are a mistake that is easily made.
            + ("; of images in a list, pass torch.stack(images)" if batch.inputs.dim() == 3 else ""),
        ) from fault
    if not bool(logits.isfinite().all()):
        raise ModelError(
            "fit: the classifier returns values that are not finite",
            do="check its weights and the range of the inputs",
        )
    if before and before[0].shape[1] != logits.shape[1]:
        raise ModelError(
            "fit: the classifier's number of classes changes between batches",
            given=f"{before[0].shape[1]}, then {logits.shape[1]}",
        )
    return logits


def _checked_labels(batch: Batch, num_classes: int) -> Tensor:
    if batch.labels is None:
        raise DataError(
            "fit: supervision='labels', but the data have no labels",
            given=batch.unlabelled or "no labels",
            allowed="one whole number per input, (n,) or (n, 1), or one-hot rows (n, K)",
            do="pass (X, y), or leave supervision='classifier': the lens explains the classifier, not the labels",
        )
    if not bool((batch.labels == batch.labels.long()).all()):
        raise DataError(
            "fit: labels are not class indices",
            given=f"{batch.labels.dtype} with values that are no whole numbers",
            allowed=f"ints from 0 to {num_classes - 1}",
        )
    low, high = int(batch.labels.min()), int(batch.labels.max())
    if low < 0 or high >= num_classes:
        raise DataError(
            "fit: labels outside the classifier's classes",
            given=f"labels from {low} to {high}",
            allowed=f"0 to {num_classes - 1}",
        )
    return batch.labels


def _class_margins(logits: Tensor) -> tuple[tuple[float, ...], ...]:
    predicted = logits.argmax(1)
    rows = []
    for c in range(logits.shape[1]):
        own = logits[predicted == c]
        margins = (own[:, c : c + 1] - own).median(0).values if len(own) else torch.zeros(logits.shape[1])
        rows.append(tuple(round(value, 5) for value in margins.tolist()))
    return tuple(rows)
