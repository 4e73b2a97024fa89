"""A cause planted into real images, at a place, size and strength that are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.contracts.numbers import is_number, whole
from xlens.data.numbers import as_tensor
from xlens.datasets.known import KnownCause, Ranges, range_faults, refuse
from xlens.errors import DataError, did_you_mean

__all__ = ["CAUSES", "Cause", "plant", "planted"]

Cause = Literal["blob", "scratch", "texture"]

#: Sizes are given for images of this side, and grow with it.
_SIDE = 28
#: An object is where the image is brighter than this share of the range; its rim, of two pixels, is spared.
_OBJECT, _RIM = 0.25, 2
#: The mask is where the cause has more than this share of its full strength.
_EDGE = 0.3
_STRENGTH: Ranges = (0.45, 0.8)
#: Of single precision.
_LARGEST = torch.finfo(torch.float32).max
#: By which a range that was worked out in other digits may miss the images', as share of it.
_ROUNDING = 1e-5


def planted(
    images: Any,
    cause: Cause = "blob",
    *,
    probability: float = 0.5,
    strength: Ranges = _STRENGTH,
    scale: float = 1.0,
    inside: Tensor | None = None,
    data_range: Ranges | None = None,
    seed: int = 0,
) -> KnownCause:
    """Put a soft cause at a random place inside the object into some of the images.

    Args:
        images: ``(N, C, H, W)``.
        cause: ``"blob"``, a Gaussian spot; ``"scratch"``, a line; ``"texture"``, a patch of stripes. Blob and
            scratch go toward the tone opposite to what they cover, so that brightness does not give them away.
        probability: with which an image gets it.
        strength: smallest and largest change at the centre, as share of the data's range.
        scale: size of the cause, 1 for a standard deviation of 1.4 to 2.4 pixels (blob), a length of 8 to 14
            (scratch) and a standard deviation of 2.2 to 3.2 (texture) in an image of 28 pixels a side.
        inside: ``(N, 1, H, W)`` bool, where its centre may lie; None for pixels brighter than a quarter of the
            range, without their rim.
        data_range: smallest and largest possible value; None for those of the images.
        seed: decides everything.

    Returns:
        images, labels, masks (where the cause has more than .3 of its strength), the images before, and factors:
        ``present, row, column, strength`` (signed, as share of the range) and, by cause, ``sigma``,
        ``length, angle``, ``wavelength, angle``; NaN where nothing was planted.

    Raises:
        DataError: no batch of images, values outside of `data_range`, or an `inside` that does not fit the images
            or is empty for one of them.
        OptionError: an unknown cause or a number out of range; all faults in one error.

    >>> import torch
    >>> from xlens.datasets import planted
    >>> found = planted(torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0)), "scratch", seed=1)
    >>> found.masks.shape, sorted(found.factors)
    (torch.Size([6, 1, 28, 28]), ['angle', 'column', 'length', 'present', 'row', 'sigma', 'strength'])
    """
    clean = _checked(images)
    known = tuple(CAUSES)
    faults = [] if cause in known else [f"unknown cause {cause!r}.{did_you_mean(str(cause), known)}"]
    if not is_number(probability) or not 0 <= probability <= 1:
        faults.append(f"probability must be from 0 to 1, got {probability!r}")
    if not is_number(scale) or not 0 < scale <= 10:
        faults.append(f"scale must be above 0 and at most 10, got {scale!r}")
    if (number := whole(seed)) is None or not 0 <= number < 2**63:
        faults.append(f"seed must be an int >= 0 and < 2**63, got {seed!r}")
    faults += range_faults("strength", strength, 0.0, 1.0)
    if data_range is not None:
        faults += range_faults("data_range", data_range, -_LARGEST, _LARGEST)
    refuse("planted", faults)
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(len(clean), generator=generator) < probability).long()
    caused, masks, factors = plant(
        clean, cause, generator, strength=strength, scale=scale, inside=inside, data_range=data_range
    )
    positive = labels.bool()[:, None, None, None]
    known_of = {name: torch.where(labels.bool(), values, torch.nan) for name, values in factors.items()}
    return KnownCause(
        images=torch.where(positive, caused, clean),
        labels=labels,
        masks=masks & positive,
        clean=clean,
        factors={"present": labels.float(), **known_of},
    )


def plant(
    images: Tensor,
    cause: Cause,
    generator: torch.Generator,
    *,
    strength: Ranges = _STRENGTH,
    scale: float = 1.0,
    inside: Tensor | None = None,
    data_range: Ranges | None = None,
) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
    """Put the cause into every image; return images, masks ``(N, 1, H, W)`` and factors, as :func:`planted`.

    Args:
        images: ``(N, C, H, W)``.
        cause: which.
        generator: draws; it is advanced.
        strength, scale, inside, data_range: as for :func:`planted`.
    """
    smallest, largest = float(images.min()), float(images.max())
    low, high = data_range or (smallest, largest)
    slack = _ROUNDING * (high - low)
    if smallest < low - slack or largest > high + slack:
        # Clamped to the range they would change where nothing is planted.
        raise DataError(
            "planted: images have values outside of data_range",
            given=f"values from {smallest:g} to {largest:g}",
            allowed=f"from {low:g} to {high:g}",
            do="pass the range of these images, in their own normalisation",
        )
    span = (high - low) or 1.0
    unit = (images - low) / span
    place = _places(unit, inside, generator)
    size = scale * min(images.shape[2:]) / _SIDE
    shape, factors = CAUSES[cause](_Site(unit, place, size, strength), generator)
    profile, pattern = shape
    caused = (unit + pattern).clamp(0, 1) * span + low
    # Where nothing was added the image stays as it was, to the last bit.
    return torch.where(pattern == 0, images, caused), profile > _EDGE, {**place, **factors}


@dataclass(frozen=True)
class _Site:
    """Images scaled to [0, 1], the centres of the causes, their size in pixels and the range of strengths."""

    images: Tensor
    place: Mapping[str, Tensor]
    size: float
    strength: Ranges

    def draw(self, generator: torch.Generator, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(self.images), generator=generator)

    def strengths(self, generator: torch.Generator) -> Tensor:
        return self.draw(generator, *self.strength)

    def offsets(self) -> tuple[Tensor, Tensor]:
        """Return how far each pixel is from the centre, down and to the right, ``(N, H, W)`` each."""
        height, width = self.images.shape[2:]
        y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
        return y - _wide(self.place["row"]), x - _wide(self.place["column"])

    def toward_the_opposite(self, profile: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is added, away from the tone that the profile covers, and its signed strength."""
        grey = self.images.mean(1, keepdim=True)
        tone = (grey * profile).sum((1, 2, 3)) / profile.sum((1, 2, 3))
        signed = torch.where(tone > 0.5, -strength, strength)
        return signed[:, None, None, None] * profile, signed


