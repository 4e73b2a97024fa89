"""Whole numbers and seeds: their checks, and seeded generators."""

from __future__ import annotations

from typing import Any

import torch

from xlens.errors import OptionError

__all__ = ["check_count", "check_seed", "is_count", "seeded"]


def check_count(method: str, n: Any, name: str = "n") -> None:
    """Refuse what is not a whole number of at least 1."""
    if not is_count(n):
        raise OptionError(f"{method}: {name} must be an int >= 1, got {n!r}")


def check_seed(seed: Any) -> int:
    """Return the seed, or refuse what torch cannot be seeded with."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise OptionError(f"seed must be an int >= 0 and < 2**63, got {seed!r}")
    return seed


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def seeded(seed: Any, device: torch.device) -> torch.Generator:
    """Return a generator on a device, seeded.

    Raises:
        OptionError: torch cannot be seeded with it.
    """
    return torch.Generator(device).manual_seed(check_seed(seed))
