"""Fits behind an autoencoder in which a surrogate answers: what the classifier is asked, and what is said of it."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xlens
from xlens.codec import CodecOptions
from xlens.errors import OptionError, XlensWarning
from xlens.surrogate import SurrogateOptions

CODEC = CodecOptions(steps=1, width=8, channels=6, crop=16, growths=0, agreement=0.0, psnr=0.0)
MASK = xlens.MaskOptions(steps=1, batch_size=4, pool=8)
SEEN = SurrogateOptions(width=8, steps=20, mixtures=8, ask_every=2, asked=3, agreement=0.0)
SMALL = {"svae": {"hidden": 8, "batch_size": 4}, "medxgan": {"width": 4, "hidden": 8, "batch_size": 4}}


class Tone(nn.Module):
    """Says whether an image is bright."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))

    def forward(self, inputs):
        score = self.gain * (inputs.mean((1, 2, 3)) - 0.5)
        return torch.stack([-score, score], 1)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    tone = torch.linspace(0.2, 0.8, 32).view(-1, 1, 1, 1)
    grain = F.interpolate(torch.rand(32, 3, 8, 8, generator=generator), (32, 32), mode="bilinear")
    return (tone + 0.3 * (grain - 0.5)).clamp(0, 1)


@pytest.fixture(scope="module")
def classifier():
    return Tone().eval()


def fitted(classifier, images, backend="svae", steps=4, surrogate=SEEN, **more):
    options = {**SMALL.get(backend, {}), **more}
    return xlens.fit(
        classifier, images, backend, codec=CODEC, mask=MASK, surrogate=surrogate, steps=steps,
        **{"progress": False, **options},
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["svae", "medxgan"])
def test_a_longer_fit_asks_a_few_images_more_and_no_gradient(backend, classifier, images):
    short, long = (fitted(classifier, images, backend, steps).provenance for steps in (2, 8))
    assert long["passes"]["forward"] - short["passes"]["forward"] == (8 - 2) // 2 * 3
    assert long["passes"]["backward"] == short["passes"]["backward"]
    assert long["surrogate"]["compared"] == 2 * 3
    without = [fitted(classifier, images, backend, steps, "none").provenance for steps in (2, 8)]
    assert without[1]["passes"]["backward"] > without[0]["passes"]["backward"] + 6
    assert "surrogate" not in without[0]


def test_afterwards_the_classifier_itself_answers(classifier, images):
    explainer = fitted(classifier, images)
    stage = explainer.lens.stage
    with torch.no_grad():
        values = stage.encode(images[:3])
        assert torch.allclose(explainer.lens.lens.classifier(values), classifier(stage.decode(values)), atol=1e-5)


def test_a_surrogate_that_says_something_else_is_said_to(classifier, images):
    deaf = SurrogateOptions(width=4, steps=1, mixtures=0, learning_rate=1e-9, ask_every=1, asked=4, agreement=0.99)
    with pytest.warns(
        XlensWarning, match=r"the surrogate agrees with the classifier on 0\.\d+ of .*wanted was 0.99"
    ):
        explainer = fitted(classifier, images, steps=6, surrogate=deaf)
    assert explainer.provenance["surrogate"]["agreement"] < 0.99
    # Nor does it answer while the mask is fitted: what the lens asks then, the classifier is asked.
    trusted = fitted(classifier, images, steps=6, surrogate=dataclasses.replace(deaf, agreement=0.0))
    assert explainer.provenance["passes"]["forward"] > trusted.provenance["passes"]["forward"]


def test_what_it_will_be_asked_is_said_beforehand(classifier, images, caplog):
    caplog.set_level(logging.INFO, "xlens")
    fitted(classifier, images, progress=None)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "a surrogate answers for the classifier, which is asked about 3 images every 2 steps, 6 in all" in said


def test_where_there_can_be_none_it_is_refused(classifier, images):
    with pytest.raises(OptionError, match="surrogate is wrong.*'some'.*'auto', 'none' or"):
        fitted(classifier, images, surrogate="some")
    with pytest.raises(OptionError, match="no autoencoder is fitted behind"):
        xlens.fit(classifier, images, "svae", surrogate=SEEN, progress=False)
    with pytest.raises(OptionError, match="'dif' does not learn from the classifier's gradient"):
        fitted(classifier, images, "dif")


def test_a_fit_that_was_stopped_goes_on_to_the_same_lens(classifier, images, tmp_path):
    whole = fitted(classifier, images, steps=8)
    count = itertools.count()

    def stop(event):
        if event.phase == "svae" and next(count) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(classifier, images, steps=8, output_dir=tmp_path, on_step=stop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        again = fitted(classifier, images, steps=8, output_dir=tmp_path, resume=True)
    pairs = zip(whole.lens.state_dict().values(), again.lens.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert whole.provenance["surrogate"] == again.provenance["surrogate"]