_Shape = tuple[tuple[Tensor, Tensor], dict[str, Tensor]]


def _blob(site: _Site, generator: torch.Generator) -> _Shape:
    sigma = site.size * site.draw(generator, 1.4, 2.4)
    strength = site.strengths(generator)
    down, right = site.offsets()
    profile = torch.exp(-(down.square() + right.square()) / (2 * _wide(sigma).square()))[:, None]
    added, signed = site.toward_the_opposite(profile, strength)
    return (profile, added), {"sigma": sigma, "strength": signed}


def _scratch(site: _Site, generator: torch.Generator) -> _Shape:
    sigma = site.size * site.draw(generator, 0.7, 1.0)
    length = site.size * site.draw(generator, 8.0, 14.0)
    angle = site.draw(generator, 0.0, math.pi)
    strength = site.strengths(generator)
    down, right = site.offsets()
    along = right * _wide(angle.cos()) + down * _wide(angle.sin())
    across = down * _wide(angle.cos()) - right * _wide(angle.sin())
    beyond = (along.abs() - _wide(length) / 2).clamp_min(0)
    profile = torch.exp(-(beyond.square() + across.square()) / (2 * _wide(sigma).square()))[:, None]
    added, signed = site.toward_the_opposite(profile, strength)
    return (profile, added), {"sigma": sigma, "length": length, "angle": angle, "strength": signed}


def _texture(site: _Site, generator: torch.Generator) -> _Shape:
    sigma = site.size * site.draw(generator, 2.2, 3.2)
    wavelength = site.size * site.draw(generator, 2.6, 3.6)
    angle = site.draw(generator, 0.0, math.pi)
    phase = site.draw(generator, 0.0, 2 * math.pi)
    strength = site.strengths(generator)
    down, right = site.offsets()
    profile = torch.exp(-(down.square() + right.square()) / (2 * _wide(sigma).square()))[:, None]
    along = right * _wide(angle.cos()) + down * _wide(angle.sin())
    stripes = torch.sin(2 * math.pi * along / _wide(wavelength) + _wide(phase))[:, None]
    added = strength[:, None, None, None] * profile * stripes
    factors = {"sigma": sigma, "wavelength": wavelength, "angle": angle, "phase": phase, "strength": strength}
    return (profile, added), factors


#: Name -> how it is drawn: the profile ``(N, 1, H, W)`` in [0, 1], what is added, and the factors.
CAUSES: Mapping[str, Callable[[_Site, torch.Generator], _Shape]] = {
    "blob": _blob,
    "scratch": _scratch,
    "texture": _texture,
}


def _places(unit: Tensor, inside: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw a centre in each object, where it has an inside at all."""
    n, _, height, width = unit.shape
    bright = (unit.mean(1) > _OBJECT).float()
    allowed = bright if inside is None else _allowed(inside, (n, 1, height, width))
    core = -F.max_pool2d(-allowed[:, None], 2 * _RIM + 1, 1, _RIM)[:, 0]
    empty = core.flatten(1).sum(1, keepdim=True) == 0
    places = torch.where(empty, allowed.flatten(1) + 1e-6, core.flatten(1))
    centre = torch.multinomial(places, 1, generator=generator)[:, 0]
    return {"row": (centre // width).float(), "column": (centre % width).float()}


def _allowed(inside: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tuple(inside.shape) != shape:
        raise DataError("planted: inside does not fit the images", given=tuple(inside.shape), allowed=shape)
    empty = ~inside.bool().flatten(1).any(1)
    if bool(empty.any()):
        raise DataError(
            "planted: inside is empty",
            given=f"that of image {int(empty.nonzero()[0, 0])}",
            do="leave such images out",
        )
    return inside[:, 0].bool().float()


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]


def _checked(images: Any) -> Tensor:
    try:
        values = as_tensor(images)
    except (TypeError, ValueError, RuntimeError):
        values = torch.empty(0)
    if values.dim() != 4 or not len(values) or not values.is_floating_point() or not bool(values.isfinite().all()):
        raise DataError(
            "planted: not a batch of images",
            given=f"shape {tuple(values.shape)}, {values.dtype}",
            allowed="finite numbers (N, C, H, W), N >= 1",
        )
    return values.detach().clone().float()
