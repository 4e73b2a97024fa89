"""Maps of a layer whose channels come last, as in Swin: the same as by hand, or refused in words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xlens
from xlens.attr.axes import is_channels_last
from xlens.attr.captum_methods import captum_attribution
from xlens.attr.layers import spatial_layer, spread
from xlens.errors import ModelError


class Permuted(nn.Module):
    """Channels last from the first layer on, as in Swin; of eight channels on maps of 8x8."""

    def __init__(self, channels=8):
        super().__init__()
        self.embed = nn.Conv2d(1, channels, 1)
        self.norm = nn.LayerNorm(channels)
        self.mixed = Mixed(channels)
        self.head = nn.Linear(channels, 3)

    def forward(self, x):
        x = self.mixed(self.norm(self.embed(x).permute(0, 2, 3, 1)))
        return self.head(x.square().mean((1, 2)))


class Mixed(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.inner = nn.Linear(channels, channels)

    def forward(self, x):
        x = self.inner(x)
        return x + torch.roll(x, 1, 1).relu()


class Everywhere(nn.Module):
    """A map of 8x8x8 in which a change anywhere is seen everywhere."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.Tanh(), nn.Unflatten(1, (8, 8, 8)))

    def forward(self, x):
        return self.mix(x).flatten(1)[:, :3]


class First(nn.Module):
    """The logit of class 1."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)[:, 1]


def seeded_model(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval().requires_grad_(False)


def inputs_of(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def by_hand(function, layer, inputs):
    """Grad-CAM as it is written: each channel weighed by its mean gradient, summed over channels."""
    kept = []
    handle = layer.register_forward_hook(lambda _m, _a, output: kept.append(output))
    asked = inputs.clone().requires_grad_()
    score = function(asked).sum()
    handle.remove()
    (slope,) = torch.autograd.grad(score, kept[0])
    low = (slope.mean((1, 2), keepdim=True) * kept[0]).sum(3).detach()
    return spread(low.unsqueeze(1), inputs)


@pytest.mark.parametrize("channels", [5, 8])
@pytest.mark.parametrize("layer", ["norm", "mixed", "mixed.inner"])
def test_grad_cam_of_channels_last_is_that_by_hand(channels, layer):
    function = First(seeded_model(lambda: Permuted(channels)))
    inputs = inputs_of(3, 1, 8, 8)
    found = captum_attribution("layer_grad_cam", function, inputs, 0 * inputs, options={"layer": f"model.{layer}"})
    expected = by_hand(function, function.get_submodule(f"model.{layer}"), inputs)
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.abs().max() > 1e-3


def test_other_methods_of_layers_too():
    function, inputs = First(seeded_model(lambda: Permuted(8))), inputs_of(2, 1, 8, 8)
    for name in ("layer_integrated_gradients", "layer_gradient_x_activation", "layer_activation"):
        options = {"layer": "model.mixed"}
        found = captum_attribution(name, function, inputs, 0 * inputs, options=options)
        assert found.shape == inputs.shape
    # Activations alone can be told apart from their axes in the wrong order.
    with torch.no_grad():
        model = function.model
        low = model.mixed(model.norm(model.embed(inputs).permute(0, 2, 3, 1))).sum(3)
    assert torch.allclose(found, spread(low.unsqueeze(1), inputs), atol=1e-6)


def test_the_last_such_map_is_found_and_nothing_is_left_behind():
    function, inputs = First(seeded_model(lambda: Permuted(5))), inputs_of(2, 1, 8, 8)
    assert spatial_layer(function, None, (inputs[:1],), "x") is function.model.mixed
    captum_attribution("layer_grad_cam", function, inputs, 0 * inputs)
    assert not any(module._forward_hooks for module in function.modules())


def test_an_explanation_has_the_map_by_hand():
    model, inputs = seeded_model(lambda: Permuted(8)), inputs_of(64, 1, 8, 8)
    with torch.no_grad():
        model.head.bias.sub_(model(inputs).mean(0))
    explainer = xlens.fit(model, inputs, "svae", steps=2, mask=xlens.MaskOptions(steps=2), progress=False)
    with pytest.warns(xlens.errors.UntrustworthyWarning):
        explanation = explainer.explain(
            inputs[:3], attributions={"layer_grad_cam": {"layer": "mixed"}}, target=1, contrast=0
        )

    class Margin(nn.Module):
        def forward(self, x):
            logits = model(x)
            return logits[:, 1] - logits[:, 0]

    expected = by_hand(Margin(), model.mixed, inputs[:3])
    assert torch.allclose(explanation.attributions["layer_grad_cam"], expected, atol=1e-5)


def test_what_cannot_be_told_is_refused():
    function, inputs = First(seeded_model(Everywhere)), inputs_of(2, 1, 8, 8)
    with pytest.raises(ModelError, match=r"which axes.*height and width.*\(N, 8, 8, 8\).*name a layer"):
        captum_attribution("layer_grad_cam", function, inputs, inputs, options={"layer": "model.mix"})


def test_sizes_tell_it_where_a_change_is_seen_everywhere():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.Tanh(), nn.Unflatten(1, (4, 4, 6))).eval()
    function = nn.Sequential(model, nn.Flatten())
    assert is_channels_last(model, function, inputs_of(1, 1, 8, 8), (), "x")
    other = nn.Sequential(model[:3], nn.Unflatten(1, (6, 4, 4)))
    assert not is_channels_last(other, nn.Sequential(other, nn.Flatten()), inputs_of(1, 1, 8, 8), (), "x")


def swin(**options):
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 32, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    return timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, num_classes=3, **sizes | options)


@pytest.mark.parametrize("width", [8, 12])
@pytest.mark.parametrize("layer", ["norm", "layers.0", "layers.1.blocks.0", "patch_embed"])
def test_swin(width, layer):
    function = First(seeded_model(lambda: swin(embed_dim=width)))
    inputs = inputs_of(2, 3, 32, 32)
    found = captum_attribution("layer_grad_cam", function, inputs, 0 * inputs, options={"layer": f"model.{layer}"})
    expected = by_hand(function, function.get_submodule(f"model.{layer}"), inputs)
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.abs().max() > 1e-6


def test_swins_last_map_is_found():
    function = First(seeded_model(swin))
    assert spatial_layer(function, None, (inputs_of(1, 3, 32, 32),), "x") is function.model.norm


def test_tokens_are_refused_and_the_convolution_before_them_is_found():
    timm = pytest.importorskip("timm")
    function = First(
        seeded_model(
            lambda: timm.create_model(
                "vit_tiny_patch16_224", pretrained=False, img_size=32, depth=1, patch_size=8, num_classes=3
            )
        )
    )
    inputs = inputs_of(2, 3, 32, 32)
    assert spatial_layer(function, None, (inputs[:1],), "x") is function.model.patch_embed.proj
    with pytest.raises(ModelError, match="cannot be laid over the input.*of a transformer on tokens"):
        captum_attribution("layer_grad_cam", function, inputs, inputs, options={"layer": "model.blocks.0"})
