"""A lens behind an autoencoder: fitted on latents, asked about images, saved and loaded."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xlens
from xlens.codec import CodecOptions
from xlens.datasets import leaves
from xlens.errors import OptionError, UnsupportedError

QUICK = CodecOptions(steps=2, width=8, channels=6, crop=32, growths=0, agreement=0.0, psnr=0.0)
SMALL = {"steps": 2, "hidden": 8, "batch_size": 4}


class Tone(nn.Module):
    """Says whether an image is greener than most."""

    def __init__(self):
        super().__init__()
        self.look = nn.Conv2d(3, 4, 5, 4, 2)

    def forward(self, inputs):
        score = 40 * (inputs[:, 1] - inputs[:, 0]).mean((1, 2)) + 1e-4 * self.look(inputs).mean((1, 2, 3))
        return torch.stack([-score, score], 1)


@pytest.fixture(scope="module")
def images():
    found = F.interpolate(leaves().train[::14], (64, 64), mode="bilinear", antialias=True)
    # Half of them in each class.
    shift = (found[:, 1] - found[:, 0]).mean((1, 2)).median()
    return torch.cat([found[:, :1] + shift, found[:, 1:]], 1)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return Tone().eval()


@pytest.fixture(scope="module")
def coded(classifier, images):
    mask = xlens.MaskOptions(steps=2, batch_size=4, pool=8)
    return xlens.fit(classifier, images, "svae", codec=QUICK, mask=mask, progress=False, **SMALL)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_it_explains_images_and_says_what_was_kept_of_them(coded, images):
    found = coded.explain(images[:2])
    assert found.counterfactual.shape == images[:2].shape
    assert found.attributions["lig"].shape == images[:2].shape
    assert coded.lens.stage.spec.shape == (6, 16, 16)
    assert set(coded.provenance["codec"]) == {"agreement", "score_gap", "psnr", "images"}


def test_the_classifier_of_latents_is_the_classifier_of_what_they_decode_to(coded, classifier, images):
    stage = coded.lens.stage
    with torch.no_grad():
        latents = stage.encode(images[:3])
        assert torch.allclose(stage.classifier(latents), classifier(stage.decode(latents)), atol=1e-5)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_it_is_saved_and_loaded(coded, classifier, images, tmp_path):
    coded.save(tmp_path)
    again = xlens.load(tmp_path, classifier)
    assert torch.equal(again.lens.encode(images[:2]), coded.lens.encode(images[:2]))
    assert torch.equal(again.counterfactual(images[:2]), coded.counterfactual(images[:2]))


def test_what_does_not_go_together_is_refused(classifier, images):
    with pytest.raises(UnsupportedError, match="'infill' cannot be fitted behind an autoencoder"):
        xlens.fit(classifier, images, "infill", codec="auto")
    with pytest.raises(OptionError, match="codec is wrong.*'some'.*'none', 'auto'"):
        xlens.fit(classifier, images, "svae", codec="some")
    with pytest.raises(OptionError, match="does not go with a hidden layer"):
        xlens.fit(xlens.Classifier(classifier, layer="look"), images, "svae", codec="auto")
