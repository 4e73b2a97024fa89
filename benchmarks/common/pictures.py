"""Rows of images, as the pages show them."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def draw(rows: list[Tensor], names: list[str], path: Path) -> None:
    """Write rows of grey images."""
    from matplotlib.figure import Figure

    count = min(10, min(len(row) for row in rows))
    figure = Figure(figsize=(0.75 * count + 1, 0.78 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False)
    for r, row in enumerate(rows):
        for i in range(count):
            axes[r, i].imshow(row[i, 0], cmap="gray", vmin=0, vmax=1)
            axes[r, i].set_xticks([])
            axes[r, i].set_yticks([])
        axes[r, 0].set_ylabel(names[r], fontsize=7, rotation=0, ha="right", va="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=75)


def sheet(
    rows: list[tuple[Tensor, Tensor, Tensor, tuple[float, float, float]]],
    path: Path,
    *,
    side: int = 128,
    wide: int = 3,
) -> None:
    """Write a contact sheet of three pictures ``(3, H, W)`` an input, `wide` inputs a row, in few colours.

    A bar of the given colour stands under the third.
    """
    cells = []
    for *pictures, colour in rows:
        small = F.interpolate(torch.stack(pictures), (side, side), mode="bilinear", antialias=True)
        bar = torch.ones(3, 5, 3 * side)
        bar[..., 2 * side :] = torch.tensor(colour)[:, None, None]
        cells.append(F.pad(torch.cat([torch.cat(list(small), 2), bar], 1), (0, 4, 0, 3), value=1.0))
    cells += [torch.ones_like(cells[0])] * (-len(cells) % wide)
    whole = torch.cat([torch.cat(cells[i : i + wide], 2) for i in range(0, len(cells), wide)], 1)
    image = Image.fromarray(whole.clamp(0, 1).mul(255).byte().permute(1, 2, 0).numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)
