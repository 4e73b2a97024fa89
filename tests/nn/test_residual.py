"""Residual networks for images: every size, and each input on its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import spec

from xlens.nn import GaussianEncoder, ResidualDecoder, ResidualEncoder


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(8, 45), st.integers(8, 45), st.sampled_from([4, 5, 12]))
def test_images_of_any_size_and_channels_go_in_and_come_out(channels, height, right, width):
    shape = (channels, height, right)
    codes = ResidualEncoder(spec(shape), 6, width)(torch.zeros(2, *shape))
    assert codes.shape == (2, 6)
    assert ResidualDecoder(spec(shape), 6, width)(codes).shape == (2, *shape)


def test_at_128_pixels_the_widths_are_the_papers():
    encoder, decoder = ResidualEncoder(spec((3, 128, 128)), 512, 32), ResidualDecoder(spec((3, 128, 128)), 256, 32)
    assert [block.first.out_channels for block in encoder.blocks] == [32, 64, 128, 256, 512]
    assert encoder.out.in_features == 512 * 4 * 4
    assert [block.first.in_channels for block in decoder.blocks] == [512, 256, 128, 64, 32]


@pytest.mark.parametrize("make", [ResidualEncoder, ResidualDecoder])
def test_an_input_does_not_depend_on_its_batch(make):
    torch.manual_seed(0)
    network = make(spec((1, 20, 12)), 5, 8)
    given = torch.rand(4, 1, 20, 12) if make is ResidualEncoder else torch.rand(4, 5)
    for mode in (True, False):
        network.train(mode)
        assert torch.allclose(network(given)[:1], network(given[:1]), atol=1e-5)


def test_every_pixel_reaches_the_code_and_every_number_every_pixel():
    torch.manual_seed(0)
    shape = (2, 19, 13)
    images = torch.rand(1, *shape, requires_grad=True)
    ResidualEncoder(spec(shape), 3, 8)(images).square().sum().backward()
    assert bool((images.grad != 0).all())
    decoder, codes = ResidualDecoder(spec(shape), 3, 8), torch.rand(1, 3)
    for number in range(3):
        moved = codes.clone()
        moved[0, number] += 1
        assert float((decoder(moved) != decoder(codes)).float().mean()) > 0.99


def test_the_straight_way_is_there():
    """Without what is beside it, a block hands on its input."""
    block = ResidualEncoder(spec((1, 16, 16)), 3, 8).blocks[1]
    assert block.straight.weight.shape == (16, 8, 1, 1)
    torch.nn.init.zeros_(block.after_second.weight)
    torch.nn.init.zeros_(block.after_second.bias)
    hidden = torch.rand(1, 8, 4, 4)
    assert torch.equal(block(hidden), torch.nn.functional.leaky_relu(block.straight(hidden), 0.2))


def test_a_gaussian_encoder_is_of_them_on_request():
    plain, residual = (GaussianEncoder(spec((1, 16, 16)), 3, 8, 8, False, given) for given in (False, True))
    assert not isinstance(plain.trunk, ResidualEncoder)
    assert isinstance(residual.trunk, ResidualEncoder)
    mean, log_variance = residual(torch.rand(2, 1, 16, 16))
    assert mean.shape == log_variance.shape == (2, 3)
