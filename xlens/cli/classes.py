"""The classifier of a command line: what its factory leaves open is filled, and its order of classes checked."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.data import as_data
from xlens.errors import DataError, OptionError, XlensWarning
from xlens.training.survey import classify

__all__ = ["check_order", "make_classifier"]

#: Images that are looked at, in all, and of each class at least.
_LOOKED_AT, _OF_EACH = 512, 4


def make_classifier(
    model: nn.Module | Classifier,
    *,
    layer: str | None,
    outputs: Literal["logits", "probabilities"] | None,
    class_names: Sequence[str] | None,
) -> Classifier:
    """Return the classifier with what the command line says of it.

    Args:
        model: what the factory returned; an ``xlens.Classifier`` may say the same things itself.
        layer, outputs, class_names: as for :class:`xlens.Classifier`; None where the command line says nothing.

    Raises:
        OptionError: command line and factory contradict each other; all contradictions in one error.
        ModelError: there is no such layer.
    """
    if not isinstance(model, Classifier):
        return Classifier(model, layer=layer, outputs=outputs or "logits", class_names=class_names)
    names = None if class_names is None else tuple(class_names)
    pairs = {
        "--layer": (layer, model.layer),
        "--outputs": (outputs, model.outputs),
        "--class-names": (names, model.class_names),
    }
    faults = [
        f"{option} says {said!r}, the factory's Classifier {own!r}"
        for option, (said, own) in pairs.items()
        if said is not None and own is not None and said != own
    ]
    if faults:
        raise OptionError("fit: " + "; ".join(faults), do="leave the option out, or change the factory")
    return Classifier(
        model.model,
        layer=model.layer or layer,
        outputs=model.outputs,
        class_names=model.class_names or names,
        normalization=model.normalization,
    )


def check_order(classifier: Classifier, inputs: Any, labels: Any, folders: Sequence[str]) -> None:
    """Refuse folders whose order is not that of the classifier's classes, which would name every class wrongly.

    Args:
        classifier: the classifier.
        inputs: ``(n, *S)`` images out of the folders.
        labels: ``(n,)`` the number of the folder that each lay in.
        folders: their names, sorted.

    Raises:
        DataError: as many folders as classes are needed, or the classifier agrees much better with another order.
        ModelError: the classifier fails on these images.

    Warns:
        XlensWarning: the classifier agrees with the folders no better than chance.
    """
    counts = _confusion(classifier, inputs, labels, len(folders)).double()
    classes, n = counts.shape[1], int(counts.sum())
    if classes != len(folders):
        raise DataError(
            "fit: not as many folders as the classifier has classes, so the folders cannot name them",
            given=f"{len(folders)} folders, {classes} classes",
            do=f"pass one folder per class, or --class-names with {classes} names in the classifier's order",
        )
    # Each folder counts alike, so that a large one does not hide that small ones are swapped.
    shares = counts / counts.sum(1, keepdim=True)
    agreed = float(shares.diagonal().mean())
    rows, best = linear_sum_assignment(shares.numpy(), maximize=True)
    could = float(shares[rows, best].mean())
    # As many images, were all folders of one size, would leave the mean this uncertain.
    equal = classes**2 / float((1 / counts.sum(1)).sum())
    if could - agreed > max(0.2, 2 / equal**0.5):
        order = [folders[row] for _, row in sorted(zip(best, rows, strict=True))]
        raise DataError(
            "fit: the folders' order is not that of the classifier's classes",
            given=f"of {n} images, folder by folder, it agrees with {agreed:.0%} in this order and {could:.0%} in "
            "another",
            do=f"say its own order; what fits best is --class-names {shlex.join(order)}",
        )
    if agreed <= 1 / classes:
        warnings.warn(
            f"the classifier agrees with the folders on {agreed:.0%} of {n} images, no more than chance: check "
            "--size, --mean, --std, its weights, and whether the folders name its classes",
            XlensWarning,
            stacklevel=2,
        )


def _confusion(classifier: Classifier, inputs: Any, labels: Any, folders: int) -> Tensor:
    """Count the classifier's predictions per folder, ``(folders, K)``, on images spread evenly over both."""
    labels = torch.as_tensor(labels)
    of_each = max(_LOOKED_AT // folders, _OF_EACH)
    index = torch.cat([_spread((labels == folder).nonzero()[:, 0], of_each) for folder in range(folders)])
    logits: list[Tensor] = []
    with classifier.frozen(seed=0), torch.no_grad():
        for batch in as_data(inputs[index]).batches(64):
            logits.append(classify(classifier, batch, logits).cpu())
    found = torch.cat(logits)
    counts = torch.zeros(folders, found.shape[1], dtype=torch.long)
    ones = torch.ones(len(index), dtype=torch.long)
    return counts.index_put_((labels[index], found.argmax(1)), ones, accumulate=True)


def _spread(index: Tensor, most: int) -> Tensor:
    return index[torch.linspace(0, len(index) - 1, min(len(index), most)).round().long()]
