"""New inputs drawn from a lens."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from xlens.contracts.numbers import check_count
from xlens.fitted import Fitted

__all__ = ["sample"]


def sample(fitted: Fitted, n: int, target: Any, seed: int) -> Tensor:
    """Return `n` new inputs of one class ``(n, *S)``; arguments as for ``explainer.sample``."""
    lens = fitted.require("sample")
    chosen = int(fitted.class_of("sample", "target", target, 1))
    check_count("sample", n)
    generator = fitted.generator(seed)
    with fitted.asking():
        return lens.sample(n, chosen, generator)
