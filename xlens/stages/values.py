"""The data as values: encoded once and kept where they fit, else encoded whenever they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from xlens.data import Batch, Data

__all__ = ["EncodedData", "encoded"]

#: Bytes of values that are kept; of more, each batch is encoded when it is read.
_KEPT = 2**29
#: Inputs that are encoded at once.
_BATCH = 64

#: Maps inputs ``(n, *S)`` to values ``(n, *V)``.
Encode = Callable[[Tensor], Tensor]


class EncodedData(Data):
    """Batches of values, which are those of other data in their order, with their labels.

    Args:
        source: the data.
        encode: makes values of inputs, on the CPU.
    """

    def __init__(self, source: Data, encode: Encode) -> None:
        super().__init__(source)
        self._data, self._encode = source, encode

    @property
    def indexed(self) -> bool:
        """Whether inputs have a stable position, so that facts about each can be kept."""
        return self._data.indexed

    def __len__(self) -> int:
        """Return the number of inputs of indexed data."""
        return len(self._data)

    def take(self, index: Tensor) -> Batch:
        """Return the values of the inputs at these positions of indexed data."""
        return self._encoded(self._data.take(index))

    def batches(self, batch_size: int = 256, *, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Go through the data once, as the data themselves are gone through."""
        for batch in self._data.batches(batch_size, generator=generator):
            yield self._encoded(batch)

    def _encoded(self, batch: Batch) -> Batch:
        return Batch(self._encode(batch.inputs), batch.labels, batch.index, batch.unlabelled, batch.columns)


def encoded(source: Data, encode: Encode, device: torch.device, *, size: int, repeats: bool) -> Data:
    """Return the data as values: encoded once and kept, or where they do not fit whenever they are read.

    Args:
        source: the data.
        encode: maps inputs on the device to values.
        device: where it works.
        size: values of one input.
        repeats: whether the data give the same inputs each time, so that their values may be kept.
    """

    @torch.no_grad()
    def on_cpu(inputs: Tensor) -> Tensor:
        return torch.cat([encode(part.to(device)).float().cpu() for part in inputs.split(_BATCH)])

    lazily = EncodedData(source, on_cpu)
    if not repeats or 4 * len(source) * size > _KEPT:
        return lazily
    batches = list(lazily.batches())
    labels = [batch.labels for batch in batches if batch.labels is not None]
    # Labels of some batches alone are none.
    known = torch.cat(labels) if len(labels) == len(batches) else None
    why = next((batch.unlabelled for batch in batches if batch.unlabelled), "no labels")
    return Data(torch.cat([batch.inputs for batch in batches]), known, why)
