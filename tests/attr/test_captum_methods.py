"""Captum's methods by name, of any function and from any baseline."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xlens.attr.captum_methods import captum_attribution, captum_names, check_captum, promises_completeness
from xlens.attr.layers import spatial_layer, spread
from xlens.errors import ModelError


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


def test_names_of_captums_methods():
    names = captum_names()
    assert {"integrated_gradients", "gradient_shap", "saliency", "input_x_gradient", "layer_grad_cam", "occlusion",
            "deep_lift_shap", "guided_grad_cam", "lrp", "kernel_shap"} <= set(names)  # fmt: skip
    assert check_captum("occlusion", {"strides": 2}) == []
    assert not any(name.startswith(("neuron", "llm")) for name in names)
