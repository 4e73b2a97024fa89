"""How many threads to compute with: where others are busy, more of them only get in each other's way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

__all__ = ["cores", "free_threads", "threads"]

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = _QUOTA) -> int:
    """Return how many cores this process may use: those it is bound to, or what its container is allowed.

    Args:
        quota: where the container's is written, as microseconds of each so many.
    """
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        allowed, period = quota.read_text().split()
        found = min(found, round(int(allowed) / int(period)))
    return max(1, found)


def free_threads(available: int, load: float, wanted: int) -> int:
    """Return how many threads to take: as many as there are cores that nobody else keeps busy, at least one.

    Args:
        available: cores.
        load: processes that want to run, on average over the last minute.
        wanted: more are never taken, as where ``OMP_NUM_THREADS`` says so.

    >>> free_threads(2, 0.1, 2), free_threads(2, 2.0, 2), free_threads(8, 3.2, 8)
    (2, 1, 5)
    """
    return max(1, min(wanted, available, round(available - load)))


@contextmanager
def threads() -> Iterator[str]:
    """Within this context torch computes with as many threads as there are free cores; yields this in words."""
    before = torch.get_num_threads()
    available = cores()
    # Not every system tells its load.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    count = free_threads(available, load, before)
    torch.set_num_threads(count)
    try:
        yield (
            f"computing with {count} thread{'' if count == 1 else 's'}, on {available} core"
            f"{'' if available == 1 else 's'} with a load of {load:.1f} from other programs"
        )
    finally:
        torch.set_num_threads(before)
