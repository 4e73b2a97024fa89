"""The built-in autoencoder: shapes of any size, no lattice, a training that resumes and grows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xlens
from xlens.codec import CodecOptions, ConvCodec, codec_fidelity, fit_codec
from xlens.contracts import Run
from xlens.data import as_data
from xlens.datasets import leaves as load_leaves
from xlens.errors import DataError, XlensWarning
from xlens.metrics import lattice_energy

SMALL = {"width": 8, "channels": 6, "crop": 32, "batch_size": 4, "growths": 0, "agreement": 0.0, "psnr": 0.0}


def spec_of(images):
    low, high = images.amin((0, 2, 3)).tolist(), images.amax((0, 2, 3)).tolist()
    return xlens.Spec(
        shape=tuple(images.shape[1:]), num_classes=2, minimum=tuple(low), maximum=tuple(high),
        mean=tuple(images.mean((0, 2, 3)).tolist()), std=tuple(images.std((0, 2, 3)).tolist()),
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def leaves():
    """Real photographs at 64 pixels."""
    return F.interpolate(load_leaves().train[::14][:24], (64, 64), mode="bilinear", antialias=True)


class Brightness(nn.Module):
    """Says which half is brighter."""

    def forward(self, inputs):
        score = 20 * (inputs[..., :32].mean((1, 2, 3)) - inputs[..., 32:].mean((1, 2, 3)))
        return torch.stack([-score, score], 1)


def run_of(images, **changes):
    return Run(**{"seed": 0, "device": torch.device("cpu"), "spec": spec_of(images), "progress": False, **changes})


def fitted(images, *, options=SMALL, steps=6, **changes):
    classifier = xlens.Classifier(Brightness())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return fit_codec(
            classifier, as_data(images), run_of(images, **changes), CodecOptions(**options, steps=steps)
        )


@pytest.mark.parametrize(("size", "grid"), [((64, 64), (16, 16)), ((50, 70), (13, 18)), ((200, 130), (25, 17))])
def test_images_of_any_size_come_back_in_their_size(size, grid):
    images = torch.rand(2, 3, *size)
    codec = ConvCodec(spec_of(images), 5, 8).eval()
    latents = codec.encode(images)
    assert latents.shape == (2, 5, *grid)
    assert codec.decode(latents).shape == images.shape


@pytest.mark.parametrize("side", [64, 160])
def test_even_images_stay_even_whatever_the_weights(side):
    torch.manual_seed(1)
    images = torch.rand(4, 3, side, side)
    codec = ConvCodec(spec_of(images), 6, 8).eval()
    for parameter in codec.parameters():
        nn.init.normal_(parameter, 0, 0.3 / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 0.1)
    even = torch.rand(4, 3, 1, 1).expand(-1, -1, side, side)
    with torch.no_grad():
        codec.train()  # without the limits of the range, within which everything may be lost
        again = codec(even)
    assert float(again.std()) > 1e-3
    assert float(lattice_energy(again, codec.stride).max()) < 1e-9 * float(again.square().mean())
    assert torch.allclose(again, even, atol=1e-5)


def test_a_shuffled_exit_would_leave_a_lattice():
    torch.manual_seed(0)
    shuffled = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 48, 3, padding=1, padding_mode="replicate"))
    images = torch.rand(2, 3, 1, 1).expand(-1, -1, 48, 48)
    with torch.no_grad():
        dotted = F.pixel_shuffle(shuffled(images), 4)
    assert float(lattice_energy(dotted, 4).min()) > 1e-3


def test_real_images_get_no_lattice_where_they_are_flat(leaves):
    codec, _ = fitted(leaves, steps=30)
    with torch.no_grad():
        again = codec(leaves)
    own, left = lattice_energy(leaves, codec.stride), lattice_energy(again, codec.stride, flat=leaves)
    assert float(left.sum() / own.sum()) <= 1.05


def test_training_brings_images_back_and_scales_latents(leaves):
    classifier = xlens.Classifier(Brightness())
    span = spec_of(leaves).span()
    _, few = fitted(leaves, steps=1)
    codec, more = fitted(leaves, steps=40)
    assert more.psnr > few.psnr + 0.5
    assert more.images == 3  # an eighth, kept out
    assert codec_fidelity(codec, classifier, [leaves], span).agreement >= 0.9
    with torch.no_grad():
        latents = codec.encode(leaves)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(6), atol=0.2)


def test_the_same_seed_gives_the_same_codec_also_when_it_is_resumed(leaves, tmp_path):
    expected, _ = fitted(leaves)

    def stop(event):
        if event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(leaves, output_dir=tmp_path, on_step=stop)
    found, _ = fitted(leaves, output_dir=tmp_path, resume=True)
    own = expected.state_dict()
    assert all(torch.equal(values, own[name]) for name, values in found.state_dict().items())


def test_it_grows_and_says_where_that_is_not_enough(leaves):
    phases = []
    options = {**SMALL, "psnr": 90.0, "growths": 2}
    with pytest.warns(XlensWarning, match=r"PSNR \d+.* wanted were 0 and 90 dB, after 2 growths to 12 channels"):
        codec, found = fitted(leaves, options=options, steps=2, on_step=lambda e: phases.append((e.phase, e.total)))
    assert codec.channels == 12
    assert found.psnr < 90
    assert list(dict.fromkeys(phases)) == [("codec", 2), ("codec-2", 2), ("codec-3", 4)]


def test_what_has_grown_begins_better_than_the_smaller_one_ended(leaves):
    codec, _ = fitted(leaves, steps=30)
    grown = ConvCodec(spec_of(leaves), 12, 8).eval()
    grown.begin(leaves)
    grown.grow_from(codec)
    with torch.no_grad():
        before, after = ((one(leaves) - leaves).square().mean() for one in (codec, grown))
    assert after < before


def test_images_smaller_than_cells_are_refused():
    images = torch.rand(4, 1, 8, 8)
    with pytest.raises(DataError, match="at least 16 pixels"):
        fitted(images)


def test_a_stream_of_batches_is_trained_on_too(leaves):
    stream = as_data(list(leaves.split(8)))
    codec, found = fit_codec(xlens.Classifier(Brightness()), stream, run_of(leaves), CodecOptions(**SMALL, steps=2))
    assert codec.channels == 6
    assert found.images == 24


def test_fidelity_of_what_loses_nothing_and_of_what_loses_all(leaves):
    classifier = xlens.Classifier(Brightness())

    class Given(xlens.codec.Codec):
        def __init__(self, made):
            super().__init__()
            self.made = made

        def encode(self, images):
            return images

        def decode(self, latents):
            return self.made(latents)

    span = torch.ones(1, 3, 1, 1)
    exact = codec_fidelity(Given(lambda x: x), classifier, [leaves], span)
    assert (exact.agreement, exact.score_gap, exact.psnr) == (1.0, 0.0, pytest.approx(120))
    mirrored = codec_fidelity(Given(lambda x: x.flip(-1)), classifier, [leaves], span)
    assert mirrored.agreement == 0
    assert mirrored.score_gap == pytest.approx(2, abs=1e-3)
    off = codec_fidelity(Given(lambda x: x + 0.1), classifier, [leaves], span)
    assert off.psnr == pytest.approx(20, abs=1e-3)
    assert not off.holds(0.97, 30)
