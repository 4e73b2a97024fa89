"""What is asked wrongly is named, all of it at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xlens
from xlens.errors import DataError, ModelError, OptionError
from xlens.explaining.request import References


def with_nan(images):
    spoilt = images[:4].clone()
    spoilt[2, 0, 3, 3] = torch.nan
    return spoilt


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": 3}, DataError, "target is not a class. Given: 3. Allowed: an int from 0 to 2"),
        ({"target": -1}, DataError, "target is not a class"),
        ({"contrast": 7}, DataError, "contrast is not a class"),
        ({"target": torch.tensor([0, 1])}, DataError, r"4 of them as a tensor \(4,\)"),
        ({"target": 1.0}, DataError, "target is not a class"),
        ({"target": True}, DataError, "target is not a class"),
        ({"target": "cat"}, DataError, "target is not a class. Given: 'cat'"),
        ({"target": 1, "contrast": 1}, DataError, "same class. Given: class 1 for input 0"),
        ({"attributions": ("lgi",)}, OptionError, "unknown attribution 'lgi'. Did you mean 'lig'"),
        ({"attributions": "lig"}, OptionError, "a sequence of names, got 'lig'"),
        ({"attributions": None}, OptionError, "a sequence of names, got None"),
        ({"carry": "mask"}, OptionError, "'masked', 'residual', 'none' or None, got 'mask'"),
        ({"n_steps": 0}, OptionError, "n_steps must be an int >= 1, got 0"),
        ({"tolerance": 0}, OptionError, r"tolerance must be in \(0, 1\], got 0"),
        ({"tolerance": "small"}, OptionError, "tolerance must be"),
        ({"internal_batch_size": 0}, OptionError, "internal_batch_size must be"),
        ({"internal_batch_size": 2.5}, OptionError, "internal_batch_size must be"),
    ],
)
def test_wrong_arguments_are_named(ask, images, options, error, message):
    with pytest.raises(error, match=message):
        ask("explain", images[:4], **options)


def test_all_wrong_options_are_in_one_error(ask, images):
    with pytest.raises(OptionError) as caught:
        ask("explain", images, n_steps=0, tolerance=2, carry="x", attributions=("y",))
    assert all(word in str(caught.value) for word in ("n_steps", "tolerance", "carry", "attribution"))


@pytest.mark.parametrize("method", ["explain", "counterfactual"])
def test_wrong_inputs_are_named(ask, images, method):
    with pytest.raises(DataError, match="input 2 has values that are not finite"):
        ask(method, with_nan(images))
    with pytest.raises(DataError, match=r"Given: \(4, 3, 8, 8\). Allowed: \(N, 1, 8, 8\)"):
        ask(method, images[:4].expand(4, 3, 8, 8))
    with pytest.raises(DataError, match="no inputs"):
        ask(method, images[:0])


@pytest.mark.parametrize(
    ("attributions", "message"),
    [
        (["integrated_gradient"], "Did you mean 'integrated_gradients'"),
        (["neuron_gradient"], "attributes a neuron"),
        (["feature_permutation"], "between the inputs of a batch"),
        (["data_loader_attribution"], "a wrapper around other methods"),
        ({"ig_ensemble": {"k": 0}}, "k of 'ig_ensemble' must be an int >= 1"),
        ([["lig"]], "names are strings"),
        (["llm_attribution"], "for language models"),
        ({"saliency": {"absolute": True}}, "Did you mean 'abs'"),
        ({"lig": {"n_steps": 3}}, "has no option 'n_steps'"),
        ({"saliency": None}, "must be a mapping"),
        (["lig", "ig_ensemble"], "needs references="),
        ([3], "unknown attribution 3"),
    ],
)
def test_wrong_attributions_are_named(fitted, images, attributions, message):
    with pytest.raises(OptionError, match=message):
        fitted.explain(images[:1], attributions=attributions)


def test_too_few_references_are_named(fitted, images):
    with pytest.raises(DataError, match="too few references"):
        fitted.explain(images[:6], attributions=("ig_ensemble",), references=images[:2])
    nearest = References(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 1, 1]))
    assert nearest.nearest(torch.tensor([[1.9]]), torch.tensor([1]), 2).flatten().tolist() == [2.0, 1.0]


class Sealed(nn.Module):
    """Predicts without a gradient."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        with torch.no_grad():
            return self.model(inputs)


@pytest.mark.parametrize("name", ["lig", "layer_grad_cam", "gradient_shap"])
def test_without_a_gradient_it_is_said_in_words(fitted, images, name):
    """A fit asks for one first; a lens may be loaded around any classifier."""
    f = fitted.classifier
    sealed = xlens.LensExplainer(fitted.fitted.around(f.around(Sealed(f.model))))
    with pytest.raises(ModelError, match="explain: no gradient of the classifier reaches its inputs"):
        sealed.explain(images[:2], attributions=(name,))
    assert sealed.counterfactual(images[:2]).shape == images[:2].shape
