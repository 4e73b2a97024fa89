"""One batch: what of it are inputs and what labels, and the checks of both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xlens.data.numbers import as_tensor, is_array
from xlens.errors import DataError
from xlens.files.plain import said

__all__ = ["Batch", "batch_labels", "check", "collate", "columns", "fitting", "remedy", "to_batch"]

_INPUT_KEYS = ("pixel_values", "image", "images", "inputs", "input", "x")
_LABEL_KEYS = ("labels", "label", "targets", "target", "y")
#: Why there are no labels where none were given.
_NONE = "no labels"


@dataclass(frozen=True)
class Batch:
    """Batch of checked inputs ``(n, *S)``, with what labels and positions they have.

    Args:
        inputs: ``(n, *S)`` float.
        labels: ``(n,)`` class indices, or None.
        index: ``(n,)`` positions in the data set, or None where there is no stable order.
        unlabelled: why there are no labels, in words.
        columns: ``(n, K)`` numbers beside the inputs, of which one column may be labels, or None.
    """

    inputs: Tensor
    labels: Tensor | None = None
    index: Tensor | None = None
    unlabelled: str = ""
    columns: Tensor | None = None

    @property
    def refused(self) -> str:
        """Why what was given as labels is none, in words; empty where it is, and where nothing was given."""
        return "" if self.labels is not None or self.unlabelled == _NONE else self.unlabelled

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.inputs)

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on `device`."""
        move = lambda tensor: None if tensor is None else tensor.to(device)  # noqa: E731
        return Batch(
            self.inputs.to(device), move(self.labels), move(self.index), self.unlabelled, move(self.columns)
        )


def collate(items: Sequence[Any]) -> Batch:
    """Return single inputs, each alone, first in a tuple, or in a dict, as a batch.

    What lies beside them need not make a batch: it is looked at only as far as it is labels.

    Raises:
        DataError: the inputs do not make a batch of tensors.
    """
    pairs = [_parted(item) for item in items]
    try:
        inputs = torch.stack([as_tensor(one) for one, _ in pairs])
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(
            "data: the items of the data set do not make a batch of tensors",
            given=said(fault),
            allowed="tensors or arrays of one shape, alone, first in a tuple, or in a dict",
            do=remedy(pairs[0][0], "add a transform that turns each input into a tensor of one shape"),
        ) from None
    beside = [one for _, one in pairs]
    if any(isinstance(one, tuple | list | Mapping) for one in beside):
        return Batch(inputs, unlabelled=f"{_kind(beside)} beside the inputs, and not one label each")
    labels, why = class_labels(beside)
    return Batch(inputs, labels, None, why, _rows(beside))


def to_batch(item: Any) -> Batch:
    """Return what a loader gives as a batch.

    Raises:
        DataError: it holds no inputs.
    """
    if isinstance(item, Batch):
        return item
    inputs, beside = _parted(item)
    try:
        found = as_tensor(inputs)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(
            "data: a batch does not hold tensors",
            given=said(fault),
            allowed="a tensor, a tuple that begins with one, or a dict",
            do=remedy(inputs, "add a transform that turns each input into a tensor"),
        ) from None
    labels, why = batch_labels(beside)
    return Batch(found, labels, None, why, columns(beside))


def batch_labels(beside: Any) -> tuple[Tensor | None, str]:
    """Return what lies beside a batch of inputs as :func:`class_labels` does; several targets are no labels."""
    if isinstance(beside, tuple | list) and any(
        isinstance(one, tuple | list | Mapping) or _is_row(one) for one in beside
    ):
        return None, f"{_kind(beside)} beside the inputs, which are several targets"
    return class_labels(beside)


def remedy(given: Any, otherwise: str) -> str:
    """Return what to do with what is no tensor yet: of a photograph or a path nobody but the user knows how it
    becomes an input.

    >>> from PIL import Image
    >>> remedy(Image.new("L", (4, 4)), "")
    'make inputs as the classifier was trained: torch.stack([transform(image) for image in images])'
    """
    if isinstance(given, str | os.PathLike):
        return (
            "read the images as the classifier was trained: torchvision.datasets.ImageFolder(folder, transform); "
            "the commands xlens fit and xlens explain read folders themselves"
        )
    if any(kind.__module__.startswith("PIL.") for kind in type(given).__mro__):
        return "make inputs as the classifier was trained: torch.stack([transform(image) for image in images])"
    return otherwise


