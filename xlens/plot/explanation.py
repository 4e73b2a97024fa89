"""One figure that shows an explanation, with its proof or its failure in plain sight."""

from __future__ import annotations

import textwrap
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from xlens.explanation import Explanation
from xlens.plot.draw import (
    BLUE,
    draw_input,
    draw_mask,
    draw_signed,
    finish,
    least_edit,
    limit_of,
    plain,
    shorten,
    strongest,
)
from xlens.plot.figure import new_figure
from xlens.plot.pixels import Ranges, kind_of, ranges_of
from xlens.plot.words import (
    complete_methods,
    end_of_path,
    method_title,
    other_case,
    path_of,
    probability_of,
    question,
    scores_of,
    sentences,
    unsigned_methods,
)

__all__ = ["plot_explanation"]

_COLUMNS = 7
_FRAMES = 7
_WIDTH = 13.0
#: Letters of a title on one line over a panel, and letters of all of it; inches of a line of the words below.
_TITLE, _TITLE_MOST, _LINE = 22, 60, 0.2
_WARNING = "#a11a14"


def plot_explanation(explanation: Explanation) -> Figure:
    """Explanation figure: the first input, its counterfactual, the path and the maps.

    On top input, reconstruction, counterfactual, mask, signed difference and attributions (those that are complete
    on one symmetric scale), then the path from counterfactual to input (with ``carry="none"``, to the
    reconstruction), the classifier's probability along it, and what the figures mean. Of more than two classes that
    probability is the target's against the contrast's. An explanation that does not hold carries a red banner that
    says why.

    Args:
        explanation: of images ``(N, C, H, W)`` with 1 to 4 channels, or of signals ``(N, C, L)`` or ``(N, D)``.

    Returns:
        The figure. No global state is touched; TensorBoard, Weights & Biases and MLflow take it as it is.

    Raises:
        UnsupportedError: inputs of another shape.

    >>> from xlens.plot import plot_explanation
    >>> plot_explanation(explainer.explain(images[:1]))
    <Figure size ... with ... Axes>
    """
    kind = kind_of(explanation.inputs.shape[1:])
    one = explanation[0].to("cpu")
    ranges = ranges_of(one)
    rows = _rows(one)
    side = _WIDTH / _COLUMNS if kind == "image" else 1.5
    banner = _banner(one)
    loud = 0.42 * (1 + banner.count("\n")) if banner else 0.0
    words = _words(one)
    tall = [side + 0.35 + 0.17 * max(title.count("\n") + 1 for title, _, _ in row) for row in rows]
    legend_text = _legend(one)
    signs = 0.3 + 0.16 * legend_text.count("\n")
    heights = [loud, 0.5, sum(tall) + 0.15, signs, side + 0.6, max(2.5, _LINE * (words.count("\n") + 3))]
    figure = new_figure(_WIDTH, sum(heights))
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(w_pad=0.07, h_pad=0.05)
    kept = [height for height in heights if height]
    parts = list(figure.subfigures(len(kept), 1, height_ratios=kept, squeeze=False)[:, 0])
    if banner:
        warning = parts.pop(0)
        warning.set_facecolor(_WARNING)
        warning.text(0.012, 0.5, banner, va="center", color="white", fontsize=12, fontweight="bold", **plain)
    title, head, legend, frames, foot = parts
    title.text(0.012, 0.35, _title(one), va="center", fontsize=15, fontweight="bold", **plain)
    _draw_rows(head, one, rows, tall, ranges)
    legend.text(0.5, 0.5, legend_text, ha="center", va="center", fontsize=9, color="#444444", **plain)
    _draw_frames(frames, one, ranges)
    left, right = foot.subfigures(1, 2)
    _draw_curve(left.subplots(), one)
    # No axes: their text would count as a margin of the curve beside it.
    right.text(0.03, 0.97, words, va="top", fontsize=9.5, linespacing=1.5, **plain)
    return figure


def _title(one: Explanation) -> str:
    return shorten(question(one), 90)


def _banner(one: Explanation) -> str:
    if bool(one.trustworthy[0]):
        return ""
    return textwrap.fill("DO NOT TRUST THIS EXPLANATION: " + "; ".join(one.problems[0]), 110)


def _legend(one: Explanation) -> str:
    target, contrast = (shorten(one.class_names[int(c[0])]) for c in (one.target, one.contrast))
    several = len(one.inputs[0]) > 1 and one.inputs[0].dim() > 1
    of, over = (" (of the channel that differs most)", " (summed over channels)") if several else ("", "")
    said = (
        []
        if one.reconstruction is None
        else [f"difference{of}: red where the input has more, blue where the counterfactual has more"]
    )
    unsigned = unsigned_methods(one)
    if len(unsigned) < len(one.attributions):
        said.append(f"attributions{over}: red speaks for {target!r}, blue for {contrast!r}")
    if unsigned:
        said.append(f"purple{over}: magnitude only, for neither class")
    lines = said if len(said) > 2 or several else ["  ·  ".join(said)]
    return "\n".join(textwrap.fill(line, 150) for line in lines)


