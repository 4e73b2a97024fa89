"""How many points may be in flight at once: measured on one of them, and a budget."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xlens.contracts.numbers import is_count

__all__ = ["budget_faults", "default_budget", "peak_bytes", "points_in_flight"]

#: On a processor large batches gain nothing: what fits into an eighth of a gigabyte keeps it busy.
_CPU_BUDGET = 128 * 2**20
#: Share of an accelerator's free memory.
_SHARE = 0.25
#: More points than this are never in flight, however small they are.
_MOST = 4096
#: Bytes that an integral needs for each number of a point: its ends, the chord in float64, what it is summed into.
_SUMS = 32
#: Points in flight where a model does not let its operations be watched.
_UNWATCHED = 16


def default_budget(device: torch.device) -> int:
    """Return the bytes that points in flight may take: 128 MiB on a CPU, else a quarter of what is free."""
    if device.type == "cpu":
        return _CPU_BUDGET
    accelerator: Any = getattr(torch, device.type, None)
    if hasattr(accelerator, "mem_get_info"):
        # What the allocator has reserved and not given out is as good as free.
        kept = accelerator.memory_reserved(device) - accelerator.memory_allocated(device)
        return int(_SHARE * (accelerator.mem_get_info(device)[0] + kept))
    if hasattr(accelerator, "recommended_max_memory"):
        return int(_SHARE * (accelerator.recommended_max_memory() - accelerator.current_allocated_memory()))
    return _CPU_BUDGET


def budget_faults(memory_budget: int | None) -> list[str]:
    """Return, in words, what is wrong with a number of bytes."""
    if memory_budget is None or is_count(memory_budget):
        return []
    return [f"memory_budget must be a number of bytes > 0 or None, got {memory_budget!r}"]


def points_in_flight(evaluate_one: Callable[[], Tensor], device: torch.device, memory_budget: int | None) -> int:
    """Return how many points fit into the budget, at least 1.

    Args:
        evaluate_one: evaluates the gradient at a single point, and returns it.
        device: where it does so.
        memory_budget: bytes, or None for :func:`default_budget`.
    """
    budget = memory_budget if memory_budget is not None else default_budget(device)
    try:
        gradients = []
        size = peak_bytes(lambda: gradients.append(evaluate_one()))
        size += _SUMS * gradients[0].numel()
    except Exception:  # noqa: BLE001 - some compiled models cannot run where operations are watched
        evaluate_one()  # raises again where the model itself is at fault
        return _UNWATCHED
    return max(1, min(_MOST, budget // max(size, 1)))


def peak_bytes(function: Callable[[], Any]) -> int:
    """Return the most bytes of new tensors that are alive at once while `function` runs.

    Every tensor that an operation makes is counted until its storage is freed, on any device. Scratch space
    inside operations is not seen.

    >>> import torch
    >>> peak_bytes(lambda: torch.zeros(1000, dtype=torch.float32) + 1)
    8000
    """
    with _Census() as census:
        function()
    return census.peak


class _Census(TorchDispatchMode):
    """Counts the bytes of the storages that are made within this context and still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, weakref.finalize[Any, Any]] = {}
        self.now = self.peak = 0

    def __exit__(self, *fault: Any) -> None:
        super().__exit__(*fault)
        for watched in self.alive.values():
            watched.detach()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = {_identity(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        output = func(*args, **kwargs)
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and _identity(tensor) not in known:
                self._count(tensor.untyped_storage())
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.alive:
            return
        size = storage.nbytes()
        self.alive[key] = weakref.finalize(storage, self._forget, key, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        self.alive.pop(key, None)
        self.now -= size


def _identity(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
