"""Attributions by name: xlens's own and Captum's, on the same score, against the same counterfactual."""

from __future__ import annotations

import sys

import captum.attr
import numpy as np
import pytest
import torch
import toys
from guard import unchanged
from torch import nn

from xlens.attr.captum_methods import captum_attribution, captum_names, check_captum, promises_completeness
from xlens.attr.layers import spatial_layer, spread
from xlens.errors import DataError, ModelError, OptionError
from xlens.explaining.request import OWN, References


class Margin(nn.Module):
    """The score by hand: logit of the target minus logit of the contrast class."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, target, contrast):
        logits = self.model(x)
        return (logits.gather(1, target[:, None]) - logits.gather(1, contrast[:, None]))[:, 0]


@pytest.fixture(scope="module")
def margin(trained):
    from copy import deepcopy

    return Margin(deepcopy(trained).eval().requires_grad_(False))


@pytest.fixture(scope="module")
def explanation(fitted, images):
    names = ("integrated_gradients", "saliency", "input_x_gradient", "occlusion", "layer_grad_cam", "gradient_shap",
             "feature_ablation", "deep_lift")  # fmt: skip
    return fitted.explain(images[:6], attributions=names)


def by_hand(margin, explanation, kind, *layer, **options):
    further = (explanation.target, explanation.contrast)
    method = getattr(captum.attr, kind)(margin, *layer)
    return method.attribute(explanation.inputs, additional_forward_args=further, **options).detach()


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("integrated_gradients", "IntegratedGradients", {"baselines": True}),
        ("saliency", "Saliency", {}),
        ("input_x_gradient", "InputXGradient", {}),
        ("deep_lift", "DeepLift", {"baselines": True}),
        ("occlusion", "Occlusion", {"baselines": True, "sliding_window_shapes": (1, 1, 1)}),
    ],
)
def test_the_same_score_and_the_counterfactual_as_baseline(margin, explanation, name, kind, options):
    if "baselines" in options:
        options = options | {"baselines": explanation.counterfactual}
    expected = by_hand(margin, explanation, kind, **options)
    assert torch.allclose(explanation.attributions[name], expected, atol=1e-4)


def test_grad_cam_finds_the_activation_after_the_last_convolution(margin, explanation):
    low = by_hand(margin, explanation, "LayerGradCam", margin.model.body[4])
    fine = nn.functional.interpolate(low, size=(8, 8), mode="bilinear") * low[0].numel() / 64
    assert torch.allclose(explanation.attributions["layer_grad_cam"], fine, atol=1e-5)
    assert (
        spatial_layer(margin, None, (torch.zeros(1, 1, 8, 8), *torch.tensor([[0], [1]])), "x")
        is (margin.model.body[4])
    )


def test_a_patchs_value_is_divided_among_its_pixels(margin, explanation):
    grid = torch.arange(8) * 7 // 8
    mask = (grid[:, None] * 7 + grid)[None, None]
    whole = by_hand(margin, explanation, "FeatureAblation", baselines=explanation.counterfactual, feature_mask=mask)
    found = explanation.attributions["feature_ablation"]
    for cell in (0, 6, 24, 48):
        inside = (mask == cell).expand_as(whole)[0]
        assert torch.allclose(found[:, inside].sum(1), whole[:, inside][:, 0], atol=1e-4)


def test_deltas_where_a_sum_is_promised(explanation):
    assert set(explanation.convergence_delta) == {"integrated_gradients", "deep_lift"}
    difference = explanation.scores - explanation.counterfactual_scores
    total = explanation.attributions["integrated_gradients"].flatten(1).sum(1)
    assert torch.allclose(explanation.convergence_delta["integrated_gradients"], total - difference, atol=1e-3)


@pytest.mark.parametrize("name", [*OWN, *captum_names()])
def test_every_method_leaves_the_model_alone_and_a_row_is_as_in_its_batch(fitted, trained, images, name):
    references = toys.pictures(60, seed=11)[0]
    ask = {"attributions": [name], "internal_batch_size": 4}
    ask |= {"references": references} if name == "ig_ensemble" else {}
    random_state = torch.get_rng_state()
    with unchanged(trained):
        if name.endswith("lrp"):  # Captum has no rule for the model's pooling, and half of its work done by then
            with pytest.raises(ModelError, match="Captum cannot do this"):
                fitted.explain(images[:5], **ask)
            return
        found = fitted.explain(images[:5], **ask)
    assert torch.equal(random_state, torch.get_rng_state())
    values = found.attributions[name]
    assert values.shape == found.inputs.shape
    assert values.isfinite().all()
    assert values.abs().sum() > 0
    alone = fitted.explain(images[3:4], **ask)
    assert torch.allclose(alone.attributions[name], values[3:4], atol=1e-4)


def test_options_reach_the_method(fitted, images):
    options = ({"sliding_window_shapes": (1, side, side), "strides": (1, side, side)} for side in (4, 1))
    coarse, fine = (fitted.explain(images[:2], attributions={"occlusion": one}) for one in options)
    blocks = coarse.attributions["occlusion"].unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert torch.allclose(blocks.amax(-1), blocks.amin(-1))
    assert not torch.equal(coarse.attributions["occlusion"], fine.attributions["occlusion"])


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


def test_a_model_without_convolutions_needs_a_layer_by_name():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.Linear(4, 1), nn.Flatten(0))
    with pytest.raises(ModelError, match="name a layer"):
        captum_attribution("layer_grad_cam", flat, torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3))
    with pytest.raises(ModelError, match="no layer '7'"):
        options = {"layer": "7"}
        captum_attribution(
            "layer_grad_cam", flat, torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3), options=options
        )
    with pytest.raises(ModelError, match="cannot be laid over the input"):
        captum_attribution(
            "layer_activation", flat, torch.ones(1, 1, 3, 3), torch.zeros(1, 1, 3, 3), options={"layer": "1"}
        )


def test_maps_are_spread_without_changing_their_total():
    corner = torch.zeros(1, 1, 24, 24)
    corner[..., 0, 0] = 1
    draw = torch.Generator().manual_seed(0)
    signed = torch.randn(2, 3, 3, 3, generator=draw)
    for maps, size in ((torch.rand(2, 3, 4, 4, generator=draw), 16), (signed, 8), (corner, 8), (corner, 36)):
        inputs = torch.zeros(len(maps), 3, size, size)
        fine = spread(maps, inputs)
        assert fine.shape == inputs.shape
        assert torch.allclose(fine.sum((1, 2, 3)), maps.sum((1, 2, 3)), rtol=1e-4, atol=1e-5)
        if maps is corner:  # what was in the corner stays there
            assert fine[0, :, : size // 2, : size // 2].sum() > 0.2


def test_layers_are_found_by_their_exact_name_first():
    inner = nn.ModuleDict({"head": nn.Conv2d(1, 1, 1)})
    net = nn.ModuleDict({"enc": inner, "head": nn.Conv2d(1, 1, 1)})
    wrapped = nn.ModuleDict({"model": net})
    assert spatial_layer(net, "head", (), "x") is net["head"]
    assert spatial_layer(wrapped, "head", (), "x") is net["head"]
    assert spatial_layer(wrapped, "enc.head", (), "x") is inner["head"]
    with pytest.raises(ModelError, match="several layers 'head'"):
        spatial_layer(nn.ModuleDict({"a": wrapped, "b": net}), "head", (), "x")
    with pytest.raises(ModelError, match="not a module of the model"):
        spatial_layer(net, nn.Conv2d(1, 1, 1), (), "x")


def test_options_with_a_row_for_each_input():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False), nn.Flatten(0))
    inputs, baselines = torch.rand(3, 1, 2, 2), torch.zeros(3, 1, 2, 2)
    masks = torch.tensor([[0, 0, 1, 1], [0, 1, 2, 3], [0, 0, 0, 0]]).view(3, 1, 2, 2)
    ask = {"options": {"feature_mask": masks}}
    whole = captum_attribution("feature_ablation", linear, inputs, baselines, batch=9, **ask)
    single = captum_attribution("feature_ablation", linear, inputs, baselines, batch=1, **ask)
    assert torch.allclose(whole.flatten(1).sum(1), linear(inputs), atol=1e-5)
    assert torch.allclose(single, whole, atol=1e-5)
    own = {"options": {"baselines": inputs / 2}}
    halved = captum_attribution("integrated_gradients", linear, inputs, baselines, batch=2, **own)
    assert torch.allclose(halved.flatten(1).sum(1), linear(inputs) / 2, atol=1e-5)


def test_patches_of_vectors_keep_factorials_away():
    linear = nn.Sequential(nn.Linear(12, 1, bias=False), nn.Flatten(0))
    inputs = torch.rand(2, 12)
    found = captum_attribution("shapley_values", linear, inputs, torch.zeros(2, 12))
    assert torch.allclose(found.sum(1), linear(inputs), atol=1e-5)


def test_noise_tunnel_averages_the_method_asked_for():
    linear = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Flatten(0))
    inputs = torch.rand(2, 3)
    smooth = captum_attribution("noise_tunnel", linear, inputs, inputs)
    assert torch.allclose(smooth, linear[0].weight.abs().expand(2, 3))
    options = {"method": "integrated_gradients", "nt_samples": 3, "stdevs": 0.0}
    found = captum_attribution("noise_tunnel", linear, inputs, torch.zeros(2, 3), options=options)
    assert torch.allclose(found, linear[0].weight * inputs, atol=1e-5)


def test_captums_refusals_are_errors_of_ours(fitted, images):
    with pytest.raises(ModelError, match="occlusion: Captum refuses"):
        fitted.explain(images[:1], attributions={"occlusion": {"sliding_window_shapes": (1, 4)}})


def test_every_promise_is_kept_on_a_model_that_all_can_handle():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 1), nn.Flatten(0)]
        body = nn.Sequential(*layers)
    inputs, baselines = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    difference = (body(inputs) - body(baselines)).detach()
    promised = [name for name in captum_names() if promises_completeness(name)]
    assert len(promised) >= 7
    for name in promised:
        options = {"n_steps": 400} if name in ("integrated_gradients", "layer_conductance") else {}
        found = captum_attribution(name, body, inputs, baselines, options=options)
        assert torch.allclose(found.flatten(1).sum(1), difference, atol=2e-2), name


def test_gradient_shap_takes_each_rows_own_baseline():
    # A linear function: whatever is drawn on the way, the attribution is w (x - x').
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False), nn.Flatten(0))
    inputs, baselines = torch.rand(3, 4), torch.rand(3, 4)
    found = captum_attribution("gradient_shap", linear, inputs, baselines, options={"n_samples": 7})
    assert torch.allclose(found, linear[1].weight * (inputs - baselines), atol=1e-5)


# --- xlens's own ------------------------------------------------------------------------------------------


def test_own_attributions_are_complete(fitted, images):
    references = toys.pictures(90, seed=5)[0]
    names = ("lig", "ig_counterfactual", "idgi", "guided_ig")
    found = fitted.explain(images[:6], attributions=(*names, "ig_ensemble"), references=references)
    difference = found.scores - found.counterfactual_scores
    for name in names:
        total = found.attributions[name].flatten(1).sum(1)
        assert torch.allclose(total, difference, rtol=0.011, atol=0.01), name


def test_the_ensemble_is_the_mean_over_its_baselines(fitted, margin, images):
    references = toys.pictures(90, seed=5)[0]
    ask = {"attributions": {"ig_ensemble": {"k": 3}}, "references": references}
    found = fitted.explain(images[:4], tolerance=1e-3, **ask)
    decoded = fitted.explain(images[:4], carry="none").counterfactual
    classes = margin.model(references).argmax(1)
    for row in range(4):
        contrast = found.contrast[row]
        candidates = references[classes == contrast]
        nearest = candidates[(candidates - decoded[row]).flatten(1).norm(dim=1).argsort()[:3]]
        starts = torch.cat([found.counterfactual[row][None], nearest])
        further = (found.target[row].expand(4), contrast.expand(4))
        expected = captum.attr.IntegratedGradients(margin).attribute(
            found.inputs[row].expand_as(starts), starts, additional_forward_args=further, n_steps=300
        )
        assert torch.allclose(found.attributions["ig_ensemble"][row], expected.mean(0), atol=0.05)


def test_too_few_references_are_named(fitted, images):
    with pytest.raises(DataError, match="too few references"):
        fitted.explain(images[:6], attributions=("ig_ensemble",), references=images[:2])
    nearest = References(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 1, 1]))
    assert nearest.nearest(torch.tensor([[1.9]]), torch.tensor([1]), 2).flatten().tolist() == [2.0, 1.0]


@pytest.mark.parametrize("path", ["linear", "geodesic", "guided", "pixel"])
@pytest.mark.parametrize("carry", ["masked", "residual", "none"])
def test_paths_of_an_explanation(fitted, trained, images, path, carry):
    with unchanged(trained):
        found = fitted.explain(images[:3], path=path, carry=carry, internal_batch_size=5)
    assert torch.allclose(found.path[:, 0], found.counterfactual, atol=1e-5)
    end = found.reconstruction if carry == "none" else found.inputs
    assert torch.allclose(found.path[:, -1], end, atol=1e-5)
    total = found.attributions["lig"].flatten(1).sum(1)
    assert torch.allclose(total, found.scores - found.counterfactual_scores, rtol=0.011, atol=0.01)


def test_the_codes_attributions_sum_to_what_the_features_contribute(fitted, images):
    found = fitted.explain(images[:3])
    for position, feature in enumerate(fitted.features):
        dims = list(feature.dims)
        expected = found.code_attributions[:, dims].sum(1)
        assert torch.allclose(found.feature_contributions[:, position], expected, atol=1e-4)


def test_a_small_budget_gives_the_same_explanation(fitted, images):
    plenty, little = fitted.explain(images[:5]), fitted.explain(images[:5], memory_budget=20_000)
    assert torch.allclose(plenty.attributions["lig"], little.attributions["lig"], atol=1e-4)
    with pytest.raises(OptionError, match="memory_budget"):
        fitted.explain(images[:1], memory_budget=-1)


# --- Quantus ----------------------------------------------------------------------------------------------


def test_the_function_that_quantus_calls(fitted, trained, images):
    explain_func = fitted.as_quantus("saliency")
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
    explain_func = fitted.as_quantus("input_x_gradient")
    with unchanged(trained), unchanged(other):
        first = explain_func(trained, images[1:3].numpy(), [1, 1])
        second = explain_func(other, images[1:3].numpy(), [1, 1])
    assert not np.allclose(first, second)
    assert fitted.classifier.model is trained


def test_names_of_captums_methods():
    names = captum_names()
    assert {"integrated_gradients", "gradient_shap", "saliency", "input_x_gradient", "layer_grad_cam", "occlusion",
            "deep_lift_shap", "guided_grad_cam", "lrp", "kernel_shap"} <= set(names)  # fmt: skip
    assert check_captum("occlusion", {"strides": 2}) == []
    assert not any(name.startswith(("neuron", "llm")) for name in names)
