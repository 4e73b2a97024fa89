"""Checks of whole numbers and seeds."""

from __future__ import annotations

from typing import Any

from xlens.errors import OptionError

__all__ = ["check_count", "check_seed", "is_count"]


def check_count(method: str, n: Any) -> None:
    """Refuse what is not a whole number of at least 1."""
    if not is_count(n):
        raise OptionError(f"{method}: n must be an int >= 1, got {n!r}")


def check_seed(seed: Any) -> int:
    """Return the seed, or refuse what torch cannot be seeded with."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise OptionError(f"seed must be an int >= 0 and < 2**63, got {seed!r}")
    return seed


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
