"""Checks of what an explainer is asked: every fault is named, with what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlens.attr.edit import Carry
from xlens.attr.paths import PATHS
from xlens.contracts import Feature
from xlens.errors import DataError, OptionError, did_you_mean

__all__ = [
    "check_count",
    "check_explain",
    "check_seed",
    "class_tensor",
    "find_feature",
    "is_count",
    "path_values",
    "side_info_table",
]


def check_explain(
    method: str,
    masked: bool,
    *,
    carry: Carry | None = None,
    n_steps: int = 1,
    tolerance: float = 1.0,
    internal_batch_size: int | None = None,
    path: str = "linear",
    faults: Sequence[str] = (),
) -> Carry:
    """Check the options of `method`, and return the carry to use.

    Args:
        method: names the caller.
        masked: whether there is a mask.
        carry, n_steps, tolerance, internal_batch_size, path: the options.
        faults: what was found wrong already.

    Raises:
        OptionError: all faults in one error.
    """
    faults = list(faults)
    if path not in PATHS:
        faults.append(f"path must be one of {', '.join(PATHS)}, got {path!r}")
    if carry not in (None, "masked", "residual", "none"):
        faults.append(f"carry must be 'masked', 'residual', 'none' or None, got {carry!r}")
    if carry == "masked" and not masked:
        faults.append("carry='masked' needs images; these inputs take 'residual' or 'none'")
    if not is_count(n_steps):
        faults.append(f"n_steps must be an int >= 1, got {n_steps!r}")
    if not isinstance(tolerance, int | float) or not 0 < tolerance <= 1:
        faults.append(f"tolerance must be in (0, 1], got {tolerance!r}")
    if internal_batch_size is not None and not is_count(internal_batch_size):
        faults.append(f"internal_batch_size must be an int >= 1 or None, got {internal_batch_size!r}")
    if faults:
        raise OptionError(f"{method}: " + "; ".join(faults))
    return carry or ("masked" if masked else "residual")


def class_tensor(method: str, name: str, value: Any, n: int, num_classes: int, device: torch.device) -> Tensor:
    """Return classes ``(n,)`` from an int or a tensor.

    Raises:
        DataError: not whole numbers, another shape, or a class that does not exist.
    """
    try:
        classes = torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError):
        classes = torch.empty(0)  # refused below, as any other value that is no class
    whole = not classes.is_floating_point() and classes.dtype != torch.bool
    fits = whole and tuple(classes.shape) in ((), (n,))
    if not fits or not bool(((classes >= 0) & (classes < num_classes)).all()):
        raise DataError(
            f"{method}: {name} is not a class",
            given=repr(value),
            allowed=f"an int from 0 to {num_classes - 1}, or {n} of them as a tensor ({n},)",
            do="use the classifier's class indices",
        )
    return classes.long().clone().expand(n)


def find_feature(features: Sequence[Feature], feature: str | int, method: str = "traverse") -> Feature:
    """Return a feature by name or position.

    Raises:
        OptionError: there is no such feature.
    """
    names = [f.name for f in features]
    if isinstance(feature, Integral) and not isinstance(feature, bool) and 0 <= feature < len(names):
        return features[feature]
    if isinstance(feature, str) and feature in names:
        return features[names.index(feature)]
    raise OptionError(
        f"{method}: there is no feature {feature!r}.{did_you_mean(str(feature), names)}",
        allowed=f"{', '.join(names)}, or 0 to {len(names) - 1}",
    )


def path_values(steps: Any, device: torch.device, method: str = "traverse") -> Tensor:
    """Return the values ``(T,)`` of a traversal or a grid.

    Raises:
        OptionError: not a list of finite numbers.
    """
    try:
        values = torch.as_tensor(steps, dtype=torch.float32, device=device)
    except (TypeError, ValueError, RuntimeError):
        values = torch.empty(0, 0)
    if values.dim() != 1 or len(values) == 0 or not bool(values.isfinite().all()):
        raise OptionError(f"{method}: steps are wrong", given=repr(steps), allowed="a list of finite numbers")
    return values


def check_count(method: str, n: Any) -> None:
    """Refuse what is not a whole number of at least 1."""
    if not is_count(n):
        raise OptionError(f"{method}: n must be an int >= 1, got {n!r}")


def check_seed(seed: Any) -> int:
    """Return the seed, or refuse what torch cannot be seeded with."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise OptionError(f"seed must be an int >= 0 and < 2**63, got {seed!r}")
    return seed


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


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
