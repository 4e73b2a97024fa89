"""Data that can be gone through again and again, from tensors, data sets, loaders and batches."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from accelerate.data_loader import DataLoaderDispatcher, DataLoaderShard
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from xlens.classifier.normalization import Normalization, normalization_in
from xlens.data.batch import Batch, batch_labels, check, collate, columns, fitting, remedy, to_batch
from xlens.data.numbers import as_tensor, is_array
from xlens.errors import DataError
from xlens.files.plain import said

__all__ = ["Data", "MappedData", "as_data"]

# Batches are handed out on the CPU: where the data lie is not where the lens is trained.
_CPU = torch.device("cpu")


class Data:
    """Batches of inputs that can be gone through again and again.

    Made by :func:`as_data`. Nothing is copied: a Dataset or a DataLoader is read batch by batch. `column_names` are
    those of a data frame beside the inputs.
    """

    def __init__(
        self,
        source: Any,
        labels: Tensor | None = None,
        unlabelled: str = "no labels",
        table: Tensor | None = None,
        column_names: tuple[str, ...] = (),
    ) -> None:
        self._source, self._labels, self._unlabelled = source, labels, unlabelled
        self._table, self.column_names = table, column_names
        self._indexed = is_array(source) or _is_map_style(source)

    @property
    def indexed(self) -> bool:
        """Whether inputs have a stable position, so that facts about each can be kept."""
        return self._indexed

    @property
    def normalization(self) -> Normalization | None:
        """The mean and std that the data's own transform ends with; None where they have none."""
        return None if is_array(self._source) else normalization_in(self._source)

    @property
    def shares_out(self) -> str | None:
        """What makes a loader give each process another part of the data, in words; None where nothing does."""
        if isinstance(self._source, DataLoaderShard | DataLoaderDispatcher):
            return f"a {type(self._source).__name__} that accelerate prepared"
        return self._said_of(self._sampler(DistributedSampler))

    @property
    def shuffles(self) -> str | None:
        """What gives the inputs in another order on each pass, in words; None where nothing is known to."""
        found = self._sampler(RandomSampler, SubsetRandomSampler, WeightedRandomSampler, DistributedSampler)
        # A sampler of shares draws anew unless it is told not to.
        return self._said_of(found) if getattr(found, "shuffle", True) else None

    def _sampler(self, *kinds: type[Sampler[Any]]) -> Sampler[Any] | None:
        """Return the loader's sampler of one of these kinds."""
        if not isinstance(self._source, DataLoader):
            return None
        samplers = self._source.sampler, getattr(self._source.batch_sampler, "sampler", None)
        return next((sampler for sampler in samplers if isinstance(sampler, kinds)), None)

    def _said_of(self, sampler: Sampler[Any] | None) -> str | None:
        return None if sampler is None else f"a {type(self._source).__name__} with a {type(sampler).__name__}"

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
        if is_array(self._source):
            inputs = _rows(self._source, index)
            labels, table = (None if beside is None else beside[index] for beside in (self._labels, self._table))
            return check(Batch(inputs, labels, index, self._unlabelled, table)).to(_CPU)
        found = collate([self._source[int(i)] for i in index])
        return check(Batch(found.inputs, found.labels, index, found.unlabelled, found.columns)).to(_CPU)

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
            for item in _items(self._source):
                empty = False
                yield check(to_batch(item)).to(_CPU)
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


