"""Frames of feature sliders, in as few bytes as a report of its size may have."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from xlens.plot.pixels import Ranges
from xlens.report.sprites import frames_uri, stacked_uri
from xlens.report.traversals import Traversal

__all__ = ["allowance", "slider_items"]

#: What sixteen images of 64x64 may take, where nobody says; more and larger ones in proportion.
_BYTES, _PIXELS = 1_950_000, 16 * 64 * 64


def allowance(n: int, shape: Sequence[int]) -> int:
    """Return how many bytes a report of `n` inputs of that shape should stay below.

    >>> allowance(16, (3, 64, 64)), allowance(64, (1, 64, 64))
    (1950000, 7800000)
    """
    return round(_BYTES * max(1.0, n * math.prod(shape[1:]) / _PIXELS))


def slider_items(
    traversals: Sequence[Traversal], ranges: Ranges, left: int, *, optional: bool
) -> tuple[list[list[dict[str, Any]]], list[str]]:
    """Return per traversal and input how its frames are written, and the names of features left out.

    PNG where all of it fits, else JPEG, off by about one level in a hundred, else coarser JPEG; then the last
    features go.

    Args:
        traversals: of N images each, the most important first.
        ranges: natural range of the inputs.
        left: bytes that they may take together.
        optional: whether features may be left out; else all are written.
    """
    encoders = [frames_uri]
    if traversals and traversals[0].frames.shape[2] != 4:  # JPEG has no opacity
        encoders += [stacked_uri, partial(stacked_uri, coarse=True)]
    found: list[list[dict[str, Any]]] = []
    for encode in encoders:
        found = [_written(one, ranges, encode) for one in traversals]
        if _size(found) <= left:
            break
    kept = len(found)
    while optional and kept and _size(found[:kept]) > left:
        kept -= 1
    return found[:kept], [one.feature for one in traversals[kept:]]


def _written(one: Traversal, ranges: Ranges, encode: Callable[[Tensor, Ranges], str]) -> list[dict[str, Any]]:
    stacked = encode is not frames_uri
    return [{"images": encode(frames.detach().cpu(), ranges), "stacked": stacked} for frames in one.frames]


def _size(items: list[list[dict[str, Any]]]) -> int:
    return len(json.dumps(items))
