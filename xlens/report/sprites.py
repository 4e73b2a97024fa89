"""Pictures as PNG data URIs, many in one, so that a report stays small."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from xlens.plot.pixels import Ranges, to_pixels

__all__ = ["frames_uri", "maps_uri", "mask_uri"]

_LEVELS = 63
_POSITIVE, _NEGATIVE, _UNSIGNED = (178, 24, 43), (33, 102, 172), (84, 39, 143)


def frames_uri(frames: Tensor, ranges: Ranges) -> str:
    """Return frames ``(T, C, H, W)`` as one PNG in which the frames' rows alternate.

    Row r of frame t is row ``r * T + t`` of the PNG. Neighbouring frames are nearly alike, and PNG predicts each
    row from the one above, so this costs a fraction of the frames one after the other.
    """
    pixels = np.stack([to_pixels(frame, ranges) for frame in frames])  # (T, H, W) or (T, H, W, 3 or 4)
    rows = pixels.swapaxes(0, 1)
    return _uri(Image.fromarray(np.ascontiguousarray(rows.reshape(-1, *rows.shape[2:]))))


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
    return _uri(image, transparency=bytes([0, *strength, *strength, *strength]))


def mask_uri(mask: Tensor) -> str:
    """Return a mask ``(1, H, W)`` as a grey PNG."""
    return _uri(Image.fromarray(to_pixels(mask, [(0.0, 1.0)])))


def _levels(values: Tensor, limit: float, unsigned: bool) -> np.ndarray:
    total = values.detach().cpu().float().sum(0).numpy()
    level = np.clip(np.rint(_LEVELS * np.abs(total) / limit), 0, _LEVELS).astype(np.uint8)
    if unsigned:
        return np.where(level > 0, level + 2 * _LEVELS, level).astype(np.uint8)
    return np.where((total < 0) & (level > 0), level + _LEVELS, level).astype(np.uint8)


def _uri(image: Image.Image, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=7, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
