"""How much may be made of what a file says: networks that are built, and what they and the classifier compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from xlens.errors import StorageError

__all__ = ["Built"]

#: Bytes that a tensor counts for at least: the module around it takes as much, and there may be millions.
_LEAST = 16384
#: What may be computed, as parts of what may be kept: in one piece, around which there may be several, and in all.
_PIECE, _PASSING = 0.5, 16


class Built(TorchDispatchMode):
    """A context in which tensors are counted before they are made, and refused where they are too many.

    Tensors of given sizes are kept, as weights are. What is computed from other tensors, as by a classifier that is
    run on an input of a saved shape, may be half as large in one piece, and sixteen times as large in all, most of
    which is soon let go.

    Args:
        most: bytes that all that is kept may have.
        what: what is built, for the message.
    """

    def __init__(self, most: int, what: str) -> None:
        super().__init__()
        self._most, self._what = most, what
        self._taken = self._computed = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what an operation is asked to make, and run it."""
        named = kwargs or {}
        name = func.overloadpacket.__name__
        if name.startswith("new_") or name == "repeat":
            self._take(args[0].dtype, _count(args[1:]) * (args[0].numel() if name == "repeat" else 1))
        elif not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(args)):
            self._take(named.get("dtype"), _count(args))
        elif any(result.alias_info is None for result in func._schema.returns):
            self._compute(_result_bytes(func, args, named))
        return func(*args, **named)

    def take(self, size: int) -> None:
        """Count so many bytes.

        Raises:
            StorageError: they are more than may be.
        """
        if self._taken + size > self._most:
            before = f" after {self._taken:,} others" if self._taken else ""
            raise StorageError(
                f"load: {self._what} would become larger than it may when it is built",
                given=f"{size:,} bytes of numbers in one piece{before}",
                allowed=f"{self._most:,} bytes in all",
                do="look at where the file is from; if it is right, allow more: at least "
                f"xlens.load(..., max_bytes={self._taken + size}), or --max-bytes",
            )
        self._taken += size

    def _compute(self, size: int) -> None:
        if size > _PIECE * self._most or self._computed + size > _PASSING * self._most:
            needed = math.ceil(max(size / _PIECE, (self._computed + size) / _PASSING))
            raise StorageError(
                f"load: {self._what} asks for more to be computed than it may when it is read",
                given=f"{size:,} bytes in one piece after {self._computed:,} others, as for the saved shape",
                allowed=f"{int(_PIECE * self._most):,} bytes in one piece, and {_PASSING * self._most:,} in all",
                do="look at where the file is from; if it is right, allow more: at least "
                f"xlens.load(..., max_bytes={needed}), or --max-bytes",
            )
        self._computed += size

    def _take(self, dtype: Any, count: int) -> None:
        wide = dtype.itemsize if isinstance(dtype, torch.dtype) else torch.get_default_dtype().itemsize
        self.take(max(_LEAST, count * wide))


def _count(args: Sequence[Any]) -> int:
    """Return how many numbers a tensor of these sizes has."""
    sizes = next((arg for arg in args if isinstance(arg, tuple | list)), None)
    if sizes is None:
        # eye takes its sides, arange and linspace their length or ends.
        sizes = [arg for arg in args if isinstance(arg, int) and not isinstance(arg, bool)][:2]
    return math.prod(abs(int(size)) for size in sizes)


def _result_bytes(func: Any, args: Any, named: dict[str, Any]) -> int:
    """Return the bytes of what an operation will make anew, found without making it; 0 where torch cannot tell."""
    try:
        found = func(*tree_map(_shape_alone, args), **tree_map(_shape_alone, named))
    except Exception:  # noqa: BLE001 - a kind of tensor or operation without shapes alone, which then runs as it is
        return 0
    results = found if isinstance(found, tuple | list) and len(func._schema.returns) > 1 else [found]
    made = [one for one, how in zip(results, func._schema.returns, strict=False) if how.alias_info is None]
    return sum(leaf.nbytes for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor))


def _shape_alone(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
    return torch.device("meta") if isinstance(value, torch.device) else value
