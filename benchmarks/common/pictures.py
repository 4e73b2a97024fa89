"""Rows of images, as the pages show them."""

from __future__ import annotations

from pathlib import Path

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
