"""The data as values: encoded once and kept where they fit, else encoded whenever they are read."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xlens.data import Batch, Data
from xlens.data.source import MappedData

__all__ = ["EncodedData", "encoded"]

#: Bytes of values that are kept; of more, each batch is encoded when it is read.
_KEPT = 2**29
#: Inputs that are encoded at once.
_BATCH = 64

#: Maps inputs ``(n, *S)`` to values ``(n, *V)``.
Encode = Callable[[Tensor], Tensor]


class EncodedData(MappedData):
    """Batches of values, which are those of other data in their order, with their labels.

    Args:
        source: the data.
        encode: makes values of inputs, on the CPU.
    """

    def __init__(self, source: Data, encode: Encode) -> None:
        super().__init__(source, self._encoded)
        self._encode = encode

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
