"""Data in whatever form the user has them, as batches of float inputs that were checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import DataLoaderDispatcher, DataLoaderShard
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, default_collate

from xlens.errors import DataError

__all__ = ["Batch", "Data", "as_data", "as_inputs"]

_INPUT_KEYS = ("pixel_values", "image", "images", "inputs", "input", "x")
# Batches are handed out on the CPU: where the data lie is not where the lens is trained.
_CPU = torch.device("cpu")
_LABEL_KEYS = ("labels", "label", "targets", "target", "y")


@dataclass(frozen=True)
class Batch:
    """One batch.

    Args:
        inputs: ``(n, *S)`` float.
        labels: ``(n,)`` class indices, or None.
        index: ``(n,)`` positions in the data set, or None where there is no stable order.
    """

    inputs: Tensor
    labels: Tensor | None = None
    index: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.inputs)

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on `device`."""
        move = lambda tensor: None if tensor is None else tensor.to(device)  # noqa: E731
        return Batch(self.inputs.to(device), move(self.labels), move(self.index))


class Data:
    """Batches of inputs that can be gone through again and again.

    Made by :func:`as_data`. Nothing is copied: a Dataset or a DataLoader is read batch by batch.
    """

    def __init__(self, source: Any, labels: Tensor | None = None) -> None:
        self._source, self._labels = source, labels
        self._indexed = isinstance(source, Tensor | np.ndarray) or _is_map_style(source)

    @property
    def indexed(self) -> bool:
        """Whether inputs have a stable position, so that facts about each can be kept."""
        return self._indexed

    @property
    def shares_out(self) -> str | None:
        """What makes a loader give each process another part of the data, in words; None where nothing does."""
        if isinstance(self._source, DataLoaderShard | DataLoaderDispatcher):
            return f"a {type(self._source).__name__} that accelerate prepared"
        if not isinstance(self._source, DataLoader):
            return None
        samplers = self._source.sampler, getattr(self._source.batch_sampler, "sampler", None)
        found = next((sampler for sampler in samplers if isinstance(sampler, DistributedSampler)), None)
        return None if found is None else f"a {type(self._source).__name__} with a {type(found).__name__}"

    def __len__(self) -> int:
        """Return the number of inputs of indexed data.

        Raises:
            TypeError: the data are a stream of batches, of unknown length.
        """
        if not self._indexed:
            raise TypeError("a stream of batches has no known length")
        return len(self._source)

    def take(self, index: Tensor) -> Batch:
        """Return the inputs at these positions of indexed data."""
        if isinstance(self._source, Tensor | np.ndarray):
            inputs = self._source[index if isinstance(self._source, Tensor) else index.numpy()]
            labels = None if self._labels is None else self._labels[index]
            return _check(Batch(_to_batch(inputs).inputs, labels, index)).to(_CPU)
        items = [self._source[int(i)] for i in index]
        try:
            collated = default_collate(items)
        except (TypeError, RuntimeError) as fault:
            raise DataError(
                "data: the items of the data set do not make a batch of tensors",
                given=(str(fault) or type(fault).__name__).splitlines()[0],
                allowed="tensors or arrays of one shape, alone, first in a tuple, or in a dict",
                do="add a transform that turns each input into a tensor of one shape",
            ) from None
        batch = _to_batch(collated)
        return _check(Batch(batch.inputs, batch.labels, index)).to(_CPU)

    def batches(self, batch_size: int = 256, *, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Go through the data once.

        Args:
            batch_size: inputs per batch; a stream of batches keeps its own size.
            generator: shuffles indexed data; None keeps their order.

        Raises:
            DataError: an input is not finite, or its shape is not that of the others.
        """
        if not self._indexed:
            empty = True
            for item in self._source:
                empty = False
                yield _check(_to_batch(item)).to(_CPU)
            if empty:
                raise DataError(
                    "data: empty",
                    given="0 batches on this pass",
                    do="pass an object with inputs whose __iter__ starts anew each time, such as a DataLoader",
                )
            return
        n = len(self)
        order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
        for index in order.split(batch_size):
            yield self.take(index)


def as_data(data: Any) -> Data:
    """Wrap the user's data.

    Args:
        data: a tensor or array ``(n, *S)``, a pair ``(X, y)`` of them, a Dataset, a DataLoader, or any
            iterable of batches that can be iterated over more than once. A batch is a tensor, a tuple
            that begins with one, or a dict with ``pixel_values``, ``image`` or ``inputs``.

    Raises:
        DataError: the form is unknown, there are no inputs, the labels do not fit, or the iterable
            is used up after one pass.

    >>> import torch
    >>> from xlens.data import as_data
    >>> len(as_data(torch.zeros(5, 1, 8, 8)))
    5
    """
    if isinstance(data, Data):
        return data
    if isinstance(data, Tensor | np.ndarray):
        return _nonempty(Data(data))
    if _is_pair(data):
        return _nonempty(Data(data[0], _class_indices(data[1], len(data[0]))))
    if isinstance(data, DataLoader) or (isinstance(data, Dataset) and not isinstance(data, IterableDataset)):
        return _nonempty(Data(data))
    if isinstance(data, IterableDataset):
        # It yields single inputs; a loader makes batches of them.
        return Data(DataLoader(data, batch_size=128))
    if isinstance(data, Iterator):
        raise DataError(
            "data: this iterator is used up after one pass, and fitting takes many",
            given=type(data).__name__,
            do="pass the DataLoader itself, a list of batches, or an object whose __iter__ starts anew",
        )
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | Mapping):
        return Data(data)
    raise DataError(
        "data: cannot make batches of this",
        given=type(data).__name__,
        allowed="a tensor or array (n, *S), a pair (X, y), a Dataset, a DataLoader, or an iterable of batches",
        do="turn the inputs into one of these forms",
    )


def as_inputs(inputs: Any, shape: tuple[int, ...]) -> Tensor:
    """Return inputs to be explained as a float tensor ``(N, *S)``.

    Args:
        inputs: a tensor or array, with or without the batch dimension.
        shape: the shape S that the lens was fitted on.

    Raises:
        DataError: another shape, no input at all, or values that are not finite.
    """
    try:
        tensor = torch.as_tensor(inputs)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            "inputs: not a tensor or array",
            given=type(inputs).__name__,
            allowed=f"(N, {', '.join(map(str, shape))})",
            do="pass a batch of inputs as a tensor",
        ) from None
    if tuple(tensor.shape) == shape:
        tensor = tensor.unsqueeze(0)
    if tuple(tensor.shape[1:]) != shape:
        raise DataError(
            "inputs: not the shape that the lens was fitted on",
            given=tuple(tensor.shape),
            allowed=f"(N, {', '.join(map(str, shape))})",
            do="apply the preprocessing that the classifier was trained with",
        )
    # A copy without history: what is explained must not change, nor take gradients, with the caller's tensor.
    return _check(Batch(tensor.detach().clone())).inputs


def _check(batch: Batch) -> Batch:
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
    if batch.labels is not None and len(batch.labels) != len(inputs):
        raise DataError(
            "data: labels do not fit the inputs",
            given=f"{len(batch.labels)} labels for {len(inputs)} inputs in a batch",
            do="return one label per input",
        )
    return Batch(inputs, batch.labels, batch.index)


def _to_batch(item: Any) -> Batch:
    if isinstance(item, Mapping):
        inputs = next((item[key] for key in _INPUT_KEYS if key in item), None)
        labels = next((item[key] for key in _LABEL_KEYS if key in item), None)
        if inputs is None:
            raise DataError(
                "data: a batch is a dict without inputs",
                given=f"keys {sorted(map(str, item))}",
                allowed=", ".join(_INPUT_KEYS),
                do="rename the key that holds the inputs",
            )
    elif isinstance(item, tuple | list) and item:
        inputs, labels = item[0], item[1] if len(item) > 1 else None
    else:
        inputs, labels = item, None
    try:
        inputs = torch.as_tensor(inputs)
        labels = None if labels is None else torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(
            "data: a batch does not hold tensors",
            given=str(fault).splitlines()[0],
            allowed="a tensor, a tuple that begins with one, or a dict",
            do="add a transform that turns each input into a tensor",
        ) from None
    return Batch(inputs, _flat_labels(labels))


def _flat_labels(labels: Tensor | None) -> Tensor | None:
    """Return labels ``(n,)``; other targets, such as boxes or one-hot rows, are no class indices."""
    if labels is not None and labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    return labels if labels is None or labels.dim() == 1 else None


def _is_map_style(source: Any) -> bool:
    return isinstance(source, Dataset) and not isinstance(source, IterableDataset)


def _is_pair(data: Any) -> bool:
    if not isinstance(data, tuple | list) or len(data) != 2:
        return False
    inputs, labels = data
    return (
        isinstance(inputs, Tensor | np.ndarray)
        and isinstance(labels, Tensor | np.ndarray | list)
        and (np.ndim(labels) == 1 or (np.ndim(labels) == 2 and np.ndim(inputs) > 2))
        and np.ndim(inputs) > 1
    )


def _class_indices(labels: Any, n: int) -> Tensor:
    """Return the labels of `n` inputs, ``(n,)``."""
    try:
        indices = torch.as_tensor(labels)
        problem = None if indices.dim() == 1 or indices.shape[1] == 1 else f"shape {tuple(indices.shape)}"
    except (TypeError, ValueError) as fault:
        problem = str(fault).splitlines()[0]
    if problem is not None:
        raise DataError(
            "data: labels are not class indices",
            given=problem,
            allowed="one int per input, (n,) or (n, 1)",
            do="encode the labels as the classifier's class indices, or leave them out",
        )
    if len(indices) != n:
        raise DataError(
            "data: labels do not fit the inputs",
            given=f"{len(indices)} labels for {n} inputs",
            do="pass one label per input, or no labels at all: xlens does not need them",
        )
    return indices.flatten()


def _nonempty(data: Data) -> Data:
    try:
        empty = len(data._source) == 0
    except TypeError:  # a loader over a stream has no length
        return data
    if empty:
        raise DataError("data: empty", given="0 inputs", allowed="at least one", do="pass some inputs")
    return data


def side_info_table(method: str, side_info: Any) -> Tensor:
    """Return side information as a table ``(n, A)`` on the CPU; one column may be given as ``(n,)``.

    Raises:
        DataError: it is no table of numbers.
    """
    try:
        # In double precision: columns such as dates differ by little of their size.
        given = side_info if isinstance(side_info, Tensor) else torch.from_numpy(np.array(side_info, np.float64))
        table = given.detach().to("cpu", torch.float64)
    except (TypeError, ValueError) as fault:
        raise DataError(
            f"{method}: side_info is no table of numbers",
            given=type(side_info).__name__,
            allowed="a tensor, an array or a data frame of numbers, NaN where not observed",
            do="give categories as numbers, one column for each class",
        ) from fault
    return table.unsqueeze(1) if table.dim() == 1 else table
