"""What the classifier computes on the way to its logits."""

from __future__ import annotations

import torch
from guard import unchanged
from torch import nn

from xlens import Classifier
from xlens.classifier.taps import FeatureMaps, Penultimate


def test_feature_maps_are_the_last_convolutions_of_each_size_standardised(trained, images):
    with unchanged(trained), Classifier(trained).frozen() as classifier:
        maps = FeatureMaps(classifier, images)
        values = maps(images)
        assert maps.names == ("body.3",)
        assert [value.shape for value in values] == [(96, 8, 8, 8)]
        raw = trained.body[3](trained.body[2](trained.body[1](trained.body[0](images))))
        expected = (raw - raw.mean((0, 2, 3), keepdim=True)) / raw.std((0, 2, 3), keepdim=True)
        assert (values[0] - expected.clamp(-6, 6)).abs().max() < 0.1
        assert not values[0].requires_grad
        assert not list(maps.parameters())


def test_feature_maps_of_a_model_without_convolutions():
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)))
    assert FeatureMaps(classifier, torch.randn(4, 1, 8, 8))(torch.randn(2, 1, 8, 8)) == []


def test_the_penultimate_features_are_what_the_last_linear_layer_sees(trained, images):
    with unchanged(trained), Classifier(trained).frozen() as classifier:
        logits, features = Penultimate(classifier, trained, images)(images)
        assert torch.allclose(features, trained.body(images))
        assert torch.allclose(logits, trained.head(features), atol=1e-6)


def test_the_head_is_found_behind_a_gate():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.gate = nn.Linear(8, 3), nn.Linear(3, 5)

        def forward(self, x):
            logits = self.head(x.flatten(1))
            return logits * self.gate(logits).mean(1, keepdim=True).sigmoid()

    model = Gated()
    assert Penultimate(model, model, torch.rand(2, 1, 2, 4)).width == 8
