"""What is known of images whose class was made."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields

from torch import Tensor

from xlens.errors import OptionError

__all__ = ["KnownCause", "Ranges", "range_faults", "refuse"]

Ranges = tuple[float, float]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class KnownCause:
    """Images of two classes that differ in one thing, and the truth about it.

    Args:
        images: ``(N, C, H, W)``.
        labels: ``(N,)`` 1 where the cause is there, else 0.
        masks: ``(N, 1, H, W)`` bool, the pixels of the cause; empty where it is not there.
        clean: ``(N, C, H, W)`` the same images without it: the true counterfactual of those that have it.
        factors: name -> ``(N,)``, everything that was drawn; NaN where it says nothing of an image.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    clean: Tensor
    factors: Mapping[str, Tensor]

    def __len__(self) -> int:
        """Return the number of images N."""
        return len(self.images)

    def __getitem__(self, index: int | slice | Tensor) -> KnownCause:
        """Return some of the images, by a slice, a mask ``(N,)`` or positions ``(M,)``; or one, as a batch of 1."""
        if not isinstance(index, slice) and not isinstance(index, Tensor):
            index = operator.index(index)
            if not -len(self) <= index < len(self):
                raise IndexError(f"image {index} of {len(self)}")
            index = slice(index, index + 1 or None)
        chosen = {field.name: getattr(self, field.name)[index] for field in fields(self) if field.name != "factors"}
        return KnownCause(**chosen, factors={name: values[index] for name, values in self.factors.items()})

    def __repr__(self) -> str:
        """Return a line that fits a terminal."""
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"KnownCause({len(self)} of {shape}; with the cause: {int(self.labels.sum())})"


def range_faults(name: str, value: Ranges, low: float, high: float) -> list[str]:
    """Return what is wrong with a pair that should satisfy low <= first <= second <= high."""
    pair = isinstance(value, tuple | list) and len(value) == 2
    if pair and all(isinstance(v, int | float) for v in value) and low <= value[0] <= value[1] <= high:
        return []
    return [f"{name} must be two numbers from {low:g} to {high:g}, the smaller first, got {value!r}"]


def refuse(who: str, faults: list[str]) -> None:
    """Raise one error with all faults, if there are any."""
    if faults:
        raise OptionError(f"{who}: " + "; ".join(faults))
