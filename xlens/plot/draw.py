"""Single panels: an input, a signed map, a mask; for images and for signals."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from xlens.plot.pixels import Ranges, kind_of, to_pixels

__all__ = [
    "BLUE",
    "RED",
    "draw_input",
    "draw_mask",
    "draw_signed",
    "finish",
    "least_edit",
    "limit_of",
    "plain",
    "shorten",
    "strongest",
]

#: Blue and vermilion of Okabe and Ito, told apart by every kind of colour vision.
BLUE, RED = "#0072B2", "#D55E00"
#: Of maps that have no sign.
VIOLET = "#54278f"
_CHANNELS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
#: Text that came from outside is never read as mathematics: a ``$`` in a class name is a ``$``.
plain: dict[str, Any] = {"parse_math": False}


def shorten(text: str, most: int = 32) -> str:
    """Return `text` without line breaks, cut to `most` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def draw_input(axis: Axes, values: Tensor, ranges: Ranges, *, style: str = "-", faint: bool = False) -> None:
    """Draw an image ``(C, H, W)``, or a signal ``(C, L)`` or ``(D,)``, in its natural range."""
    if kind_of(values.shape) == "image":
        axis.imshow(to_pixels(values, ranges), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        return
    rows = values.detach().cpu().float().reshape(-1, values.shape[-1]).numpy()
    for row, colour in zip(rows, _cycle(len(rows)), strict=True):
        axis.plot(row, style, color=colour, linewidth=1.1, alpha=0.55 if faint else 1.0)
    low, high = min(pair[0] for pair in ranges), max(pair[1] for pair in ranges)
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)
    axis.set_xlim(0, max(rows.shape[1] - 1, 1))


def draw_mask(axis: Axes, mask: Tensor) -> None:
    """Draw a mask ``(1, *spatial)`` between 0 and 1."""
    if mask.dim() == 3:
        axis.imshow(mask[0].numpy(), cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
        return
    axis.fill_between(np.arange(mask.shape[-1]), mask.reshape(-1).numpy(), color=BLUE, step="mid")
    axis.set_ylim(0, 1)


def strongest(values: Tensor) -> Tensor:
    """Return of a difference ``(C, *spatial)``, at each place, the channel that differs most: ``(1, *spatial)``.

    A sum over channels would cancel where one channel gains what another loses.

    >>> import torch
    >>> strongest(torch.tensor([[1.0, 0.0], [-2.0, 0.5]]))
    tensor([[-2.0000,  0.5000]])
    """
    if values.dim() == 1:
        return values
    return values.gather(0, values.abs().argmax(0, keepdim=True))


def limit_of(values: Tensor, least: float = 0.0) -> float:
    """Return the end of a symmetric scale for a signed map ``(C, *spatial)``: nearly its largest magnitude.

    Args:
        values: the map.
        least: the smallest end; what is far below it is rounding noise, and stays pale.
    """
    total = _summed(values).abs().flatten().float()
    return max(float(total.quantile(0.999)) or float(total.max()), least) or 1.0


def least_edit(data_range: tuple[float, float]) -> float:
    """Return the smallest end of the scale of a difference between inputs: a thousandth of the data's range."""
    return 1e-3 * (data_range[1] - data_range[0])


def draw_signed(axis: Axes, values: Tensor, limit: float, *, unsigned: bool = False) -> None:
    """Draw a signed map ``(C, *spatial)``, summed over channels, between -`limit` (blue) and `limit` (red).

    An `unsigned` one is drawn from 0 (white) to `limit` (purple).
    """
    total = _summed(values)
    low, cmap = (0.0, "Purples") if unsigned else (-limit, "RdBu_r")
    ticks = [low, limit] if unsigned else [low, 0, limit]
    labels = ["0" if tick == 0 else f"{tick:.2g}" for tick in ticks]
    if total.dim() == 2:
        drawn = axis.imshow(total.numpy(), cmap=cmap, vmin=low, vmax=limit, interpolation="nearest")
        # Inset, so that every panel keeps the same size.
        bar = axis.figure.colorbar(drawn, cax=axis.inset_axes((0, -0.09, 1, 0.045)), orientation="horizontal")
        bar.set_ticks(ticks, labels=labels)
        bar.ax.tick_params(labelsize=8, length=2, pad=1)
        bar.outline.set_linewidth(0.4)
        left, *_, right = bar.ax.get_xticklabels()
        left.set_horizontalalignment("left")
        right.set_horizontalalignment("right")
        return
    places = np.arange(len(total))
    colours = VIOLET if unsigned else np.where(total.numpy() > 0, "#b2182b", "#2166ac")
    axis.bar(places, total.numpy(), width=1.0 if len(places) > 40 else 0.8, color=colours)
    axis.axhline(0, color="grey", linewidth=0.6)
    axis.set_ylim(1.05 * low, 1.05 * limit)
    axis.set_yticks(ticks, labels=labels, fontsize=8)


def finish(axis: Axes, title: str) -> None:
    """Title a panel and take its ticks away, but for those of a signed signal."""
    axis.set_title(title, fontsize=10, **plain)
    axis.set_xticks([])
    if not axis.patches:
        axis.set_yticks([])


def _summed(values: Tensor) -> Tensor:
    values = values.detach().cpu().float()
    return values if values.dim() == 1 else values.sum(0)


def _cycle(count: int) -> list[str]:
    return [_CHANNELS[i % len(_CHANNELS)] for i in range(count)]
