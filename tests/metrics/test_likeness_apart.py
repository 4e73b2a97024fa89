"""A reconstruction is nearer to its image than real images are to each other, or it stands for another image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import xlens
from xlens.errors import UntrustworthyWarning
from xlens.metrics.likeness import PatchBank


def blobs(n, seed, side=24):
    """Return images of one bright spot each, in places of its own."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(n, 2, generator=generator) * (side - 8) + 4
    grid = torch.arange(side).float()
    down = (grid[None, :, None] - places[:, 0, None, None]).square()
    across = (grid[None, None, :] - places[:, 1, None, None]).square()
    return torch.exp(-(down + across) / 8).unsqueeze(1)


def test_the_measure_is_the_median_distance_to_the_nearest_real_image():
    images = blobs(40, 0)
    bank = PatchBank.of(images, 0)
    inside, held_out = images[::2].flatten(1), images[1::2].flatten(1)
    nearest = sorted(min(float((one - other).norm()) for other in inside) for one in held_out)
    assert float(bank.neighbour) == pytest.approx(nearest[9], rel=1e-4)
    new = blobs(6, 1)
    assert torch.equal(bank.apart(new, new), torch.zeros(6))
    far = bank.apart(new, torch.zeros_like(new))
    assert torch.allclose(far, new.flatten(1).norm(dim=1) / bank.neighbour, rtol=1e-4)


def test_large_images_are_compared_without_their_detail():
    images = F.interpolate(blobs(20, 0), scale_factor=4)
    bank = PatchBank.of(images, 0)
    noise = 0.05 * torch.randn(images[:2].shape, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(images[:2] + noise, 3, 1, 1)
    assert bool((bank.apart(images[:2], blurred) < 0.5).all())


class Ghosts(xlens.Lens):
    """Decodes every image to one picture of its class."""

    features = (xlens.Feature("class", (0, 1), "class"), xlens.Feature("none", (2,), "nuisance"))

    def __init__(self, classifier, means):
        super().__init__()
        self._classifier = [classifier]
        self.register_buffer("means", means)

    def encode(self, inputs):
        return F.pad(self._classifier[0](inputs).softmax(1), (0, 1))

    def decode(self, codes):
        return torch.einsum("nk,kchw->nchw", codes[:, :2], self.means)

    def counterfactual(self, codes, target, contrast):
        return F.pad(F.one_hot(contrast, 2).to(codes.dtype), (0, 1))


@xlens.options
class Ghostly(xlens.Backend):
    """Means of classes."""

    name = "ghostly"

    def build(self, classifier, spec):
        return Ghosts(classifier, torch.zeros(2, *spec.shape))

    def fit(self, classifier, data, run):
        lens = self.build(classifier, run.spec)
        inputs = data.take(torch.arange(len(data))).inputs
        decided = classifier(inputs).argmax(1)
        for c in range(2):
            lens.means[c] = inputs[decided == c].mean(0)
        return lens


class Lit(torch.nn.Module):
    """Sees class 1 where the left half is the brighter one."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(4.0))

    def forward(self, inputs):
        half = inputs.shape[3] // 2
        score = self.scale * (inputs[:, 0, :, :half].mean((1, 2)) - inputs[:, 0, :, half:].mean((1, 2))) * 20
        return torch.stack([-score, score], 1)


def test_a_lens_of_ghosts_is_not_like_its_inputs():
    images = blobs(80, 0)
    model = Lit()
    explainer = xlens.fit(model, images, Ghostly(), mask=xlens.MaskOptions(steps=3), progress=False)
    asked = images[model(images).argmax(1) == 1][:6]
    with pytest.warns(UntrustworthyWarning, match="no nearer to the input than other real inputs"):
        found = explainer.explain(asked, attributions=())
    assert float(found.verdicts["likeness"].float().mean()) < 0.2


def test_a_bank_of_an_earlier_version_does_not_ask():
    bank = PatchBank(1, 1)
    images = blobs(2, 0)
    assert torch.equal(bank.apart(images, 0 * images), torch.zeros(2))
