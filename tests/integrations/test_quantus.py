"""An explainer as the function that Quantus calls."""

from __future__ import annotations

import sys

import numpy as np
import torch
from guard import unchanged

from xlens.integrations.quantus import as_quantus


def test_the_function_that_quantus_calls(fitted, trained, images):
    explain_func = as_quantus(fitted, "saliency")
    targets = np.array([1, 2, 1])
    with unchanged(trained):
        found = explain_func(model=trained, inputs=images[1:4].numpy(), targets=targets, device="cpu")
    expected = fitted.explain(images[1:4], target=torch.tensor(targets), attributions=("saliency",))
    assert isinstance(found, np.ndarray)
    assert np.allclose(found, expected.attributions["saliency"])
    assert "quantus" not in sys.modules


def test_quantus_may_ask_about_another_model(fitted, trained, images):
    from copy import deepcopy

    other = deepcopy(trained)
    with torch.no_grad():
        other.head.weight.neg_()
    explain_func = as_quantus(fitted, "input_x_gradient")
    with unchanged(trained), unchanged(other):
        first = explain_func(trained, images[1:3].numpy(), [1, 1])
        second = explain_func(other, images[1:3].numpy(), [1, 1])
    assert not np.allclose(first, second)
    assert fitted.classifier.model is trained
