"""From inputs in any normalisation to what an eye expects, and from maps to colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xlens.errors import UnsupportedError
from xlens.explanation import Explanation
from xlens.fitted import Fitted

__all__ = [
    "Ranges",
    "has_true_colours",
    "kind_of",
    "natural_ranges",
    "ranges_of",
    "ranges_of_lens",
    "to_pixels",
    "to_unit",
    "true_colours",
]

#: One (darkest, brightest) value for all channels, or one per channel.
Ranges = Sequence[tuple[float, float]]

_USUAL = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
# Two channels as orange and blue, which add up to white: where they are alike, the picture is grey.
_TWO_COLOURS = torch.tensor([[1.0, 0.55, 0.0], [0.0, 0.45, 1.0]])


def kind_of(shape: Sequence[int], who: str = "plot") -> Literal["image", "signal"]:
    """Return how inputs of that shape are drawn.

    Args:
        shape: of one input: ``(C, H, W)`` with 1 to 4 channels, ``(C, L)`` or ``(D,)``.
        who: named in the error.

    Raises:
        UnsupportedError: another shape.
    """
    if len(shape) == 3 and 1 <= shape[0] <= 4:
        return "image"
    if len(shape) in (1, 2):
        return "signal"
    raise UnsupportedError(
        f"{who}: inputs of this shape cannot be drawn",
        given=tuple(shape),
        allowed="images (C, H, W) with 1 to 4 channels, signals (C, L) or (D,)",
        do="read the explanation's tensors directly, or draw some of the channels yourself",
    )


def natural_ranges(minimum: Sequence[float], maximum: Sequence[float]) -> Ranges:
    """Return the values that are drawn darkest and brightest, one pair per channel.

    Data that nearly fill [0, 1], [0, 255] or [-1, 1] are taken to mean just that, so that colours stay as they are.
    Of all others it is not known what was black and white: one range goes for all channels, which changes contrast
    and no hue, where one for each would.

    Args:
        minimum, maximum: smallest and largest value per channel.

    >>> natural_ranges((0.0, 0.02), (1.0, 0.9))
    [(0.0, 1.0), (0.0, 1.0)]
    >>> natural_ranges((-2.1, -1.8), (2.2, 2.6))
    [(-2.1, 2.6), (-2.1, 2.6)]
    """
    for low, high in _USUAL:
        slack = 0.1 * (high - low)
        inside = min(minimum) >= low - 1e-3 * slack and max(maximum) <= high + 1e-3 * slack
        if inside and min(minimum) <= low + slack and max(maximum) >= high - slack:
            return [(low, high)] * len(minimum)
    return [(min(minimum), max(maximum))] * len(minimum)


def true_colours(known: Ranges, minimum: Sequence[float], maximum: Sequence[float]) -> bool:
    """Whether pictures have the images' own colours, or nobody says how these were normalised.

    Args:
        known: what 0 and 1 became in each channel, or nothing.
        minimum, maximum: smallest and largest value per channel.

    >>> true_colours((), (0.0,) * 3, (1.0,) * 3), true_colours((), (-2.1, -2.0, -1.8), (2.2, 2.4, 2.6))
    (True, False)
    """
    # Grey has no colours, and of other channels nobody knows which they are.
    if len(minimum) != 3 or known or min(minimum) >= 0:
        return True
    return natural_ranges(minimum, maximum)[0] in _USUAL


def has_true_colours(explanation: Explanation) -> bool:
    """Whether pictures of an explanation have the images' own colours, as :func:`true_colours` has it."""
    pairs = explanation.channel_ranges
    image = len(explanation.inputs.shape) == 4
    return not image or true_colours(explanation.display_ranges, *([pair[k] for pair in pairs] for k in (0, 1)))


def ranges_of(explanation: Explanation) -> Ranges:
    """Return the ranges that an explanation's inputs are drawn in: by their mean and std, where these are known."""
    if explanation.display_ranges:
        return list(explanation.display_ranges)
    pairs = explanation.channel_ranges or (explanation.data_range,)
    return natural_ranges([low for low, _ in pairs], [high for _, high in pairs])


def ranges_of_lens(fitted: Fitted) -> Ranges:
    """Return the ranges that the inputs of a lens are drawn in."""
    return list(fitted.display_ranges) or natural_ranges(fitted.spec.minimum, fitted.spec.maximum)


def to_unit(values: Tensor, ranges: Ranges) -> Tensor:
    """Map an image ``(C, H, W)`` or a signal ``(C, L)`` or ``(D,)`` to [0, 1]; what lies outside is cut off.

    Args:
        values: the input.
        ranges: one pair for all channels, or one per channel.
    """
    low = torch.tensor([pair[0] for pair in ranges])
    high = torch.tensor([pair[1] for pair in ranges])
    shape = (-1, *([1] * (values.dim() - 1)))
    span = torch.where(high > low, high - low, torch.ones_like(high)).view(shape)
    return ((values.detach().cpu().float() - low.view(shape)) / span).clamp(0, 1)


def to_pixels(image: Tensor, ranges: Ranges) -> np.ndarray:
    """Return an image as bytes: ``(H, W)`` grey, ``(H, W, 3)`` colour or ``(H, W, 4)`` with opacity.

    Two channels become orange and blue.

    Args:
        image: ``(C, H, W)`` with 1 to 4 channels.
        ranges: as from :func:`natural_ranges`.
    """
    unit = to_unit(image, ranges)
    if len(unit) == 2:
        unit = torch.einsum("chw,ck->khw", unit, _TWO_COLOURS).clamp(0, 1)
    levels = (255 * unit).round().to(torch.uint8).numpy()
    return levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)
