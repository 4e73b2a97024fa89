"""The user's own autoencoder, and diffusers' in their own conventions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xlens
from xlens.classifier.normalization import Normalization
from xlens.codec import ConvCodec, as_codec
from xlens.errors import ModelError

SPEC = xlens.Spec(
    shape=(3, 16, 16), num_classes=2, minimum=(0.0, 0.1, 0.0), maximum=(0.9, 1.0, 1.0), mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2), class_margins=((0.0, 1.0), (1.0, 0.0)),
)  # fmt: skip


class Own(nn.Module):
    """Shrinks and enlarges."""

    def encode(self, images):
        return F.avg_pool2d(images, 2)

    def decode(self, latents):
        return F.interpolate(latents, scale_factor=2)


def test_any_module_with_both_methods_is_asked_in_the_datas_own_values():
    codec, images = as_codec(Own(), SPEC), torch.rand(2, 3, 16, 16)
    assert torch.equal(codec.encode(images), F.avg_pool2d(images, 2))
    assert torch.equal(codec(images), F.interpolate(F.avg_pool2d(images, 2), scale_factor=2))


def test_a_codec_stays_what_it_is():
    codec = ConvCodec(SPEC, 4, 8)
    assert as_codec(codec, SPEC) is codec


def test_what_it_gives_in_a_tuple_is_taken_and_it_is_left_as_it_was():
    class Pair(Own):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def encode(self, images):
            return self.drop(super().encode(images)), None

        def decode(self, latents):
            return (super().decode(latents),)

    module = Pair().train()
    codec = as_codec(module, SPEC)
    images = torch.rand(2, 3, 16, 16)
    with codec.held():
        assert torch.equal(codec.encode(images), F.avg_pool2d(images, 2))
    assert module.training
    assert module.drop.training
    assert not list(codec.parameters())
    assert not codec.state_dict()


class Lost(Own):
    def decode(self, latents):
        return latents


class Deaf(Own):
    def decode(self, latents):
        return super().decode(latents.detach())


class Flat(Own):
    def encode(self, images):
        return images.flatten(1)


class Broken(Own):
    def encode(self, images):
        raise RuntimeError("expected 128 channels")


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (nn.Identity(), "Identity without encode and decode"),
        (type("Half", (nn.Module,), {"encode": lambda self, x: x})(), "Half without decode"),
        (object(), "object without encode and decode"),
        (Lost(), r"decode does not give images \(1, 3, 16, 16\).*shape \(1, 3, 8, 8\)"),
        (Deaf(), "no gradient flows back through decode"),
        (Flat(), r"encode does not give latents.*shape \(1, 768\)"),
        (Broken(), "expected 128 channels"),
    ],
)
def test_what_is_no_autoencoder_for_such_images_is_refused_in_words(module, says):
    with pytest.raises(ModelError, match=says):
        as_codec(module, SPEC)


def kl(diffusers, **changes):
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, **changes,
    )  # fmt: skip


def test_autoencoder_kl_takes_minus_one_to_one_and_gives_the_scaled_mode(diffusers):
    module = kl(diffusers, scaling_factor=0.3, shift_factor=0.2)
    codec, images = as_codec(module, SPEC, Normalization((0.0,), (1.0,))), torch.rand(2, 3, 16, 16)
    with torch.no_grad(), codec.held():
        mode = module.encode(2 * images - 1).latent_dist.mode()
        latents = codec.encode(images)
        assert torch.allclose(latents, (mode - 0.2) * 0.3, atol=1e-6)
        assert torch.allclose(codec.decode(latents), (module.decode(mode).sample + 1) / 2, atol=1e-5)


def test_autoencoder_tiny_takes_minus_one_to_one_too(diffusers):
    torch.manual_seed(0)
    module = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    )  # fmt: skip
    # Without a normalisation, the data's smallest and largest value are black and white.
    codec, images = as_codec(module, SPEC), torch.rand(2, 3, 16, 16)
    with torch.no_grad(), codec.held():
        latents = codec.encode(images)
        assert torch.allclose(latents, module.encode(2 * images - 1).latents, atol=1e-6)
        assert torch.allclose(codec.decode(latents), (module.decode(latents).sample + 1) / 2, atol=1e-6)


def test_images_normalised_for_a_classifier_are_undone_for_diffusers(diffusers):
    module, normalization = kl(diffusers), Normalization((0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    images = torch.rand(2, 3, 16, 16)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (normalization.mean, normalization.std))
    with torch.no_grad():
        plain = as_codec(module, SPEC, Normalization((0.0,), (1.0,)))(images)
        found = as_codec(module, SPEC, normalization)((images - mean) / std)
    assert torch.allclose(found * std + mean, plain, atol=1e-4)
