"""Mean and standard deviation that images were normalised with, wherever they are said; pictures undo them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlens.errors import ModelError

__all__ = ["Normalization", "as_normalization", "normalization_in"]

#: Names under which a mean and a standard deviation are kept: torchvision's and timm's, and Hugging Face's.
_NAMES = (("mean", "std"), ("image_mean", "image_std"))
#: Where transforms keep other transforms, and data sets theirs.
_INSIDE = ("transforms", "transform")
#: What is said to be wrong, and what is allowed.
_ALLOWED = (
    "(mean, std) for values in [0, 1], a torchvision transform with a Normalize, timm's data config, or an image "
    "processor"
)


@dataclass(frozen=True)
class Normalization:
    """What was done to images in [0, 1]: ``(value - mean) / std``.

    Args:
        mean, std: per channel, or one for all.

    >>> from xlens.classifier.normalization import Normalization
    >>> Normalization((0.5,), (0.25,)).ranges(1)
    ((-2.0, 2.0),)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def ranges(self, channels: int) -> tuple[tuple[float, float], ...]:
        """Return what 0 and 1 became in each channel; nothing where the number of channels is another."""
        if {len(self.mean), len(self.std)} - {1, channels}:
            return ()
        mean, std = (values * channels if len(values) == 1 else values for values in (self.mean, self.std))
        return tuple((-m / s, (1 - m) / s) for m, s in zip(mean, std, strict=True))

    def facts(self) -> dict[str, list[float]]:
        """Return it as plain JSON."""
        return {"mean": list(self.mean), "std": list(self.std)}


def as_normalization(given: Any, who: str = "Classifier") -> Normalization | None:
    """Return what a person said of the normalisation; None where nothing was.

    Args:
        given: ``(mean, std)`` in units of [0, 1], a mapping or an object that has them, or a transform with one.
        who: named in the error.

    Raises:
        ModelError: it says no mean and standard deviation.

    >>> from xlens.classifier.normalization import as_normalization
    >>> as_normalization({"mean": [0.5], "std": [0.2]})
    Normalization(mean=(0.5,), std=(0.2,))
    """
    if given is None or isinstance(given, Normalization):
        return given
    pair = given if isinstance(given, tuple | list) and len(given) == 2 else None
    found = _made(*pair) if pair is not None else normalization_in(given)
    if found is None:
        raise ModelError(f"{who}: normalization says no mean and std", given=repr(given)[:80], allowed=_ALLOWED)
    return found


def normalization_in(source: Any) -> Normalization | None:
    """Return the normalisation that a transform, a data set or a configuration ends with, if it is known.

    Args:
        source: looked through for other transforms and data sets inside; nothing of it is called.
    """
    found = list(_inside(source, 0))
    return found[-1] if found else None


def _inside(source: Any, depth: int) -> Iterator[Normalization]:
    """Yield every normalisation, in the order in which they are applied."""
    if source is None or depth > 8 or isinstance(source, str | bytes | int | float):
        return
    if isinstance(source, list | tuple):
        for part in source:
            yield from _inside(part, depth + 1)
        return
    read = source.get if isinstance(source, Mapping) else lambda name: getattr(source, name, None)
    for mean, std in _NAMES:
        if (one := _made(read(mean), read(std))) is not None:
            yield one
            return
    if isinstance(source, Mapping):
        return
    # A subset, or a loader: what it is of.
    yield from _inside(getattr(source, "dataset", None), depth + 1)
    for name in _INSIDE:
        if (part := getattr(source, name, None)) is not None and not callable(getattr(part, "__func__", None)):
            yield from _inside(part, depth + 1)
            return


def _made(mean: Any, std: Any) -> Normalization | None:
    """Return the normalisation of a mean and a standard deviation, or None where these are none."""
    both = [_numbers(values) for values in (mean, std)]
    if both[0] is None or both[1] is None or len(both[0]) != len(both[1]) or min(both[1]) <= 0:
        return None
    return Normalization(both[0], both[1])


def _numbers(values: Any) -> tuple[float, ...] | None:
    if isinstance(values, int | float) and not isinstance(values, bool):
        values = (values,)
    if hasattr(values, "tolist") and not callable(values):
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in values):
        return None
    return tuple(float(one) for one in values)
