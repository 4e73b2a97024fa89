"""An endless stream of batches that can be left at any point and taken up again there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlens.data import Batch, Data
from xlens.training.processes import Processes

__all__ = ["BatchStream"]


class BatchStream:
    """Goes through data again and again.

    Indexed data are shuffled anew each epoch, from the seed and the epoch alone. A stream of the
    user's own (a DataLoader) is read as it comes, with the global RNGs seeded in the same way.

    Args:
        data: the data.
        batch_size: inputs per batch of indexed data.
        seed: with the epoch, decides the order.
        strata: ``(n,)`` the class of each input of indexed data, of which every batch then holds its share.
        processes: go through the same batches, and each takes its share of every one.

    Attributes:
        weight: this process's part of the last batch; over the processes, weights sum to 1.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        seed: int,
        strata: Tensor | None = None,
        processes: Processes | None = None,
    ) -> None:
        self._data, self._seed, self._strata = data, seed, strata
        self._size = min(batch_size, len(data)) if data.indexed else batch_size
        self._processes = processes or Processes()
        self.weight = 1.0
        self._epoch, self._position = 0, 0
        self._order: Tensor | None = None
        self._iterator: Iterator[Batch] | None = None

    def next(self) -> Batch:
        """Return the next batch, or this process's share of it."""
        return self._next_indexed() if self._data.indexed else self._next_streamed()

    def state(self) -> dict[str, Any]:
        """Return where the stream stands."""
        return {"epoch": self._epoch, "position": self._position}

    def load(self, state: dict[str, Any]) -> None:
        """Go to where another stream over the same data stood.

        Raises:
            ValueError: it stood where the data have nothing.
        """
        self._epoch, self._position = state["epoch"], state["position"]
        self._order, self._iterator = None, None
        if self._epoch < 0 or self._position < 0 or (self._data.indexed and self._position > len(self._data)):
            raise ValueError(f"epoch {self._epoch}, position {self._position} of the data")
        if not self._data.indexed:
            batches = self._begin_epoch()
            for done in range(self._position):
                if next(batches, None) is None:
                    raise ValueError(f"position {self._position} of data that end after {done} batches")

    def _next_indexed(self) -> Batch:
        n = len(self._data)
        if (self._position + 1) * self._size > n:
            self._epoch, self._position, self._order = self._epoch + 1, 0, None
        if self._order is None:
            generator = torch.Generator().manual_seed(self._epoch_seed())
            self._order = torch.randperm(n, generator=generator)
            if self._strata is not None:
                self._order = self._order[_spread(self._strata[self._order], generator)]
        start = self._position * self._size
        self._position += 1
        return self._data.take(self._own(self._order[start : start + self._size]))

    def _next_streamed(self) -> Batch:
        batches = self._begin_epoch() if self._iterator is None else self._iterator
        batch = next(batches, None)
        if batch is None:
            self._epoch, self._position, self._iterator = self._epoch + 1, 0, None
            return self._next_streamed()
        self._position += 1
        if self._processes.count == 1:
            return batch
        # A stream of the user's own is read by every process, which keeps its share.
        rows = self._own(torch.arange(len(batch)))
        return Batch(batch.inputs[rows], None if batch.labels is None else batch.labels[rows])

    def _own(self, rows: Tensor) -> Tensor:
        own = self._processes.share(rows)
        self.weight = 1 / self._processes.count if len(rows) < self._processes.count else len(own) / len(rows)
        return own

    def _begin_epoch(self) -> Iterator[Batch]:
        seed = self._epoch_seed()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        self._iterator = iter(self._data.batches())
        return self._iterator

    def _epoch_seed(self) -> int:
        return (self._seed * 1_000_003 + self._epoch) % 2**63


def _spread(strata: Tensor, generator: torch.Generator) -> Tensor:
    """Return an order ``(n,)`` in which each class is spread evenly, each at its own random offset."""
    places = torch.empty(len(strata), dtype=torch.float64)
    for c in strata.unique():
        rows = (strata == c).nonzero()[:, 0]
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        places[rows] = (torch.arange(len(rows), dtype=torch.float64) + offset) / len(rows)
    return places.argsort()
