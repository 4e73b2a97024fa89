"""Pictures as PNG data URIs, many in one, so that a report stays small."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from xlens.plot.pixels import Ranges, to_pixels

__all__ = ["frames_uri", "maps_uri", "mask_uri", "stacked_uri"]

_LEVELS = 63
# Of JPEG, with colours at half the resolution.
_BLOCK = 16
_POSITIVE, _NEGATIVE, _UNSIGNED = (178, 24, 43), (33, 102, 172), (84, 39, 143)


def frames_uri(frames: Tensor, ranges: Ranges) -> str:
    """Return frames ``(T, C, H, W)`` as one PNG in which the frames' rows alternate.

    Row r of frame t is row ``r * T + t`` of the PNG. Neighbouring frames are nearly alike, and PNG predicts each
    row from the one above, so this costs a fraction of the frames one after the other.
    """
    pixels = np.stack([to_pixels(frame, ranges) for frame in frames])  # (T, H, W) or (T, H, W, 3 or 4)
    rows = pixels.swapaxes(0, 1)
    return _png(Image.fromarray(np.ascontiguousarray(rows.reshape(-1, *rows.shape[2:]))))


def stacked_uri(frames: Tensor, ranges: Ranges, *, coarse: bool = False) -> str:
    """Return frames ``(T, C, H, W)``, C at most 3, as one JPEG, one below the other.

    Each is continued to a multiple of JPEG's blocks, so that no frame shines into the next.

    Args:
        frames, ranges: the images, and what is drawn darkest and brightest.
        coarse: fewer bytes, with colours at half the resolution.
    """
    pixels = np.stack([to_pixels(frame, ranges) for frame in frames])
    more = -pixels.shape[1] % _BLOCK
    padded = np.pad(pixels, [(0, 0), (0, more), *[(0, 0)] * (pixels.ndim - 2)], mode="edge")
    image = Image.fromarray(np.ascontiguousarray(padded.reshape(-1, *padded.shape[2:])))
    return _uri(image, "JPEG", quality=80 if coarse else 90, subsampling=2 if coarse else 0, optimize=True)


def maps_uri(maps: Sequence[Tensor], limits: Sequence[float], unsigned: Sequence[bool] | None = None) -> str:
    """Return signed maps ``(C, H, W)`` as one PNG, one below the other: red above zero, blue below.

    The colour fades with the magnitude, so that a map can lie over an image.

    Args:
        maps: one or more; channels are summed.
        limits: the magnitude, per map, that is drawn in full.
        unsigned: whether a map has no sign, and is drawn in violet; none if None.
    """
    kinds = [False] * len(maps) if unsigned is None else unsigned
    tiles = [_levels(values, limit, kind) for values, limit, kind in zip(maps, limits, kinds, strict=True)]
    image = Image.fromarray(np.concatenate(tiles))
    palette = [(0, 0, 0), *[_POSITIVE] * _LEVELS, *[_NEGATIVE] * _LEVELS, *[_UNSIGNED] * _LEVELS]
    image.putpalette([part for colour in palette for part in colour])
    strength = [round(255 * level / _LEVELS) for level in range(1, _LEVELS + 1)]
    return _png(image, transparency=bytes([0, *strength, *strength, *strength]))


def mask_uri(mask: Tensor) -> str:
    """Return a mask ``(1, H, W)`` as a grey PNG."""
    return _png(Image.fromarray(to_pixels(mask, [(0.0, 1.0)])))


def _levels(values: Tensor, limit: float, unsigned: bool) -> np.ndarray:
    total = values.detach().cpu().float().sum(0).numpy()
    level = np.clip(np.rint(_LEVELS * np.abs(total) / limit), 0, _LEVELS).astype(np.uint8)
    if unsigned:
        return np.where(level > 0, level + 2 * _LEVELS, level).astype(np.uint8)
    return np.where((total < 0) & (level > 0), level + _LEVELS, level).astype(np.uint8)


def _png(image: Image.Image, **options: object) -> str:
    return _uri(image, "PNG", compress_level=7, **options)


def _uri(image: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
