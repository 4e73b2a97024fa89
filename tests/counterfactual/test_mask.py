"""Building blocks for backends: taps into the classifier, margins, and the mask that flips."""

from __future__ import annotations

import pytest
import torch
from guard import unchanged
from torch import nn
from xlens.counterfactual.search import mask_that_flips

from xlens import Classifier
from xlens.nn import EditMask, FeatureMaps, Penultimate, margin_over_rest, score_margin

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
TARGET, CONTRAST = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 0, 3, 2, 3, 2])


def test_margins_against_loops():
    for i, (t, c) in enumerate(zip(TARGET.tolist(), CONTRAST.tolist(), strict=True)):
        row = LOGITS[i].tolist()
        assert score_margin(LOGITS, TARGET, CONTRAST)[i].item() == pytest.approx(row[t] - row[c])
        rest = max(value for k, value in enumerate(row) if k != t)
        assert margin_over_rest(LOGITS, TARGET)[i].item() == pytest.approx(row[t] - rest)


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


class Planes(nn.Module):
    """f sees two pixels' sums, so that the smallest flipping shift can be searched for by brute force."""

    def forward(self, inputs):
        total = inputs.flatten(1).sum(1)
        return torch.stack([2.0 - total, total - 2.0], 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_mask_opens_no_further_than_needed(seed):
    generator = torch.Generator().manual_seed(seed)
    inputs, decoded = torch.ones(8, 1, 2, 3), torch.zeros(8, 1, 2, 3)
    logits = torch.randn(8, 1, 2, 3, generator=generator) * 2 - 2
    logits[7] = 4.0  # flips already
    contrast = torch.zeros(8, dtype=torch.long)
    low, high = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    classifier = Classifier(Planes())
    found = mask_that_flips(lambda *_: logits.clone(), classifier, inputs, inputs, decoded, contrast, low, high)
    for i in range(8):
        shifts = [k / 200 for k in range(200 * 16)]
        smallest = next(s for s in shifts if (1 - (logits[i] + s).sigmoid()).sum() < 2.0)
        assert (1 - found[i]).sum() < 2.0
        assert (found[i] - (logits[i] + smallest).sigmoid()).abs().max() < 0.02, i
    assert torch.equal(found[7], logits[7].sigmoid())


class Band(nn.Module):
    """Flips only while the sum is between 2.5 and 3.5: opening further undoes it."""

    def forward(self, inputs):
        margin = 0.5 - (inputs.flatten(1).sum(1) - 3).abs()
        return torch.stack([margin, -margin], 1)


def test_a_margin_that_falls_again_as_the_mask_opens():
    inputs, logits = torch.ones(1, 1, 2, 3), torch.full((1, 1, 2, 3), -2.0)
    found = mask_that_flips(
        lambda *_: logits.clone(), Classifier(Band()), inputs, inputs, 0 * inputs, torch.zeros(1, dtype=torch.long),
        torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1),
    )  # fmt: skip
    assert (1 - found).sum().item() == pytest.approx(3.5, abs=0.01)


def test_a_mask_that_cannot_flip_stays_as_it_was():
    same = torch.ones(2, 1, 2, 3)
    logits = torch.randn(2, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    found = mask_that_flips(
        lambda *_: logits.clone(), Classifier(Planes()), same, same, same, torch.zeros(2, dtype=torch.long),
        torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1),
    )  # fmt: skip
    assert torch.equal(found, logits.sigmoid())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14), (4, 50, 130)])
def test_masks_have_the_size_of_the_image(shape):
    classifier = Classifier(nn.Sequential(nn.Conv2d(shape[0], 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    images = torch.randn(3, *shape)
    mask = EditMask(classifier, shape[0], 4, images)
    assert mask(images, images, images, torch.tensor([0, 3, 1])).shape == (3, 1, *shape[1:])
    assert not any(parameter is p for p in classifier.model.parameters() for parameter in mask.parameters())
