"""An explainer as the function that Quantus's metrics call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from xlens.attr.paths import CodePath
from xlens.contracts.explainer import Explainer
from xlens.counterfactual.carry import Carry
from xlens.explaining.asking import asks
from xlens.explaining.explain import explain
from xlens.explaining.request import FEATURE_MAPS, check_attributions, check_explain
from xlens.fitted import Fitted, as_fitted

__all__ = ["as_quantus"]


def as_quantus(
    explainer: Explainer | Fitted,
    attribution: str = "lig",
    *,
    carry: Carry | None = None,
    path: CodePath = "linear",
    n_steps: int = 16,
    tolerance: float = 0.01,
) -> Callable[..., np.ndarray]:
    """Quantus's ``explain_func`` for one attribution of a lens; options as for ``explainer.explain``.

    It is called as ``explain_func(model, inputs, targets)`` and returns an array ``(N, *S)``. Given another model,
    as in tests that randomise weights, it explains that one along this lens's path.

    Raises:
        OptionError: an unknown attribution, one that Quantus cannot take, or a number out of range.

    >>> from xlens.integrations.quantus import as_quantus
    >>> explain_func = as_quantus(explainer, "lig")
    >>> explain_func(explainer.classifier.model, images[:2].numpy(), [1, 1]).shape
    (2, 1, 8, 8)
    """
    fitted = as_fitted(explainer, "as_quantus", "explainer")
    _, faults = check_attributions([attribution])
    if attribution == "ig_ensemble":
        faults.append("'ig_ensemble' needs references, which Quantus does not pass")
    if attribution == FEATURE_MAPS:
        faults.append(f"{FEATURE_MAPS!r} is several maps, and Quantus takes one")
    check_explain(
        "as_quantus",
        asks(fitted).masked,
        carry=carry,
        n_steps=n_steps,
        tolerance=tolerance,
        path=path,
        faults=faults,
    )

    def explain_func(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        inputs = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
        targets = torch.as_tensor(np.asarray(targets)).long().reshape(-1)
        own = fitted.classifier
        # Quantus hands over copies of the model, some with other weights, and wants those explained.
        other = own.around(model)
        asked = fitted if other.model is own.model else fitted.around(other)
        # The lens may ask the classifier that it was fitted around, whichever is explained.
        with own.frozen(seed=0):
            found = explain(
                asked,
                inputs,
                target=targets,
                attributions=(attribution,),
                carry=carry,
                path=path,
                n_steps=n_steps,
                tolerance=tolerance,
            )
        return found.attributions[attribution].cpu().numpy()

    return explain_func
