"""An explainer as the function that Quantus's metrics call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from xlens.classifier import Classifier

if TYPE_CHECKING:
    from xlens.explainer import LensExplainer

__all__ = ["around", "quantus_function"]


def quantus_function(
    explainer: LensExplainer, attribution: str, options: dict[str, Any]
) -> Callable[..., np.ndarray]:
    """Return ``explain_func(model, inputs, targets, **_) -> (N, *S)`` as an array."""

    def explain_func(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        inputs = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
        targets = torch.as_tensor(np.asarray(targets)).long().reshape(-1)
        # Quantus hands over copies of the model, some with other weights, and wants those explained.
        asked = explainer if model is explainer.classifier.model else around(model, explainer)
        # The lens may ask the classifier that it was fitted around, whichever is explained.
        with explainer.classifier.frozen(seed=0):
            found = asked.explain(inputs, target=targets, attributions=(attribution,), **options)
        return found.attributions[attribution].cpu().numpy()

    return explain_func


def around(model: nn.Module, explainer: LensExplainer) -> LensExplainer:
    """Return the explainer with another model in the place of its classifier's."""
    own = explainer.classifier
    classifier = Classifier(model, layer=own.layer, outputs=own.outputs, class_names=own.class_names)
    parts = (explainer.lens, explainer.backend, explainer.spec, explainer.mask, explainer.provenance)
    return type(explainer)(classifier, *parts, explainer.over, fitted_around=explainer.fitted_around)
