"""A lens behind an autoencoder: fitted on latents, asked about images, saved and loaded."""

from __future__ import annotations

import copy
import logging
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xlens
from xlens.codec import CodecOptions
from xlens.datasets import leaves
from xlens.errors import ModelError, OptionError, StorageError, UnsupportedError, XlensWarning
from xlens.fitting.first_stage import as_coded
from xlens.stages.building import stage_faults
from xlens.surrogate import SurrogateOptions

QUICK = CodecOptions(steps=2, width=8, channels=6, crop=16, growths=0, agreement=0.0, psnr=0.0)
SMALL = {"steps": 2, "hidden": 8, "batch_size": 4}
SHORT = xlens.MaskOptions(steps=1, batch_size=4, pool=8)
#: Its default is distilled in hundreds of steps; one lens below has it.
BRIEF = SurrogateOptions(steps=2, width=8, mixtures=4, batch_size=4)


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
    found = F.interpolate(leaves().train[::14], (32, 32), mode="bilinear", antialias=True)
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
    assert coded.lens.stage.spec.shape == (6, 8, 8)
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
    with pytest.raises(ModelError, match="Identity without encode and decode"):
        xlens.fit(classifier, images, "svae", codec=nn.Identity())
    with pytest.raises(OptionError, match="does not go with a hidden layer"):
        xlens.fit(xlens.Classifier(classifier, layer="look"), images, "svae", codec="auto")
    with pytest.raises(OptionError, match="does not go with a hidden layer"):
        xlens.fit(xlens.Classifier(classifier, layer="look"), images, "svae", codec=Halved())


class Halved(nn.Module):
    """Keeps mean colours of two by two pixels, and has a weight and a switch that would be seen to change."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.drop = nn.Dropout(0.5)

    def encode(self, images):
        return self.drop(self.gain * F.avg_pool2d(images, 2))

    def decode(self, latents):
        return F.interpolate(self.drop(latents / self.gain), scale_factor=2, mode="bilinear")


def tiny(diffusers):
    """Return diffusers' small autoencoder, from a configuration."""
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["by hand", "of diffusers"])
def own(request):
    torch.manual_seed(0)
    made = Halved() if request.param == "by hand" else tiny(request.getfixturevalue("diffusers"))
    return made.train()


@pytest.fixture(scope="module")
def around_own(own, classifier, images):
    mask = xlens.MaskOptions(steps=2, batch_size=4, pool=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        return xlens.fit(
            classifier, images[:48], "svae", codec=own, mask=mask, surrogate=BRIEF, progress=False, **SMALL
        )


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_an_autoencoder_of_ones_own_is_fitted_behind_and_left_as_it_was(around_own, own, images):
    before = {name: value.clone() for name, value in own.state_dict().items()}
    found = around_own.explain(images[:2])
    assert found.counterfactual.shape == images[:2].shape
    assert set(found.convergence_delta) == {"lig"}
    # In eval mode: its dropout would tell two answers apart.
    assert torch.equal(found.codes, around_own.explain(images[:2]).codes)
    assert own.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in own.parameters())
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert set(around_own.provenance["codec"]) == {"agreement", "score_gap", "psnr", "images"}
    own_tensors = {value.data_ptr() for value in own.state_dict().values()}
    assert not own_tensors & {value.data_ptr() for value in around_own.lens.state_dict().values()}


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_it_is_saved_without_the_autoencoder_which_is_asked_for(around_own, own, classifier, images, tmp_path):
    around_own.save(tmp_path)
    again = xlens.load(tmp_path, classifier, codec=own)
    assert torch.equal(again.counterfactual(images[:2]), around_own.counterfactual(images[:2]))
    with pytest.raises(
        StorageError, match=rf"behind an autoencoder of your own.*same {type(own).__name__}.*codec=mod"
    ):
        xlens.load(tmp_path, classifier)
    other = copy.deepcopy(own)
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    with pytest.raises(StorageError, match="behind another autoencoder.*with other weights, layers or scaling"):
        xlens.load(tmp_path, classifier, codec=other)
    assert xlens.load(tmp_path, classifier, codec=other, strict=False).lens.stage.codec.module is other
    with pytest.raises(ModelError, match="Identity without encode and decode"):
        xlens.load(tmp_path, classifier, codec=nn.Identity())


def test_the_scaling_of_an_autoencoder_belongs_to_it(diffusers, classifier, images, tmp_path):
    own = tiny(diffusers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        fitted = xlens.fit(
            classifier, images[:16], "svae", codec=own, mask=SHORT, surrogate=BRIEF, progress=False, **SMALL
        )
    fitted.save(tmp_path)
    own.register_to_config(scaling_factor=0.5)
    with pytest.raises(StorageError, match="behind another autoencoder"):
        xlens.load(tmp_path, classifier, codec=own)


def test_a_lens_behind_what_xlens_trained_wants_no_autoencoder(coded, classifier, tmp_path):
    coded.save(tmp_path)
    with pytest.raises(StorageError, match="leave codec out: what xlens trained is saved with the lens"):
        xlens.load(tmp_path, classifier, codec=Halved())


def test_facts_of_an_autoencoder_that_nobody_wrote_are_refused(around_own):
    facts = around_own.lens.stage.facts()
    assert not stage_faults(facts)
    for own in ({}, "x", {**facts["own"], "fingerprint": 3}, {**facts["own"], "constants": {"a": 1}}):
        assert stage_faults({**facts, "own": own}) == ["own is not what an autoencoder is known by"]


def test_an_autoencoder_that_loses_the_evidence_is_said_to(classifier, images):
    with pytest.warns(XlensWarning, match="of what the autoencoder makes of the images, the classifier agrees on"):
        xlens.fit(
            classifier, images[:32], "svae", codec=Grey(), mask=SHORT, surrogate=BRIEF, progress=False, **SMALL
        )


class Grey(nn.Module):
    """Forgets colours."""

    def encode(self, images):
        return F.avg_pool2d(images.mean(1, keepdim=True), 4)

    def decode(self, latents):
        return F.interpolate(latents, scale_factor=4).expand(-1, 3, -1, -1)


@pytest.mark.parametrize(("codec", "first"), [(QUICK, "codec 2 steps of"), (Halved, "svae 2 steps of")])
@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_the_cost_is_said_beforehand_with_the_masks(codec, first, classifier, images, caplog):
    caplog.set_level(logging.INFO, "xlens")
    codec = codec if codec is QUICK else codec()
    silent, loud = (
        xlens.fit(classifier, images[:16], "svae", codec=codec, mask=SHORT, surrogate=BRIEF, progress=said, **SMALL)
        for said in (False, None)
    )
    said = [
        record.getMessage() for record in caplog.records if record.name == "xlens" and "fit: about" in record.msg
    ]
    assert first in said[0]
    assert "mask 1 steps of" in said[0]
    assert ("then svae" in said[0]) == (len(said) == 2)
    # Finding it out changes nothing of what is fitted.
    pairs = zip(silent.lens.state_dict().values(), loud.lens.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(("side", "coded"), [(128, False), (129, True)])
def test_auto_is_decided_by_the_longer_side(side, coded):
    spec = xlens.Spec(
        shape=(1, 16, side), num_classes=2, minimum=(0.0,), maximum=(1.0,), mean=(0.5,), std=(0.2,),
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )  # fmt: skip
    assert (as_coded("auto", spec, None) is not None) == coded
