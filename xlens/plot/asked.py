"""Traversals and invariances of an explainer, drawn together with what f says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from xlens._arguments import class_tensor, find_feature
from xlens.data import as_inputs
from xlens.plot.grids import plot_invariances, plot_traversal
from xlens.plot.pixels import Ranges, natural_ranges

if TYPE_CHECKING:
    from xlens.explainer import LensExplainer

__all__ = ["invariances", "probabilities", "traversal"]

_BATCH = 64


def traversal(
    explainer: LensExplainer, inputs: Any, feature: str | int, steps: Sequence[float] | Tensor, target: int | None
) -> Figure:
    """Draw ``explainer.traverse``; see :meth:`xlens.explainer.LensExplainer.plot_traversal`."""
    source = as_inputs(inputs, explainer.spec.shape)
    frames = explainer.traverse(source, feature, steps)
    if target is None:
        shown = int(probabilities(explainer, source[:1])[0].argmax())
    else:
        shown = int(class_tensor("plot_traversal", "target", target, 1, explainer.spec.num_classes, "cpu"))
    return plot_traversal(
        frames,
        steps,
        # A name may be that of a direction, which is no feature.
        feature=feature if isinstance(feature, str) else find_feature(explainer.features, feature).name,
        inputs=source,
        probabilities=probabilities(explainer, frames.flatten(0, 1))[:, shown].view(frames.shape[:2]),
        class_name=explainer.class_names[shown],
        ranges=_ranges(explainer),
    )


def invariances(explainer: LensExplainer, inputs: Any, n: int, scale: float, seed: int) -> Figure:
    """Draw ``explainer.invariances``; see :meth:`xlens.explainer.LensExplainer.plot_invariances`."""
    source = as_inputs(inputs, explainer.spec.shape)
    found = explainer.invariances(source, n, scale, seed=seed)
    return plot_invariances(source, found.variants, found.kept, ranges=_ranges(explainer))


def probabilities(explainer: LensExplainer, inputs: Tensor) -> Tensor:
    """Return f's class probabilities ``(N, K)`` on the CPU, with the model left as it is."""
    with torch.inference_mode(False), torch.no_grad(), explainer.classifier.frozen(seed=0):
        parts = [explainer.classifier.probabilities(part.to(explainer.device)) for part in inputs.split(_BATCH)]
    return torch.cat(parts).cpu()


def _ranges(explainer: LensExplainer) -> Ranges:
    return natural_ranges(explainer.spec.minimum, explainer.spec.maximum)
