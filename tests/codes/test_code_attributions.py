"""Captum's methods in code space: against values by hand, sums that are held, and what is refused."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
import toys
from torch import nn

import xlens
from xlens.attr.captum_methods import captum_names, check_captum, promises_completeness
from xlens.errors import ModelError, OptionError, XlensWarning

#: All that attribute no layer.
METHODS = [name for name in captum_names() if check_captum(name, {"layer": None})]


def by_hand(explainer, trained, inputs):
    """Shapley values ``(N, 3)`` of the toy's parts from every order, and the score of each set of moved parts."""
    explanation = explainer.explain(inputs)
    start, end = explanation.counterfactual_codes, explanation.codes
    parts = [list(feature.dims) for feature in explainer.features]

    def score(players):
        codes = start.clone()
        for player in players:
            codes[:, parts[player]] = end[:, parts[player]]
        return toys.margins(
            trained, explainer.lens.decode(codes), explanation.target, explanation.contrast
        ).double()

    values = torch.zeros(len(inputs), 3, dtype=torch.float64)
    for order in permutations(range(3)):
        for place, player in enumerate(order):
            values[:, player] += (score(order[: place + 1]) - score(order[:place])) / 6
    return values, score


def test_exact_shapley_values_of_named_parts(ask, fitted, trained, images):
    found = ask("attribute", images[:4], "shapley_values")
    expected, score = by_hand(fitted, trained, images[:4])
    assert found.names == ("background", "bright", "dark")
    assert torch.allclose(found.values, expected, atol=1e-5)
    assert torch.allclose(found.difference, score((0, 1, 2)) - score(()), atol=1e-5)
    assert found.complete
    assert found.convergence_delta.abs().max() < 1e-5
    sampled = ask("attribute", images[:4], "shapley_value_sampling", options={"n_samples": 8})
    assert sampled.convergence_delta.abs().max() < 1e-5


def test_each_part_is_ablated_as_one(ask, fitted, trained, images):
    found = ask("attribute", images[:4], "feature_ablation")
    _, score = by_hand(fitted, trained, images[:4])
    for player in range(3):
        without = [other for other in range(3) if other != player]
        assert torch.allclose(found.values[:, player], score((0, 1, 2)) - score(without), atol=1e-5)
    assert not found.complete


def test_integrated_gradients_of_codes_are_what_an_explanation_has(ask, fitted, images):
    found = ask("attribute", images[:4], space="codes", options={"n_steps": 200})
    explanation = fitted.explain(images[:4], n_steps=100, tolerance=0.001)
    assert torch.allclose(found.values.float(), explanation.code_attributions, atol=0.05)
    assert found.values.shape == (4, 192)
    assert found.names[64] == "bright, 1"
    parts = ask("attribute", images[:4], options={"n_steps": 200})
    assert torch.allclose(parts.values, found.values.view(4, 3, 64).sum(2), atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_and_keeps_its_promise(ask, images, method):
    options = {"noise_tunnel": {"stdevs": 0.1}, "occlusion": {"sliding_window_shapes": (32,)}}.get(method, {})
    if "n_samples" not in options and not check_captum(method, {"n_samples": 2}):
        options = {"n_samples": 40 if method in ("lime", "kernel_shap") else 3}
    if method == "lrp":
        # It has rules for some modules only, and says so.
        with pytest.raises(ModelError, match="Captum"):
            ask("attribute", images[:2], method)
        return
    found = ask("attribute", images[:2], method, options=options)
    assert found.values.shape == (2, 3)
    assert found.values.isfinite().all()
    assert found.complete == promises_completeness(method)
    if method == "deep_lift":
        with pytest.warns(XlensWarning, match="no rule for some operation.*integrated_gradients"):
            ask("attribute", images[:2], method)
    # The toy classifier ends in a maximum over maps, for which DeepLift has no rule.
    if found.complete and not method.startswith("deep_lift"):
        assert (found.convergence_delta.abs() <= 0.05 * found.difference.abs()).all(), method


def test_deep_lift_through_the_generator_is_complete_where_every_module_has_a_rule():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2)).eval()
    inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    explainer = xlens.fit(model, inputs, toys.Plain(), progress=False)
    found = explainer.attribute(inputs[:5], "deep_lift", space="codes")
    assert found.convergence_delta.abs().max() < 1e-5
    assert found.values.shape == (5, 6)
    shap = explainer.attribute(
        inputs[:5], "gradient_shap", space="codes", options={"n_samples": 400, "stdevs": 0.0}
    )
    assert torch.allclose(shap.values.sum(1), found.difference, rtol=0.2, atol=0.2)


def test_what_cannot_be_asked(fitted, images):
    for wrong, message in (
        ({"method": "shapely_values"}, "Did you mean 'shapley_values'"),
        ({"method": "layer_grad_cam"}, "attributes a layer"),
        ({"space": "pixels"}, "space must be 'codes' or 'features'; for inputs"),
        ({"method": "shapley_values", "space": "codes"}, "192! orders.*shapley_value_sampling"),
        ({"options": {"baselines": 0}}, "baselines cannot be set"),
        ({"options": {"steps": 3}}, "no option 'steps'"),
        ({"options": 3}, "options must be a dict"),
    ):
        with pytest.raises(OptionError, match=message):
            fitted.attribute(images[:1], **wrong)