def _rows(one: Explanation) -> list[list[tuple[str, Tensor, str]]]:
    """Return rows of panels (title, values, kind): input, mask, edit, map, own (a scale of its own) or size."""
    panels = [("input", one.inputs[0], "input")]
    if one.reconstruction is not None:
        panels.append(("reconstruction", one.reconstruction[0], "input"))
    if one.reconstruction is None:
        # A case of its own, and not this one with something changed: a difference would mean nothing.
        own = float(one.counterfactual_scores[0].sigmoid())
        panels.append((f"{other_case(one)}\np = {own:.2f}", one.counterfactual[0], "input"))
    else:
        panels.append(("counterfactual", one.counterfactual[0], "input"))
        if one.mask is not None:
            panels.append(("mask", one.mask[0], "mask"))
        panels.append(("input − counterfactual", strongest((one.inputs - one.counterfactual)[0]), "edit"))
    maps, complete, unsigned = [], complete_methods(one), unsigned_methods(one)
    for name, values in one.attributions.items():
        kind = "map" if name in complete else "size" if name in unsigned else "own"
        under = {"map": "", "size": "\n(magnitude only)", "own": "\n(own scale)"}[kind]
        title = textwrap.fill(shorten(method_title(name), _TITLE_MOST), _TITLE)
        maps.append((title + under, values[0], kind))
    if len(panels) + len(maps) <= _COLUMNS:
        return [panels + maps]
    return [panels, *(maps[i : i + _COLUMNS] for i in range(0, len(maps), _COLUMNS))]


def _draw_rows(
    head: SubFigure,
    one: Explanation,
    rows: list[list[tuple[str, Tensor, str]]],
    tall: list[float],
    ranges: Ranges,
) -> None:
    columns = max(map(len, rows))
    # Attributions that add up to the same difference share their scale, so that they can be compared.
    shared = max((limit_of(values) for row in rows for _, values, kind in row if kind == "map"), default=1.0)
    # The numbers of a scale stand in an inset, for which the layout leaves no room above the next row's titles.
    spaced = {"hspace": 0.04} if len(rows) > 1 else {}
    grid = head.subplots(len(rows), columns, squeeze=False, height_ratios=tall, gridspec_kw=spaced)
    for axis in grid.flat:
        axis.set_axis_off()
    for row, axes in zip(rows, grid, strict=True):
        for (title, values, kind), axis in zip(row, axes, strict=False):
            axis.set_axis_on()
            if kind == "input":
                draw_input(axis, values, ranges)
                if title == "counterfactual" and kind_of(values.shape) == "signal":
                    draw_input(axis, one.inputs[0], ranges, style=":", faint=True)
            elif kind == "mask":
                draw_mask(axis, values)
            else:
                least = least_edit(one.data_range) if kind == "edit" else 0.0
                limit = shared if kind == "map" else limit_of(values, least)
                draw_signed(axis, values, limit, unsigned=kind == "size")
            finish(axis, title)


def _draw_frames(frames: SubFigure, one: Explanation, ranges: Ranges) -> None:
    total = one.path.shape[1]
    chosen = np.linspace(0, total - 1, min(_FRAMES, total)).round().astype(int)
    probability = one.path_scores[0].sigmoid()
    for axis, index in zip(np.atleast_1d(frames.subplots(1, len(chosen))), chosen, strict=True):
        draw_input(axis, one.path[0, index], ranges)
        finish(axis, "")
        end = {0: other_case(one), total - 1: end_of_path(one)}.get(int(index), "")
        axis.set_xlabel(f"p = {probability[index]:.2f}\n{end}", fontsize=9.5)
    target, contrast = (shorten(one.class_names[int(c[0])]) for c in (one.target, one.contrast))
    where = "under each frame" if one.reconstruction is not None else "on the path"
    if len(one.class_names) == 2:
        said = f"the classifier's probability of {target!r} {where}"
    else:
        said = f"p = {probability_of(repr(target), repr(contrast), len(one.class_names))} {where}"
    frames.suptitle(f"{path_of(one)}, with {said}", fontsize=10.5, **plain)


def _draw_curve(axis: Axes, one: Explanation) -> None:
    scores = one.path_scores[0]
    alpha = np.linspace(0, 1, len(scores))
    axis.plot(alpha, scores.sigmoid().numpy(), marker="o", markersize=5, color=BLUE, linewidth=2)
    axis.axhline(0.5, color="grey", linewidth=0.8, linestyle="--")
    axis.set_ylim(-0.04, 1.04)
    axis.set_xlim(-0.02, 1.02)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=[other_case(one), "¼", "½", "¾", end_of_path(one)])
    target, contrast = (shorten(one.class_names[int(c[0])], 18) for c in (one.target, one.contrast))
    axis.set_ylabel(probability_of(target, contrast, len(one.class_names)), fontsize=9, **plain)
    axis.tick_params(labelsize=9)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _words(one: Explanation) -> str:
    """Return what the figures mean, line by line."""
    places = ", ".join(f"{name} {values[0]:+.2f}" for name, values in scores_of(one))
    lines = [f"the classifier's score (logit margin): {places}"]
    mark = {True: "✓", False: "✗", None: "·"}
    lines += [f"{mark[holds]}  {sentence}" for holds, sentence in sentences(one)]
    return "\n".join(textwrap.fill(line, 82, subsequent_indent="    ") for line in lines)
