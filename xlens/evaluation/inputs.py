"""What an evaluation reads: the inputs to explain, what is known of each, and other real inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from xlens.classifier.frozen import seeded
from xlens.data import Data, as_data, as_inputs
from xlens.data.numbers import as_tensor
from xlens.errors import DataError

__all__ = ["Chosen", "check_order", "chosen_inputs", "real_inputs", "rows_of"]

_READ = 256


@dataclass(frozen=True)
class Chosen:
    """The inputs to explain.

    Args:
        inputs: ``(N, *S)``.
        index: ``(N,)`` their positions in the data.
        total: number of inputs in the data.
    """

    inputs: Tensor
    index: Tensor
    total: int


def chosen_inputs(data: Any, n: int | None, seed: int, shape: tuple[int, ...]) -> Chosen:
    """Return `n` inputs drawn by the seed, in the data's order; no others are kept.

    Args:
        data: as for :func:`xlens.fit`, or one input ``(*S)``.
        n: how many; None for all.
        seed: draws them, and seeds what the user's data draw while they are read.
        shape: S.
    """
    if isinstance(data, Tensor | np.ndarray) and tuple(data.shape) == shape:
        data = data[None]
    source = as_data(data)
    with seeded(seed):
        found = _taken(source, n, seed) if source.indexed else _kept(source, n, seed)
    return Chosen(as_inputs(found.inputs, shape), found.index, found.total)


def _taken(source: Data, n: int | None, seed: int) -> Chosen:
    index = torch.arange(len(source))
    if n is not None and n < len(index):
        generator = torch.Generator().manual_seed(seed)
        index = torch.randperm(len(index), generator=generator)[:n].sort().values
    parts = [source.take(part).inputs for part in index.split(_READ)]
    return Chosen(torch.cat(parts), index, len(source))


def _kept(source: Data, n: int | None, seed: int) -> Chosen:
    """Go through a stream of unknown length and keep the inputs whose random numbers are the smallest."""
    generator = torch.Generator().manual_seed(seed)
    inputs, index, drawn, total = [], [], [], 0
    for batch in source.batches():
        inputs.append(batch.inputs)
        index.append(torch.arange(total, total + len(batch)))
        drawn.append(torch.rand(len(batch), generator=generator, dtype=torch.float64))
        total += len(batch)
        if n is not None and sum(map(len, index)) > n:
            kept = torch.cat(drawn).argsort()[:n].sort().values
            inputs, index, drawn = ([torch.cat(part)[kept]] for part in (inputs, index, drawn))
    return Chosen(torch.cat(inputs), torch.cat(index), total)


def check_order(data: Any, beside: list[str]) -> None:
    """Refuse facts about each input, such as masks, for data that come in another order on each pass.

    Raises:
        DataError: a loader that shuffles.
    """
    if not beside or not isinstance(data, DataLoader):
        return
    samplers = data.sampler, getattr(data.batch_sampler, "sampler", None)
    if any(isinstance(one, RandomSampler | SubsetRandomSampler | WeightedRandomSampler) for one in samplers):
        raise DataError(
            f"evaluate: {' and '.join(beside)} cannot be matched with the inputs",
            given="a DataLoader that shuffles",
            do="pass the dataset itself, or a DataLoader with shuffle=False",
        )


def rows_of(name: str, values: Any, chosen: Chosen) -> Tensor:
    """Return the rows of masks and others that belong to the chosen inputs.

    Raises:
        DataError: no table of numbers, or another number of rows than the data have.
    """
    try:
        table = as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(
            f"evaluate: {name} is no table of numbers", given=str(fault).splitlines()[0], do="pass a tensor"
        ) from None
    if table.dim() < 1 or len(table) != chosen.total:
        raise DataError(
            f"evaluate: {name} does not fit the data",
            given=f"{len(table) if table.dim() else 0} rows",
            allowed=f"a row for each of the {chosen.total} inputs in the data, explained or not",
        )
    return table[chosen.index.to(table.device)]


def real_inputs(references: Any, shape: tuple[int, ...], seed: int) -> Tensor:
    """Return all of the references, ``(M, *S)``, from any form that data have."""
    with seeded(seed):
        return as_inputs(torch.cat([batch.inputs for batch in as_data(references).batches(_READ)]), shape)
