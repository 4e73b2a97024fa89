"""What a lens keeps of the data: found whoever keeps it, and sent by nobody who did not agree."""

import dataclasses

import pytest
import torch
import toys
from torch import nn

import xlens
from xlens.errors import OptionError
from xlens.hub.keeping import kept_data
from xlens.metrics.likeness import PatchBank
from xlens.surrogate import SurrogateOptions


@pytest.fixture(scope="module")
def banked(trained):
    """A lens on a hidden layer, which keeps real inputs to be shown."""
    classifier = xlens.Classifier(trained, layer="body.2")
    return xlens.fit(classifier, toys.pictures(60, seed=0)[0], "ilvm", steps=2, progress=False)


def test_a_lens_on_inputs_keeps_no_single_one(fitted):
    kept = fitted.kept_data
    assert not kept.single_inputs
    assert [part.kind for part in kept.parts] == ["statistics", "weights"]


def test_patches_of_real_inputs_are_named(fitted):
    real = PatchBank.of(torch.rand(8, 1, 32, 32), seed=0)
    kept = kept_data(dataclasses.replace(fitted.fitted, real=real))
    assert kept.parts[0].kind == "patches"
    assert kept.parts[0].said.startswith("2048 patches of 5x5 pixels of real inputs, at 2 scales")
    assert not kept.single_inputs


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_a_lens_that_keeps_inputs_says_so_and_stays_here(banked, tmp_path, hub):
    kept = {part.kind: part for part in banked.kept_data.parts}
    assert banked.kept_data.single_inputs
    assert kept["inputs"].count == len(banked.lens.kept_inputs) > 0
    assert kept["inputs"].said.startswith(f"{kept['inputs'].count} real inputs as they are")
    with pytest.raises(OptionError, match=r"keeps single inputs.*with_data=True"):
        banked.push_to_hub("somebody/lens", token="t")
    with pytest.raises(OptionError, match="with_data must be True or False"):
        banked.push_to_hub("somebody/lens", with_data="no")
    assert not hub.asked
    done = banked.push_to_hub("somebody/lens", dry_run=tmp_path, with_data=True)
    assert kept["inputs"].said.split(" (")[0] in (tmp_path / "README.md").read_text()
    assert done.kept_data.single_inputs


class Bare(nn.Module):
    """A third party's lens that keeps something, and need not have said so."""

    def __init__(self, kept_inputs=None, **buffers):
        super().__init__()
        self.kept_inputs = kept_inputs
        self.part = nn.Module()
        for name, value in buffers.items():
            self.part.register_buffer(name, value)


CASES = {
    "declared": ({"kept_inputs": torch.rand(3, 1, 4, 4)}, True),
    "not declared": ({"bank": torch.rand(5, 1, 4, 4)}, True),
    "declared and empty": ({"kept_inputs": torch.rand(0, 1, 4, 4)}, False),
    "a mean image": ({"mean": torch.rand(1, 1, 4, 4)}, False),
    "filters": ({"filters": torch.rand(8, 1, 3, 3)}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_inputs_are_found_where_a_third_party_keeps_them(fitted, case):
    options, single = CASES[case]
    spec = dataclasses.replace(fitted.spec, shape=(1, 4, 4))
    record = dataclasses.replace(fitted.fitted, lens=Bare(**options), spec=spec, real=None)
    assert kept_data(record).single_inputs == single


class Halves(nn.Module):
    """An autoencoder of somebody's own."""

    def encode(self, images):
        return nn.functional.avg_pool2d(images, 2)

    def decode(self, latents):
        return nn.functional.interpolate(latents, scale_factor=2)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_latents_are_as_good_as_inputs(trained):
    images = toys.pictures(60, seed=0)[0]
    behind = xlens.fit(
        trained, images, "svae", codec=Halves(), steps=2, mask=toys.SHORT_MASK, surrogate=SurrogateOptions(steps=2),
        progress=False,
    )  # fmt: skip
    assert not behind.kept_data.single_inputs
    behind.lens.lens.register_buffer("bank", Halves().encode(images[:5]))
    assert "5 real inputs as they are, of shape (1, 4, 4)" in str(behind.kept_data)
