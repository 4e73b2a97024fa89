"""An evaluation at a glance: each figure of the attributions as points with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from xlens.plot.draw import BLUE, RED, plain, shorten
from xlens.plot.figure import new_figure

if TYPE_CHECKING:
    from xlens.evaluation import Evaluation

__all__ = ["plot_evaluation"]

_COLUMNS = 5
_BETTER = {"higher": "more is better", "lower": "less is better", "": ""}


def plot_evaluation(evaluation: Evaluation) -> Figure:
    """Evaluation figure: a panel for each figure of the attributions; blue for a lens's maps, vermilion for others.

    Without attributions the figures of the lenses are drawn.
    """
    contenders = list(evaluation.maps or evaluation.contenders)
    names = list(dict.fromkeys(f.name for f in evaluation.figures if f.contender in contenders))
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(2.6 * columns + 2.0, rows * (0.24 * len(contenders) + 0.9))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    found = {(f.contender, f.name): f for f in evaluation.figures}
    for axis, name in zip(axes.flat, names, strict=False):
        for place, contender in enumerate(contenders):
            one = found.get((contender, name))
            if one is None:
                continue
            low, high = (one.value, one.value) if one.low is None else (one.low, one.high)
            colour = BLUE if ": " in contender else RED
            axis.plot([low, high], [place, place], color=colour, linewidth=1.5)
            axis.plot([one.value], [place], "o", color=colour, markersize=4)
        better = next(f.better for f in evaluation.figures if f.name == name)
        axis.set_title(name, fontsize=9, **plain)
        axis.set_xlabel(_BETTER[better], fontsize=7)
        axis.tick_params(labelsize=7)
        axis.grid(axis="x", linewidth=0.3)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    axes[0, 0].set_yticks(range(len(contenders)), [shorten(name, 40) for name in contenders], **plain)
    axes[0, 0].invert_yaxis()
    return figure
