"""Lenses on layers of any form: a spatial one, tokens, channels last; maps of parts against a finer reference."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xlens
from xlens.explaining import layer_maps


class Conv(nn.Module):
    """Two convolutions, and a head on the mean."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 5, 2, 2), nn.Conv2d(8, 12, 3, 2, 1)
        self.head = nn.Linear(12, 2)

    def forward(self, inputs):
        return self.head(self.second(self.first(inputs).relu()).relu().mean((2, 3)))


def transformer():
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=2)


def channels_last():
    return Conv().to(memory_format=torch.channels_last)


def images(n=48):
    generator = torch.Generator().manual_seed(0)
    found = torch.rand(n, 3, 4, 4, generator=generator)
    found[::2, 0] += 0.5
    return nn.functional.interpolate(found, (32, 32), mode="bilinear")


def around(model, layer):
    """Return an explainer of a model that puts half of the images in each class."""
    inputs = images()
    with torch.no_grad():
        model.head.weight.mul_(6)
        logits = model(inputs)
        model.head.bias[0] += (logits[:, 1] - logits[:, 0]).median()
    return xlens.fit(xlens.Classifier(model, layer=layer), inputs, "ilvm", steps=20, code=8, progress=False)


@pytest.mark.parametrize(
    ("make", "layer"), [(Conv, "second"), (transformer, "blocks.1"), (channels_last, "second")]
)
@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_maps_of_parts_are_complete_on_layers_of_any_form(make, layer):
    torch.manual_seed(0)
    explainer = around(make().eval(), layer)
    found = explainer.explain(images(4))
    difference = (found.scores - found.counterfactual_scores).double()
    parts = [f"lig: {name}" for name in found.feature_names]
    for name, share in zip(parts, found.feature_contributions.T, strict=True):
        told = found.attributions[name].double().flatten(1).sum(1)
        assert torch.allclose(told, share.double(), atol=1e-4 * float(difference.abs().max()))
    whole = sum(found.attributions[name] for name in parts)
    assert torch.allclose(whole, found.attributions["lig"], atol=1e-5)
    assert (found.convergence_delta["lig"].abs() <= 0.01 * difference.abs() + 1e-5).all()


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_few_segments_say_what_many_say():
    torch.manual_seed(0)
    explainer = around(Conv().eval(), "second")
    few, many = (explainer.explain(images(3), n_steps=n).attributions["lig"] for n in (16, 256))
    assert float((few - many).abs().sum() / many.abs().sum()) < 0.03


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_the_classifier_is_asked_once_for_all_parts(monkeypatch):
    """Per segment: one end, and one middle, whose gradients are taken for each part."""
    torch.manual_seed(0)
    model = Conv().eval()
    explainer = around(model, "second")
    seen = []
    original = layer_maps._Way.contributions

    def counting(self, *given):
        scores, self.scores = self.scores, lambda points, rows: seen.append(len(points)) or scores(points, rows)
        try:
            return original(self, *given)
        finally:
            self.scores = scores

    monkeypatch.setattr(layer_maps._Way, "contributions", counting)
    explainer.explain(images(2), n_steps=16, tolerance=1.0)
    assert sum(seen) <= 2 * (16 + 17)
