"""Figures that notebooks show, whether or not pyplot was ever imported."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from xlens.files.writing import write_whole

__all__ = ["new_figure", "save_figure"]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that is a picture in a notebook.

    IPython shows bare figures only once pyplot is set up, which drawing must not do. A subclass would not do
    either: Weights & Biases knows matplotlib's figures by the name of their very type.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    # What a notebook looks for on an object.
    setattr(figure, "_repr_png_", functools.partial(_png, figure))  # noqa: B010 - matplotlib does not declare it
    return figure


def save_figure(figure: Figure, path: Path, **options: Any) -> None:
    """Write a figure as a whole file, of the kind that its name says.

    Args:
        figure: the figure.
        path: the file; without an ending it is a PNG.
        options: options of matplotlib's ``savefig``.

    Raises:
        OSError: it cannot be written.
        ValueError: matplotlib knows no such kind of file.
    """
    path = path if path.suffix else path.with_suffix(".png")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), **options)
    write_whole(path, buffer.getvalue())


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()
