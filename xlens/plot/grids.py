"""Traversals and invariances: rows of inputs, each with its variants beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from xlens.deprecated import renamed
from xlens.errors import DataError
from xlens.plot.draw import BLUE, RED, draw_input, finish, plain, shorten
from xlens.plot.figure import new_figure
from xlens.plot.pixels import Ranges, kind_of, natural_ranges

__all__ = ["plot_invariances", "plot_traversal"]

_SIDE = 1.45


@renamed(steps="values")
def plot_traversal(
    frames: Tensor,
    values: Sequence[float] | Tensor,
    *,
    feature: str = "",
    inputs: Tensor | None = None,
    probabilities: Tensor | None = None,
    class_name: str = "",
    ranges: Ranges | None = None,
) -> Figure:
    """Traversal figure of what :meth:`xlens.Explainer.traverse` returned: a row per input, a column per value.

    Args:
        frames: ``(N, T, *S)``.
        values: the T values.
        feature: what was set to them.
        inputs: ``(N, *S)`` drawn before each row where given.
        probabilities: ``(N, T)`` the classifier's probability on each frame, written under it.
        class_name: of what class `probabilities` are.
        ranges: (darkest, brightest) value, one pair or one per channel; taken from the frames if None.

    Raises:
        DataError: the shapes do not fit together.
        UnsupportedError: the frames are neither images nor signals.

    >>> from xlens.plot import plot_traversal
    >>> plot_traversal(explainer.traverse(images[:2], 1, [0.0, 0.5, 1.0]), [0.0, 0.5, 1.0])
    <Figure size ... with 6 Axes>
    """
    points = [float(value) for value in values]
    _check("plot_traversal", frames, inputs, {"values": len(points)})
    if probabilities is not None and tuple(probabilities.shape) != tuple(frames.shape[:2]):
        raise _misfit("plot_traversal", f"probabilities {tuple(probabilities.shape)}", tuple(frames.shape[:2]))
    figure, grid, ranges = _grid(frames, inputs, ranges)
    for i, row in enumerate(grid):
        for t, axis in enumerate(row[-len(points) :]):
            draw_input(axis, frames[i, t], ranges)
            finish(axis, f"{points[t]:g}" if i == 0 else "")
            if probabilities is not None:
                axis.set_xlabel(f"p = {float(probabilities[i, t]):.2f}", fontsize=9.5)
    under = (
        f"; p: the classifier's probability of {shorten(class_name)!r}"
        if class_name and probabilities is not None
        else ""
    )
    figure.suptitle(f"{shorten(feature, 60) or 'feature'} set to …{under}", fontsize=12, x=0.01, ha="left", **plain)
    return figure


def plot_invariances(
    inputs: Tensor,
    variants: Tensor,
    kept: Tensor | None = None,
    *,
    ranges: Ranges | None = None,
    shown: str = "",
) -> Figure:
    """Invariances figure: inputs, each with variants that the classifier should not tell from it.

    Args:
        inputs: ``(N, *S)``.
        variants: ``(N, n, *S)``.
        kept: ``(N, n)`` bool, whether the classifier's decision stayed; a variant on which it did not is framed and
            marked.
        ranges: (darkest, brightest) value, one pair or one per channel; taken from the inputs if None.
        shown: where the variants lie in a hidden layer, what is shown for them, in words.

    Raises:
        DataError: the shapes do not fit together.
        UnsupportedError: the inputs are neither images nor signals.

    >>> import torch
    >>> from xlens.plot import plot_invariances
    >>> plot_invariances(torch.rand(2, 1, 8, 8), torch.rand(2, 3, 1, 8, 8), torch.ones(2, 3, dtype=torch.bool))
    <Figure size ... with 8 Axes>
    """
    _check("plot_invariances", variants, inputs, {})
    if kept is not None and tuple(kept.shape) != tuple(variants.shape[:2]):
        raise _misfit("plot_invariances", f"kept {tuple(kept.shape)}", tuple(variants.shape[:2]))
    figure, grid, ranges = _grid(variants, inputs, ranges)
    for i, row in enumerate(grid):
        for j, axis in enumerate(row[1:]):
            draw_input(axis, variants[i, j], ranges)
            finish(axis, f"variant {j + 1}" if i == 0 else "")
            if kept is not None:
                _judge(axis, bool(kept[i, j]))
    title = "What may change without changing the classifier's decision"
    if kept is not None:
        title += f": it stayed on {int(kept.sum())} of {kept.numel()}"
    if shown:
        title += f", in the hidden layer. Shown: {shown}"
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    return figure


def _judge(axis: Axes, kept: bool) -> None:
    colour, word = (BLUE, "✓ same decision") if kept else (RED, "✗ other decision")
    axis.set_xlabel(word, fontsize=8.5, color="#333333" if kept else "#a04000")
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=1.0 if kept else 2.5)


def _grid(frames: Tensor, inputs: Tensor | None, ranges: Ranges | None) -> tuple[Figure, list[list[Axes]], Ranges]:
    """Return the figure, its axes by row (the first column holds the inputs, if any) and the ranges."""
    n, columns = frames.shape[:2]
    first = 0 if inputs is None else 1
    seen = frames.flatten(0, 1) if inputs is None else inputs
    if ranges is None:
        channels = seen.detach().cpu().float()
        channels = channels.transpose(0, 1).flatten(1) if seen.dim() > 2 else channels.reshape(1, -1)
        ranges = natural_ranges(channels.amin(1).tolist(), channels.amax(1).tolist())
    width = max(_SIDE * (columns + first) + 0.2, 4.5)
    figure = new_figure(width, (_SIDE + 0.35) * n + 0.7)
    grid = [list(row) for row in figure.subplots(n, columns + first, squeeze=False)]
    if inputs is not None:
        for i, row in enumerate(grid):
            draw_input(row[0], inputs[i], ranges)
            finish(row[0], "input" if i == 0 else "")
    return figure, grid, ranges


def _check(who: str, frames: Tensor, inputs: Tensor | None, columns: dict[str, int]) -> None:
    if not isinstance(frames, Tensor) or frames.dim() < 3 or 0 in frames.shape:
        raise _misfit(who, getattr(frames, "shape", type(frames).__name__), "(N, T, *S)")
    kind_of(frames.shape[2:], who)
    for name, count in columns.items():
        if count != frames.shape[1]:
            raise _misfit(who, f"{count} {name} for {frames.shape[1]} frames", f"{frames.shape[1]} {name}")
    wanted = (len(frames), *frames.shape[2:])
    if inputs is not None and tuple(inputs.shape) != wanted:
        raise _misfit(who, f"inputs {tuple(inputs.shape)}", torch.Size(wanted))


def _misfit(who: str, given: object, allowed: object) -> DataError:
    return DataError(f"{who}: the parts do not fit together", given=given, allowed=allowed, do="check the shapes")
