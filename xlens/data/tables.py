"""Inputs to explain, and side information: what is passed whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlens.data.batch import Batch, check
from xlens.data.numbers import as_tensor
from xlens.errors import DataError
from xlens.files.plain import said

__all__ = ["as_inputs", "side_info_table"]


def as_inputs(inputs: Any, shape: tuple[int, ...]) -> Tensor:
    """Return inputs to be explained as a float tensor ``(N, *S)``.

    Args:
        inputs: a tensor or array of any strides and byte order, with or without the batch dimension.
        shape: the shape S that the lens was fitted on.

    Raises:
        DataError: another shape, no input at all, or values that are not finite.
    """
    try:
        tensor = as_tensor(inputs)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(
            "inputs: not a tensor or array of numbers",
            given=f"{type(inputs).__name__}: {said(fault)}",
            allowed=f"(N, {', '.join(map(str, shape))})",
            do="pass a batch of inputs as a tensor; a DataLoader or Dataset goes to fit and explain_to",
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
    return check(Batch(tensor.detach().clone())).inputs


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
