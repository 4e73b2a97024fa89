"""Arrays as people have them, mirrored, big-endian, read-only or in a data frame, as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_tensor", "is_array"]


def is_array(value: Any) -> bool:
    """Whether it is a tensor or an array."""
    return isinstance(value, Tensor | np.ndarray)


def as_tensor(values: Any) -> Tensor:
    """Return numbers as a dense tensor, which may share memory with them.

    Args:
        values: a tensor, an array of any strides and byte order, writable or not, a column or table of pandas, or
            numbers, tensors and arrays in lists.

    Raises:
        TypeError, ValueError, RuntimeError: they are no numbers, have no common shape, or some are masked out.
    """
    if isinstance(values, Tensor):
        return _dense(values)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError("an array with values that are masked out")
    if isinstance(values, np.ndarray | np.generic):
        return torch.from_numpy(_plain(np.asarray(values)))
    if isinstance(values, list | tuple):
        return _stacked(values)
    if hasattr(values, "to_numpy"):
        return torch.from_numpy(_plain(np.asarray(values.to_numpy())))
    return torch.as_tensor(values, device="cpu")


def _dense(values: Tensor) -> Tensor:
    if values.is_complex():
        raise TypeError("complex numbers, of which no classifier's input is made")
    if values.is_meta:
        raise ValueError("a tensor of the meta device, which has no values")
    if values.is_nested:
        return _stacked(values.unbind())
    if values.is_quantized:
        return values.dequantize()
    return values if values.layout is torch.strided else values.to_dense()


def _plain(values: np.ndarray) -> np.ndarray:
    """Return an array that torch takes: of this machine's byte order, of no negative strides, and writable."""
    if values.dtype.kind == "c":
        raise TypeError("complex numbers, of which no classifier's input is made")
    if values.dtype.kind not in "biuf":
        raise TypeError(f"an array of {values.dtype}, which are no numbers")
    kind = values.dtype.newbyteorder("=")
    if kind.itemsize > 8:
        kind = np.dtype(np.float64)
    elif kind.kind == "u" and kind.itemsize > 1:
        # Of these torch can add and compare none. What whole numbers with a sign cannot hold would become negative.
        fits = not values.size or int(values.max()) <= np.iinfo(np.int64).max
        kind = np.dtype(np.int64 if fits else np.float64)
    native = values.astype(kind, copy=False)
    if any(stride < 0 for stride in native.strides) or not native.flags.writeable:
        # A copy, also where it could be read in place: what is shared might be written to.
        native = native.copy(order="C")
    return native


def _stacked(values: list[Any] | tuple[Any, ...]) -> Tensor:
    """Return a list as one tensor; of tensors and arrays one row for each."""
    if not any(is_array(value) for value in values):
        # Numbers have no device, whatever the default is.
        return torch.as_tensor(values, device="cpu")
    rows = [as_tensor(value) for value in values]
    shapes = sorted({tuple(row.shape) for row in rows})
    if len(shapes) > 1:
        raise ValueError(f"inputs of the shapes {', '.join(map(str, shapes[:3]))}, which make no batch")
    return torch.stack(rows)
