"""Attributions of an explanation, by name: xlens's own and Captum's, on one score, from one counterfactual."""

from __future__ import annotations

import captum.attr
import pytest
import torch
import toys
from guard import unchanged
from torch import nn

from xlens.attr.captum_methods import captum_names
from xlens.attr.layers import spatial_layer
from xlens.errors import ModelError, OptionError
from xlens.explaining.request import DIVERGENCES, OWN


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
    if name in DIVERGENCES:  # of lenses that say how far codes are apart
        with pytest.raises(OptionError, match="these can: "):
            fitted.explain(images[:5], **ask)
        return
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


def test_captums_refusals_are_errors_of_ours(fitted, images):
    with pytest.raises(ModelError, match="occlusion: Captum refuses"):
        fitted.explain(images[:1], attributions={"occlusion": {"sliding_window_shapes": (1, 4)}})


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
