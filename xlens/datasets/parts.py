"""A small renderer of cups: every part, and every factor behind an image, is known."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xlens.contracts.numbers import is_number, whole
from xlens.datasets.known import KnownCause, refuse
from xlens.errors import DataError, OptionError, did_you_mean

__all__ = ["part_factors", "parts", "render_parts"]

#: Factor -> smallest and largest value. Lengths are shares of the side; tones are shares of the range.
_RANGES: dict[str, tuple[float, float]] = {
    "row": (0.5, 0.6),
    "column": (0.4, 0.5),
    "width": (0.3, 0.44),
    "height": (0.36, 0.52),
    "tone": (0.45, 0.9),
    "background": (0.0, 0.2),
    "stripe": (-0.25, 0.25),
    "lid": (0.04, 0.14),
    "handle": (0.1, 0.15),
}
#: Width of an edge, in pixels.
_SOFT = 0.5
_NOISE = 0.02


def part_factors() -> tuple[str, ...]:
    """Return the names of the factors behind a rendered image."""
    return tuple(_RANGES)


def parts(n: int, *, size: int = 28, probability: float = 0.5, seed: int = 0) -> KnownCause:
    """Render cups, some of which have a handle, which is what their class says.

    Args:
        n: number of images.
        size: pixels a side, 16 and more.
        probability: with which a cup has a handle.
        seed: decides everything.

    Returns:
        images ``(n, 1, size, size)`` in [0, 1], labels (1 with a handle), masks of the pixels that the handle
        changes, the same cups without it, and the factors that :func:`render_parts` takes (``handle`` is 0
        without one).

    Raises:
        OptionError: a number out of range; all faults in one error.

    >>> from xlens.datasets import parts
    >>> cups = parts(8, seed=0)
    >>> cups.images.shape, bool((cups.images == cups.clean).flatten(1).all(1).eq(cups.labels == 0).all())
    (torch.Size([8, 1, 28, 28]), True)
    """
    faults = []
    for name, value, least in (("n", n, 1), ("size", size, 16), ("seed", seed, 0)):
        if (number := whole(value)) is None or not least <= number < 2**63:
            faults.append(f"{name} must be an int >= {least}, got {value!r}")
    if not is_number(probability) or not 0 <= probability <= 1:
        faults.append(f"probability must be from 0 to 1, got {probability!r}")
    refuse("parts", faults)
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, generator=generator) < probability).long()
    factors = {
        name: low + (high - low) * torch.rand(n, generator=generator) for name, (low, high) in _RANGES.items()
    }
    factors["handle"] = factors["handle"] * labels
    # The same noise with and without the handle, so that they differ in nothing else.
    noise = _NOISE * torch.randn(n, 1, size, size, generator=generator)
    images, clean = (
        (render_parts(given, size) + noise).clamp(0, 1)
        for given in (factors, {**factors, "handle": torch.zeros(n)})
    )
    changed = (images - clean).abs()
    masks = changed > 0.3 * changed.flatten(1).amax(1)[:, None, None, None].clamp_min(1e-6)
    return KnownCause(images=images, labels=labels, masks=masks, clean=clean, factors=factors)


def render_parts(factors: Mapping[str, Tensor], size: int = 28) -> Tensor:
    """Render cups from their factors, ``(N, 1, size, size)`` in [0, 1]; gradients flow.

    Args:
        factors: name -> ``(N,)`` for every name of :func:`part_factors`: centre (``row, column``), ``width`` and
            ``height`` of the body, height of the ``lid`` and radius of the ``handle`` (0 for none) as shares of
            the side; ``tone`` of the body, ``background``, and contrast of a ``stripe``, in [0, 1].
        size: pixels a side.

    Raises:
        OptionError: a factor is unknown or missing.
        DataError: factors of different lengths.

    >>> import torch
    >>> from xlens.datasets import part_factors, render_parts
    >>> render_parts({name: torch.full((2,), 0.3) for name in part_factors()}).shape
    torch.Size([2, 1, 28, 28])
    """
    _check_factors(factors)
    f = {name: values[:, None, None] for name, values in factors.items()}
    middle = (torch.arange(size, dtype=torch.float32, device=f["row"].device) + 0.5) / size
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    down, right = y - f["row"], x - f["column"]

    def solid(distance: Tensor) -> Tensor:
        return torch.sigmoid(-distance * size / _SOFT)

    image = f["background"].expand(len(factors["row"]), size, size)
    body = solid(_box(down, right, f["height"] / 2, f["width"] / 2))
    # Drawn first, so that the body covers where it is fastened. A handle of no radius is nowhere.
    ring = solid(((down.square() + (right - f["width"] / 2).square()).sqrt() - f["handle"]).abs() - 0.035)
    image = _over(image, f["tone"], ring * (f["handle"] > 0))
    image = _over(image, f["tone"], body)
    image = _over(image, f["tone"] + f["stripe"], body * solid(down.abs() - 0.05))
    top = down + f["height"] / 2
    dome = (top / f["lid"]).square() + (right / (f["width"] / 2)).square()
    lid = solid((dome.clamp_min(1e-12).sqrt() - 1) * f["lid"]) * solid(top)
    return _over(image, 0.75 * f["tone"], lid)[:, None].clamp(0, 1)


def _check_factors(factors: Mapping[str, Tensor]) -> None:
    faults = [f"unknown factor {name!r}.{did_you_mean(name, _RANGES)}" for name in factors if name not in _RANGES]
    faults += [f"factor {name!r} is missing" for name in _RANGES if name not in factors]
    if faults:
        raise OptionError("render_parts: " + "; ".join(faults), allowed=", ".join(_RANGES))
    shapes = {tuple(values.shape) for values in factors.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise DataError("render_parts: factors differ in length", given=sorted(shapes), allowed="(N,) each")


def _box(down: Tensor, right: Tensor, half_height: Tensor, half_width: Tensor) -> Tensor:
    """Signed distance to a box, negative inside."""
    return torch.maximum(down.abs() - half_height, right.abs() - half_width)


def _over(image: Tensor, tone: Tensor, share: Tensor) -> Tensor:
    return image * (1 - share) + tone * share