def class_labels(values: Any) -> tuple[Tensor | None, str]:
    """Return labels as ``(n,)``, or None and, in words, why there are none.

    Nothing is refused here: what is no label may be there for something else, and labels are not needed.

    Args:
        values: whole numbers, ``(n,)`` or ``(n, 1)``, or one-hot rows ``(n, K)``, in any form that holds
            numbers; or anything else.
    """
    if values is None or (isinstance(values, tuple | list) and values and all(one is None for one in values)):
        return None, _NONE
    try:
        labels = as_tensor(values)
    except Exception as fault:  # noqa: BLE001 - it need not be labels, and may fail in any way
        return None, f"{_kind(values)} beside the inputs, which are no numbers ({said(fault)})"
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dim() == 2 and len(labels) and _one_hot(labels):
        labels = labels.long().argmax(1)
    if labels.dim() == 1:
        return labels.detach(), ""
    if labels.dim() == 2 and bool(((labels == 0) | (labels == 1)).all()):
        return None, several_labels(labels.shape[1])
    return (
        None,
        f"numbers of shape {tuple(labels.shape)} beside the inputs, which are no class indices or one-hot rows",
    )


def columns(values: Any) -> Tensor | None:
    """Return a table of numbers beside inputs, ``(n, K)`` of K > 1, and None of anything else.

    >>> columns(torch.zeros(5, 3)).shape, columns(torch.zeros(5, 1)), columns(["a", "b"])
    (torch.Size([5, 3]), None, None)
    """
    if not (is_array(values) or hasattr(values, "to_numpy")) or values.ndim != 2 or values.shape[1] < 2:
        return None
    try:
        return as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError):  # no numbers
        return None


def _rows(values: list[Any]) -> Tensor | None:
    """Return what lies beside single inputs as :func:`columns` does: a row beside each."""
    try:
        return columns(as_tensor(values)) if all(map(_is_row, values)) else None
    except (TypeError, ValueError, RuntimeError):  # no numbers, or rows of several lengths
        return None


def several_labels(count: int) -> str:
    """Return what is said of rows that have 0 or 1 for each of so many labels.

    >>> class_labels(torch.tensor([[1, 1, 0], [0, 0, 0]]))[1] == several_labels(3)
    True
    """
    return f"0 or 1 in each of {count} columns beside the inputs, which are several labels of each"


def check(batch: Batch) -> Batch:
    """Return a batch of finite floats.

    Raises:
        DataError: there are no inputs, or some are not finite.
    """
    inputs = batch.inputs
    if inputs.dim() < 2 or len(inputs) == 0:
        raise DataError(
            "data: a batch has no inputs",
            given=f"shape {tuple(inputs.shape)}",
            allowed="(n, *S) with n >= 1",
            do="pass at least one input",
        )
    inputs = inputs.detach().float()
    if not bool(inputs.isfinite().all()):
        bad = (~inputs.isfinite().flatten(1).all(1)).nonzero()[0, 0]
        where = int(batch.index[bad]) if batch.index is not None else int(bad)
        raise DataError(
            f"data: input {where} has values that are not finite",
            given="NaN or Inf",
            allowed="finite numbers",
            do="repair or drop such inputs",
        )
    labels, why = fitting(batch.labels, len(inputs), batch.unlabelled)
    several = batch.columns if batch.columns is not None and len(batch.columns) == len(inputs) else None
    return Batch(inputs, labels, batch.index, why, several)


def fitting(labels: Tensor | None, inputs: int, why: str) -> tuple[Tensor | None, str]:
    """Return labels where there is one per input, else None and why: it matters where labels are used.

    >>> fitting(torch.zeros(3), 2, "")
    (None, '3 labels for 2 inputs')
    """
    if labels is None or len(labels) == inputs:
        return labels, why
    return None, f"{len(labels)} labels for {inputs} inputs"


def _parted(item: Any) -> tuple[Any, Any]:
    """Return the inputs, or the single input, of an item, and what lies beside them."""
    if isinstance(item, Mapping):
        for key in _INPUT_KEYS:
            if key in item:
                return item[key], next((item[name] for name in _LABEL_KEYS if name in item), None)
        raise DataError(
            "data: a batch is a dict without inputs",
            given=f"keys {sorted(map(str, item))}",
            allowed=", ".join(_INPUT_KEYS),
            do="rename the key that holds the inputs",
        )
    if isinstance(item, tuple | list) and item:
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _one_hot(rows: Tensor) -> bool:
    return bool((((rows == 0) | (rows == 1)).all(1) & (rows.sum(1) == 1)).all())


def _is_row(value: Any) -> bool:
    return is_array(value) and value.ndim > 0


def _kind(values: Any) -> str:
    if isinstance(values, tuple | list) and values:
        return f"a {type(values).__name__} of {type(values[0]).__name__}"
    return f"a {type(values).__name__}"
