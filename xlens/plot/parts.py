"""What each named part of the code contributes to the classifier's score."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from xlens.explanation import Explanation
from xlens.plot.draw import plain, shorten
from xlens.plot.figure import new_figure
from xlens.plot.words import question

__all__ = ["plot_features"]

_MOST = 20


def plot_features(explanation: Explanation) -> Figure:
    """Contributions figure: what each feature adds to the first input's change of score, the largest on top.

    The bars add up to the classifier's score on the lens's reconstruction minus that on its counterfactual. Beyond
    20 features the smallest ones are drawn as one bar.

    Args:
        explanation: of any inputs.

    >>> from xlens.plot import plot_features
    >>> plot_features(explainer.explain(images[:1]))
    <Figure size ... with 1 Axes>
    """
    one = explanation[0].to("cpu")
    values = one.feature_contributions[0].float().numpy()
    order = np.argsort(-np.abs(values))
    names = [shorten(one.feature_names[i], 40) for i in order[:_MOST]]
    shown = list(values[order[:_MOST]])
    if len(order) > _MOST:
        names.append(f"{len(order) - _MOST} others")
        shown.append(values[order[_MOST:]].sum())
    figure = new_figure(8.5, 1.35 + 0.38 * len(names))
    axis = figure.subplots()
    places = np.arange(len(names))
    said = [f"{value:+.2f}" for value in shown]
    for place, i in enumerate(order[:_MOST]):
        if one.feature_names[i] in one.not_taught:
            said[place] = "not taught"
    bars = axis.barh(places, shown, height=0.62, color=["#b2182b" if value > 0 else "#2166ac" for value in shown])
    axis.bar_label(bars, labels=said, padding=4, fontsize=9)
    axis.set_yticks(places)
    axis.set_yticklabels(names, fontsize=10, **plain)
    axis.axvline(0, color="#333333", linewidth=0.8)
    axis.margins(x=0.16)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel("contribution to the classifier's score (logit margin)", fontsize=9.5)
    axis.tick_params(axis="x", labelsize=9)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.set_title(shorten(question(one), 80), fontsize=12, loc="left", **plain)
    return figure
