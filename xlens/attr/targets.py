"""Captum's conventions for targets, baselines and further arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlens.data.numbers import as_tensor
from xlens.errors import DataError

__all__ = ["Target", "as_tuple", "baselines_like", "decoded_batch", "row_arguments", "selected", "target_index"]

#: What is explained of an output ``(N, ...)``: an int, a tuple of ints for outputs of more dimensions, one of
#: either per row as tensor or list, or None where there is one number per row.
Target = int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None


def as_tuple(values: Tensor | tuple[Tensor, ...], who: str) -> tuple[Tensor, ...]:
    """Return a tuple of tensors that all have the same, nonzero number of rows."""
    parts = values if isinstance(values, tuple) else (values,)
    tensors = bool(parts) and all(isinstance(part, Tensor) and part.dim() > 0 for part in parts)
    if not tensors or len({len(part) for part in parts}) != 1 or not len(parts[0]):
        given = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts]
        raise DataError(
            f"{who}: inputs are not batches of one length",
            given=f"{given}",
            allowed="a tensor (N, ...), or a tuple of them, N >= 1",
        )
    return parts


def baselines_like(baselines: Any, inputs: tuple[Tensor, ...], who: str) -> tuple[Tensor, ...]:
    """Return one baseline of each input's shape: zeros for None; numbers and single rows are repeated.

    Raises:
        DataError: the number of baselines, or a shape, does not fit.
    """
    if baselines is None:
        return tuple(part.new_zeros(()).expand_as(part) for part in inputs)
    given = baselines if isinstance(baselines, tuple) else (baselines,)
    if len(given) != len(inputs):
        raise DataError(
            f"{who}: there are {len(given)} baselines for {len(inputs)} inputs",
            do="pass one baseline for each input, in the same order",
        )
    return tuple(_baseline(one, part, who) for one, part in zip(given, inputs, strict=True))


def _baseline(baseline: Any, like: Tensor, who: str) -> Tensor:
    if isinstance(baseline, int | float) and not isinstance(baseline, bool):
        return like.new_full((), baseline).expand_as(like)
    shape = tuple(baseline.shape) if isinstance(baseline, Tensor) else None
    if shape not in (tuple(like.shape), (1, *like.shape[1:])):
        raise DataError(
            f"{who}: a baseline does not fit its input",
            given=f"{shape if shape is not None else repr(baseline)} for inputs {tuple(like.shape)}",
            allowed="a number, one row (1, ...), or the input's own shape",
        )
    return baseline.to(like).expand_as(like)


def row_arguments(arguments: Any, n: int, who: str) -> list[Any]:
    """Return the further arguments of a forward function as a list; tensors must have a row for each input.

    Raises:
        DataError: a tensor has another number of rows.
    """
    if arguments is None:
        return []
    values = list(arguments) if isinstance(arguments, tuple) else [arguments]
    for position, value in enumerate(values):
        if isinstance(value, Tensor) and value.dim() > 0 and len(value) != n:
            raise DataError(
                f"{who}: additional_forward_args[{position}] has {len(value)} rows for {n} inputs",
                do="give tensors one row per input; anything else is passed as it is",
            )
    return values


def decoded_batch(made: Any, n: int, who: str) -> Tensor | tuple[Tensor, ...]:
    """Return what a generator made of n codes, usable outside inference mode.

    Raises:
        DataError: it is no tensor, or tuple of tensors, with n rows.
    """
    parts = made if isinstance(made, tuple) else (made,)
    if not parts or not all(isinstance(p, Tensor) and p.dim() > 0 and len(p) == n for p in parts):
        given = [tuple(p.shape) if isinstance(p, Tensor) else type(p).__name__ for p in parts]
        raise DataError(
            f"{who}: decode does not return a batch", given=f"{given} for {n} codes",
            allowed="a tensor (N, ...), or a tuple of them",
        )  # fmt: skip
    parts = tuple(p.clone() if p.is_inference() else p for p in parts)
    return parts if isinstance(made, tuple) else parts[0]


def selected(output: Any, index: Tensor | None, rows: Tensor, who: str) -> Tensor:
    """Return the explained numbers ``(M,)`` of an output ``(M, ...)``.

    Args:
        output: what the forward function returned. Where a single row lost its batch dimension, it is put back.
        index: from :func:`target_index`.
        rows: ``(M,)`` which input each row of the output belongs to.
        who: names the caller in errors.

    Raises:
        DataError: the output is no batch, or the target does not fit it.
    """
    if isinstance(output, Tensor) and len(rows) == 1 and (output.dim() == 0 or len(output) != 1):
        output = output.unsqueeze(0)
    if not isinstance(output, Tensor) or output.dim() == 0 or len(output) != len(rows):
        given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise DataError(
            f"{who}: forward_func does not return one row per input",
            given=f"{given} for {len(rows)} inputs",
            allowed="a tensor (N,) or (N, ...)",
        )
    if index is None:
        if output.numel() != len(rows):
            raise DataError(
                f"{who}: the output has several numbers per row, so a target is needed",
                given=f"target=None for an output of {tuple(output.shape)}",
                do="pass target=class index, or one per input",
            )
        return output.reshape(-1)
    sizes = output.shape[1:]
    single = output.dim() == 1 and index.shape[1] == 1 and not bool(index.any())
    if single:
        return output
    inside = (bool(((c < size) & (c >= -size)).all()) for c, size in zip(index.T, sizes, strict=False))
    if index.shape[1] != len(sizes) or not all(inside):
        raise DataError(
            f"{who}: the target does not fit the output",
            given=f"target {index.squeeze().tolist()} for an output of {tuple(output.shape)}",
            allowed="an index for each dimension after the first, within its size",
        )
    index = index.expand(len(rows), -1) if len(index) == 1 else index[rows.to(index.device)]
    return output[(torch.arange(len(rows), device=output.device), *index.to(output.device).T)]


def target_index(target: Target, n: int, who: str) -> Tensor | None:
    """Return the target as indices ``(1 or n, number of them)``, or None.

    Raises:
        DataError: it is in none of Captum's forms.
    """
    if target is None:
        return None
    try:
        if isinstance(target, tuple):
            index = torch.tensor([target])
        else:
            index = as_tensor(target)
            index = index.reshape(-1, 1) if index.dim() < 2 else index
    except (TypeError, ValueError, RuntimeError):
        index = torch.empty(0)  # refused below, as any other value that is no index
    whole = not index.is_floating_point() and not index.is_complex() and index.dtype != torch.bool
    if not whole or index.dim() != 2 or len(index) not in (1, n):
        raise DataError(
            f"{who}: the target is in no form that is known",
            given=repr(target),
            allowed=f"an int, a tuple of ints, a tensor or a list of {n} of them, or None",
        )
    return index.long()
