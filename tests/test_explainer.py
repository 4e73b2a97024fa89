"""The explainer: what it is, and what it says where its lens cannot do a thing."""

from __future__ import annotations

import pytest
import torch
import toys
from guard import unchanged

import xlens
from xlens.errors import OptionError, UnsupportedError


def test_it_is_an_explainer(fitted):
    assert isinstance(fitted, xlens.Explainer)
    assert repr(fitted) == "Explainer(toy, Classifier(Cnn, outputs='logits'), inputs (1, 8, 8))"


@pytest.fixture(scope="module")
def vectors():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 1)
        return model, torch.randn(40, 5)


def test_vectors_have_no_mask(vectors):
    model, inputs = vectors
    with unchanged(model):
        explainer = xlens.fit(model, inputs, toys.Plain(), progress=False)
        found = explainer.explain(inputs[:4])
    assert found.mask is None
    # carry="residual": x' = x + (-x - x), clamped to the data or the input; f is linear, so is the answer.
    low, high = explainer.spec.per_channel("minimum"), explainer.spec.per_channel("maximum")
    expected = torch.minimum(torch.maximum(-inputs[:4], low), high)
    assert torch.allclose(found.counterfactual, expected, atol=1e-5)
    sign = torch.where(found.target == 1, 1.0, -1.0).unsqueeze(1)
    linear = sign * model.weight.detach() * (inputs[:4] - expected)
    assert torch.allclose(found.attributions["lig"], linear, atol=1e-3)
    with pytest.raises(OptionError, match="carry='masked' needs a mask, as images have"):
        explainer.explain(inputs[:4], carry="masked")


@pytest.mark.parametrize(("method", "arguments"), [("sample", (2, 1)), ("invariances", (torch.zeros(1, 5), 2))])
def test_what_a_lens_cannot_do_names_who_can(vectors, toy_installed, method, arguments):
    explainer = xlens.fit(*vectors, toys.Plain(), progress=False)
    with pytest.raises(UnsupportedError, match=f"{method}: a 'plain' lens cannot.* that can: toy"):
        getattr(explainer, method)(*arguments)
