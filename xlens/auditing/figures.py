"""An audit at a glance: where each group lies, how many decisions it stands behind, and what it looks like."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from torch import Tensor

from xlens.plot.draw import BLUE, RED, draw_input, plain, shorten
from xlens.plot.figure import new_figure
from xlens.plot.pixels import ranges_of_lens

if TYPE_CHECKING:
    from xlens.auditing.result import Audit

__all__ = ["plot_audit"]

_SHOWN, _EXEMPLARS = 8, 3
#: Characters of a line of text across the figure.
_LINE = 170


def plot_audit(audit: Audit) -> Figure:
    """Draw up to eight groups, suspects in vermilion: place, effect, exemplars; below them what tones say."""
    groups = audit.groups[:_SHOWN]
    suspects = {alarm.group for alarm in audit.alarms}
    tones = [line for tone in audit.tones for line in textwrap.wrap(f"Tone: {tone.said}", _LINE)]
    figure = new_figure(2.2 + 1.5 * (1 + 2 * _EXEMPLARS), 1.2 + 1.7 * max(1, len(groups)) + 0.16 * len(tones))
    if tones:
        figure.supxlabel("\n".join(tones), x=0.01, ha="left", fontsize=8, **plain)
    if not groups:
        figure.text(0.5, 0.5, "no groups: no place carries the decisions", ha="center", **plain)
        return figure
    axes = figure.subplots(len(groups), 1 + 2 * _EXEMPLARS, squeeze=False)
    ranges = ranges_of_lens(audit.fitted)
    for row, group in zip(axes, groups, strict=True):
        colour = RED if group.number in suspects else BLUE
        own = audit.parts.place[_rows(audit, group.inputs, group.target)]
        row[0].plot(own[:, 1], own[:, 0], ".", color="#b8bec7", markersize=2)
        row[0].plot([group.place[1]], [group.place[0]], "o", color=colour, markersize=9)
        row[0].set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect="equal")
        title = f"{audit.title(group)}: {group.share:.0%} of {group.target}, effect {group.effect:.2f}"
        row[0].set_title(shorten(title, 44), fontsize=8, loc="left", color=colour, **plain)
        for axis in row[1:]:
            axis.axis("off")
        for place, pair in enumerate(audit.thumbnails[group.number][:_EXEMPLARS]):
            for axis, image, said in zip(row[1 + 2 * place :], pair, ("before", "filled"), strict=False):
                draw_input(axis, image, ranges)
                axis.set_xlabel(said, fontsize=7)
    return figure


def _rows(audit: Audit, inputs: Tensor, target: str) -> list[bool]:
    """Return which parts are of these inputs and this decision."""
    wanted, number = set(inputs.tolist()), audit.fitted.class_names.index(target)
    pairs = zip(audit.parts.input.tolist(), audit.parts.target.tolist(), strict=True)
    return [i in wanted and t == number for i, t in pairs]
