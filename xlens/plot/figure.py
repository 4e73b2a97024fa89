"""Figures that notebooks show, whether or not pyplot was ever imported."""

from __future__ import annotations

import functools
import io

from matplotlib.figure import Figure

__all__ = ["new_figure"]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that is a picture in a notebook.

    IPython shows bare figures only once pyplot is set up, which drawing must not do. A subclass would not do
    either: Weights & Biases knows matplotlib's figures by the name of their very type.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    # What a notebook looks for on an object.
    setattr(figure, "_repr_png_", functools.partial(_png, figure))  # noqa: B010 - matplotlib does not declare it
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()
