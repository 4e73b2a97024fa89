"""Where inputs lie in a lens's code: a latent scatter of every lens, in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from xlens.classifier.margins import margin_over_rest
from xlens.codes.moves import directions_of, find_feature
from xlens.contracts.explainer import Explainer
from xlens.errors import DataError, OptionError
from xlens.fitted import Fitted, as_fitted
from xlens.plot.draw import plain, shorten
from xlens.plot.figure import new_figure

__all__ = ["codes"]

_BATCH = 256
#: Okabe and Ito's, told apart by every kind of colour vision; beyond them colours come from a map.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
#: Whole numbers of at most this many values are kinds, and not amounts.
_MOST_KINDS = 20


def codes(
    explainer: Explainer | Fitted,
    inputs: Any,
    dims: tuple[str | int, str | int] | None = None,
    *,
    colour: Any = "class",
) -> Figure:
    """Latent scatter: the codes of N inputs as points, by principal components or along two named parts.

    Args:
        explainer: of any lens.
        inputs: ``(N, *S)``, two or more.
        dims: two features or directions, by name or position; of a feature of several dimensions its first
            principal component. None: the first two principal components of the whole code.
        colour: ``"class"``, the one that the classifier predicts; ``"margin"``, its logit less the largest
            other one; the name of a feature or direction, whose value it is; or N values of your own: names,
            classes or numbers, such as a column of side information (NaN is grey).

    Raises:
        OptionError: there is no such feature, or `dims` are not two.
        DataError: fewer than two inputs, or another number of values.

    >>> import xlens
    >>> xlens.plot.codes(explainer, images, (0, 1), colour="margin")
    <Figure size ... with 2 Axes>
    """
    fitted = as_fitted(explainer, "codes", "explainer", inputs)
    if dims is not None and (isinstance(dims, str) or not isinstance(dims, Sequence) or len(dims) != 2):
        raise OptionError("codes: dims are wrong", given=repr(dims), allowed="two names or positions, or None")
    source = fitted.inputs(inputs)
    if len(source) < 2:
        raise DataError("codes: a scatter needs two inputs or more", given=f"{len(source)}")
    with fitted.asking():
        found = fitted.encode(source, _BATCH).detach().double().cpu()
        parts = [fitted.classifier(part.to(fitted.device)).cpu() for part in source.split(_BATCH)]
    logits = torch.cat(parts)
    if dims is None:
        points, said = _principal(found, 2)
        names = [f"principal component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(said)]
    else:
        along = [_along(fitted, found, name) for name in dims]
        points, names = torch.stack([values for values, _ in along], 1), [name for _, name in along]
    values, title = _values(fitted, found, logits, colour)
    figure = new_figure(7.5, 5.5)
    axis = figure.subplots()
    _scatter(axis, points.numpy(), values, title)
    axis.set_xlabel(shorten(names[0], 60), fontsize=9.5, **plain)
    axis.set_ylabel(shorten(names[1], 60), fontsize=9.5, **plain)
    axis.tick_params(labelsize=8)
    lens = f"{len(points)} inputs in the code of {fitted.backend.name!r}, coloured by {title}"
    axis.set_title(shorten(lens, 90), fontsize=12, loc="left", **plain)
    return figure


def _principal(values: Tensor, count: int) -> tuple[Tensor, list[float]]:
    """Return the leading principal components ``(N, count)``, zeros beyond them, and shares of the variance."""
    centred = values - values.mean(0)
    left, singular, right = torch.linalg.svd(centred, full_matrices=False)
    have = min(count, len(singular))
    # The signs of components are open: the largest weight is positive.
    largest = right.abs().argmax(1, keepdim=True)
    signs = torch.where(right.gather(1, largest)[:, 0] < 0, -1.0, 1.0).to(values)
    points = values.new_zeros(len(values), count)
    points[:, :have] = (left * singular * signs)[:, :have]
    shares = (singular.square() / singular.square().sum().clamp_min(1e-300)).tolist()
    return points, (shares + [0.0] * count)[:count]


def _along(fitted: Fitted, found: Tensor, name: str | int) -> tuple[Tensor, str]:
    """Return the value of a feature or direction on each code, ``(N,)``, and what it is called."""
    directions = directions_of(fitted.lens)
    if isinstance(name, str) and name in directions:
        return found @ directions[name].detach().to(found), name
    feature = find_feature(fitted.lens.features, name, "codes")
    own = found[:, list(feature.dims)]
    if own.shape[1] == 1:
        return own[:, 0], feature.name
    points, shares = _principal(own, 1)
    return points[:, 0], f"{feature.name}: principal component 1 ({shares[0]:.0%})"


def _values(fitted: Fitted, found: Tensor, logits: Tensor, colour: Any) -> tuple[np.ndarray, str]:
    """Return what decides the colours, ``(N,)``: names, or numbers; and what it is called."""
    if isinstance(colour, str) and colour == "class":
        return np.array([fitted.class_names[c] for c in logits.argmax(1).tolist()], dtype=object), "predicted class"
    if isinstance(colour, str) and colour == "margin":
        return margin_over_rest(logits, logits.argmax(1)).numpy(), "the classifier's margin"
    if isinstance(colour, str):
        values, name = _along(fitted, found, colour)
        return values.numpy(), name
    given = np.asarray(colour.detach().cpu() if isinstance(colour, Tensor) else colour)
    if given.shape != (len(found),):
        raise DataError(
            "codes: colour does not fit the inputs",
            given=f"values of shape {given.shape}",
            allowed=f"'class', 'margin', the name of a feature or direction, or {len(found)} values",
        )
    if given.dtype.kind not in "biuf":
        return given.astype(object), "your values"
    if given.dtype.kind in "biu" and len(np.unique(given)) <= _MOST_KINDS:
        return given.astype(object), "your values"
    return given.astype(float), "your values"


def _scatter(axis: Axes, points: np.ndarray, values: np.ndarray, title: str) -> None:
    style: dict[str, Any] = {"s": 14, "alpha": 0.75, "linewidths": 0}
    if values.dtype != object:
        known = np.isfinite(values)
        axis.scatter(points[~known, 0], points[~known, 1], color="#bbbbbb", **style)
        drawn = axis.scatter(points[known, 0], points[known, 1], c=values[known], cmap="viridis", **style)
        bar = axis.figure.colorbar(drawn, ax=axis)
        bar.set_label(shorten(title, 60), fontsize=9, **plain)
        bar.ax.tick_params(labelsize=8)
        return
    kinds = sorted(set(values.tolist()), key=lambda kind: (str(type(kind)), kind))
    for i, kind in enumerate(kinds):
        own = values == kind
        axis.scatter(
            points[own, 0], points[own, 1], color=_colour(i, len(kinds)), label=shorten(str(kind), 24), **style
        )
    legend = axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _colour(index: int, count: int) -> Any:
    if count <= len(_COLOURS):
        return _COLOURS[index]
    from matplotlib import colormaps  # of many colours, which few figures need

    return colormaps["turbo"](index / max(count - 1, 1))
