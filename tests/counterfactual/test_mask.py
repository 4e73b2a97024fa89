"""The mask: how far it opens until the classifier flips, and its size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xlens import Classifier
from xlens.counterfactual.mask import EditMask, mask_that_flips


class Planes(nn.Module):
    """Sees two pixels' sums, so that the smallest flipping shift can be searched for by brute force."""

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
