"""Traversals and invariances of an explainer, drawn together with what the classifier says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from xlens.codes import variants
from xlens.codes.moves import find_feature
from xlens.contracts.explainer import Explainer
from xlens.deprecated import forwarded_module, renamed
from xlens.fitted import Fitted, as_fitted
from xlens.plot.grids import plot_invariances, plot_traversal
from xlens.plot.pixels import ranges_of_lens

__all__ = ["invariances", "traversal"]

# Where it was before 0.2.
__getattr__ = forwarded_module(
    "xlens.plot.asked",
    "xlens.fitted",
    ("probabilities",),
    elsewhere={"probabilities": "xlens.fitted:Fitted.probabilities"},
)


@renamed(steps="values")
def traversal(
    explainer: Explainer | Fitted,
    inputs: Any,
    feature: str | int,
    values: Sequence[float] | Tensor,
    *,
    target: int | str | None = None,
) -> Figure:
    """Traversal figure: ``explainer.traverse`` with the classifier's probability under each frame.

    Args:
        explainer: what is asked.
        inputs, feature, values: as for ``explainer.traverse``.
        target: the class whose probability is written; None for the prediction on the first input.

    >>> from xlens.plot import traversal
    >>> traversal(explainer, images[:2], 1, [0.0, 0.5, 1.0])
    <Figure size ... with 8 Axes>
    """
    fitted = as_fitted(explainer, "traversal", "explainer", inputs)
    source = fitted.inputs(inputs)
    frames = variants.traverse(fitted, source, feature, values, None, "none")
    if target is None:
        shown = int(fitted.probabilities(source[:1])[0].argmax())
    else:
        shown = int(fitted.class_of("traversal", "target", target, 1))
    return plot_traversal(
        frames,
        values,
        # A name may be that of a direction, which is no feature.
        feature=feature if isinstance(feature, str) else find_feature(fitted.lens.features, feature).name,
        inputs=source,
        probabilities=fitted.probabilities(frames.flatten(0, 1))[:, shown].view(frames.shape[:2]),
        class_name=fitted.class_names[shown],
        ranges=ranges_of_lens(fitted),
    )


def invariances(explainer: Explainer | Fitted, inputs: Any, n: int, scale: float = 1.0, *, seed: int = 0) -> Figure:
    """Invariances figure: variants of the nuisance part, marked where the classifier decides otherwise.

    >>> from xlens.plot import invariances
    >>> invariances(explainer, images[:2], 3)
    <Figure size ... with 8 Axes>
    """
    fitted = as_fitted(explainer, "invariances", "explainer", inputs)
    source = fitted.inputs(inputs)
    found = variants.invariances(fitted, source, n, scale, "nuisance", "none", seed)
    return plot_invariances(source, found.variants, found.kept, ranges=ranges_of_lens(fitted), shown=found.shown)
