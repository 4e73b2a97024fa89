"""How much a network may become when it is built from what a file says of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xlens.errors import StorageError

__all__ = ["Built"]

#: Bytes that a tensor counts for at least: the module around it takes as much, and there may be millions.
_LEAST = 16384


class Built(TorchDispatchMode):
    """A context in which new tensors are counted before they are made, and refused where they are too many.

    Args:
        most: bytes that all of them may have.
        what: what is built, for the message.
    """

    def __init__(self, most: int, what: str) -> None:
        super().__init__()
        self._most, self._what = most, what
        self._taken = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what an operation is asked to make, and run it."""
        named = kwargs or {}
        name = func.overloadpacket.__name__
        if name.startswith("new_") or name == "repeat":
            self._take(args[0].dtype, _count(args[1:]) * (args[0].numel() if name == "repeat" else 1))
        elif not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(args)):
            self._take(named.get("dtype"), _count(args))
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
