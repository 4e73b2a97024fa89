"""Whole numbers and seeds: their checks, and seeded generators."""

from __future__ import annotations

import math
import operator
from typing import Any, SupportsIndex

import numpy as np
import torch

from xlens.errors import OptionError

__all__ = ["check_count", "check_seed", "is_count", "is_number", "plain", "seeded", "whole"]


def check_count(method: str, n: Any, name: str = "n") -> None:
    """Refuse what is not a whole number of at least 1."""
    if not is_count(n):
        raise OptionError(f"{method}: {name} must be an int >= 1, got {n!r}")


def check_seed(seed: Any) -> int:
    """Return the seed, or refuse what torch cannot be seeded with."""
    number = whole(seed)
    if number is None or not 0 <= number < 2**63:
        raise OptionError(f"seed must be an int >= 0 and < 2**63, got {seed!r}")
    return number


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 1; NumPy's are."""
    number = whole(value)
    return number is not None and number >= 1


def is_number(value: Any) -> bool:
    """Whether it is a finite number, Python's or NumPy's; True is none."""
    value = plain(value)
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(float(value))
    except OverflowError:  # a whole number larger than any float
        return False


def whole(value: Any) -> int | None:
    """Return a whole number, Python's or NumPy's, as Python's, and None of anything else; True is no number.

    >>> import numpy as np
    >>> whole(np.int64(3)), whole(3.0), whole(True)
    (3, None, None)
    """
    if isinstance(value, bool | np.bool_ | np.ndarray) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # a tensor of several
        return None


def plain(value: Any) -> Any:
    """Return NumPy's numbers, truth values and strings as Python's, in tuples too; anything else as it is.

    >>> import numpy as np
    >>> plain((np.float32(0.5), np.int64(3))), plain(np.bool_(True))
    ((0.5, 3), True)
    """
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(plain, value)) if type(value) is tuple else value


def seeded(seed: Any, device: torch.device) -> torch.Generator:
    """Return a generator on a device, seeded.

    Raises:
        OptionError: torch cannot be seeded with it.
    """
    return torch.Generator(device).manual_seed(check_seed(seed))