class MappedData(Data):
    """Batches of other data in their order, each made into another.

    Args:
        data: the others.
        of: makes a batch of theirs into one of these.
    """

    def __init__(self, data: Data, of: Callable[[Batch], Batch]) -> None:
        super().__init__(data)
        self._data, self._of = data, of

    @property
    def indexed(self) -> bool:
        """Whether inputs have a stable position, so that facts about each can be kept."""
        return self._data.indexed

    def __len__(self) -> int:
        """Return the number of inputs of indexed data."""
        return len(self._data)

    def take(self, index: Tensor) -> Batch:
        """Return what becomes of the inputs at these positions of indexed data."""
        return self._of(self._data.take(index))

    def batches(self, batch_size: int = 256, *, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Go through the data once, as the data themselves are gone through."""
        for batch in self._data.batches(batch_size, generator=generator):
            yield self._of(batch)


def as_data(data: Any) -> Data:
    """Data of any form as batches of checked inputs ``(n, *S)``.

    Args:
        data: a tensor or array ``(n, *S)`` of any strides and byte order, a data frame, a pair ``(X, y)`` or
            ``(X, y, ...)`` with more beside, of which the first are the labels, a Dataset, a DataLoader, or any
            iterable of batches that can be iterated over more than once. A batch is a tensor, a tuple that begins
            with one, or a dict with ``pixel_values``, ``image`` or ``inputs``. Labels are whole numbers or one-hot
            rows, one per input; anything else beside the inputs (names of files, boxes, several targets, None) is
            not looked at, and counts as no labels.

    Raises:
        DataError: the form is unknown, there are no inputs, or the iterable is used up after one pass.

    >>> import torch
    >>> from xlens.data import as_data
    >>> len(as_data(torch.zeros(5, 1, 8, 8)))
    5
    """
    if isinstance(data, Data):
        return data
    data = _without_frames(data)
    if is_array(data):
        return _nonempty(Data(data))
    if _is_pair(data):
        return _nonempty(_labelled(*data[:2]))
    if isinstance(data, DataLoader) or (isinstance(data, Dataset) and not isinstance(data, IterableDataset)):
        return _nonempty(Data(data))
    if isinstance(data, IterableDataset):
        # It yields single inputs; a loader makes batches of them.
        return Data(DataLoader(data, batch_size=128, collate_fn=collate))
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
        do=remedy(data, "turn the inputs into one of these forms"),
    )


def _without_frames(data: Any) -> Any:
    """Return a data frame as its array, also the inputs of a pair: gone through, it gives names of columns."""
    if isinstance(data, tuple) and len(data) > 1:
        inputs = _without_frames(data[0])
        return data if inputs is data[0] else (inputs, *data[1:])
    frame = hasattr(data, "to_numpy") and getattr(data, "ndim", 0) == 2
    return data.to_numpy() if frame else data


def _is_map_style(source: Any) -> bool:
    return isinstance(source, Dataset) and not isinstance(source, IterableDataset)


def _is_pair(data: Any) -> bool:
    """Whether these are inputs and what belongs to them, and not batches of inputs."""
    if not isinstance(data, tuple | list) or len(data) < 2:
        return False
    inputs, beside = data[:2]
    if not is_array(inputs) or inputs.ndim < 2:
        return False
    if len(data) > 2:
        # As a loader gives them, unless all of them may be batches: of several targets the first is the label.
        alike = all(is_array(one) and tuple(one.shape[1:]) == tuple(inputs.shape[1:]) for one in data[1:])
        return not alike and _is_pair(data[:2])
    if is_array(beside):
        rows = beside.ndim == 2 and inputs.ndim > 2
        apart = isinstance(data, tuple) and tuple(beside.shape[1:]) != tuple(inputs.shape[1:])
        return beside.ndim <= 1 or rows or (apart and len(beside) == len(inputs))
    if isinstance(beside, tuple | list) and beside and is_array(beside[0]):
        # A batch of inputs with their labels, or two targets.
        return beside[0].ndim < 2 or isinstance(data, tuple)
    return not isinstance(beside, Mapping) or isinstance(data, tuple)


def _labelled(inputs: Any, beside: Any) -> Data:
    """Return inputs with their labels, or with what is wrong with these; it matters where labels are used."""
    labels, fault = batch_labels(beside)
    table = columns(beside)
    fits = table is not None and len(table) == len(inputs)
    named = tuple(map(str, beside.columns)) if hasattr(beside, "columns") else ()
    return Data(inputs, *fitting(labels, len(inputs), fault), table if fits else None, named)


def _nonempty(data: Data) -> Data:
    try:
        empty = len(data._source) == 0
    except TypeError:  # a loader over a stream has no length
        return data
    if empty:
        raise DataError("data: empty", given="0 inputs", allowed="at least one", do="pass some inputs")
    return data


def _items(source: Any) -> Iterator[Any]:
    """Yield what a loader or another iterable gives.

    Raises:
        DataError: the loader cannot make batches of what its data set holds.
    """
    found = iter(source)
    while True:
        try:
            item = next(found)
        except StopIteration:
            return
        except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as fault:
            # In a worker's process it is part of the message.
            if "self.collate_fn(" not in "".join(traceback.format_exception(fault)):
                raise
            raise DataError(
                "data: the loader cannot put what its data set holds together to batches",
                given=f"its collate_fn says: {(str(fault).splitlines() or [''])[-1] or type(fault).__name__}",
                allowed="batches that are or begin with tensors; labels are not needed",
                do="pass the data set itself, of which the inputs are read and None beside them is not looked "
                "at, or a loader with another collate_fn",
            ) from fault
        yield item


def _rows(source: Any, index: Tensor) -> Tensor:
    """Return these rows of a tensor or an array.

    Raises:
        DataError: it does not hold numbers.
    """
    try:
        return as_tensor(source[index if isinstance(source, Tensor) else index.numpy()])
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(
            "data: the inputs are not tensors of numbers",
            given=said(fault),
            allowed="a tensor or array of numbers (n, *S)",
            do="turn the inputs into one, without values that are masked out",
        ) from None
