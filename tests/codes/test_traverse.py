"""Traversals: one feature, or the coordinate along a direction, set to each value."""

from __future__ import annotations

import pytest
import torch
import toys
from directed import Directed

from xlens.errors import OptionError


def test_traverse_sets_one_feature(ask, fitted, images):
    frames = ask("traverse", images[1:3], "bright", [0.0, 1.0, 2.0])
    assert frames.shape == (2, 3, 1, 8, 8)
    codes = fitted.lens.encode(images[1:3])
    codes[:, 64:128] = 0
    assert torch.allclose(frames[:, 0], fitted.lens.decode(codes), atol=1e-6)
    # The change grows in proportion, in the direction that the block has.
    assert torch.allclose(frames[:, 2] - frames[:, 0], 2 * (frames[:, 1] - frames[:, 0]), atol=1e-5)
    change = frames[0, 1] - frames[0, 0]
    assert change.norm().item() == pytest.approx(8.0, rel=1e-4)  # sqrt of its width
    assert (change != 0).equal(images[1] > 0.5)
    assert torch.equal(frames, ask("traverse", images[1:3], 1, torch.tensor([0.0, 1.0, 2.0])))


@pytest.mark.parametrize("feature", ["brigth", 3, -1, True])
def test_traverse_names_what_is_there(ask, images, feature):
    with pytest.raises(OptionError, match="no feature.*background, bright, dark, or 0 to 2"):
        ask("traverse", images[:1], feature, [0.0])


@pytest.mark.parametrize("values", [["a"], 1.0, [], [float("nan")], [[1.0]]])
def test_traverse_takes_a_list_of_numbers(ask, images, values):
    with pytest.raises(OptionError, match="a list of finite numbers"):
        ask("traverse", images[:1], "bright", values)


@pytest.fixture(scope="module")
def directed(fitted):
    return toys.explainer_with(Directed(), fitted)


def test_traverse_sets_the_coordinate_along_a_direction(directed, images):
    frames = directed.traverse(images[:2], "mixed", [-1.0, 3.0])
    coordinates = frames.flatten(2) @ directed.lens.mixed
    torch.testing.assert_close(coordinates, torch.tensor([[-1.0, 3.0]] * 2), atol=1e-5, rtol=0)
    rest = frames.flatten(2) - coordinates[:, :, None] * directed.lens.mixed
    torch.testing.assert_close(rest[:, 0], rest[:, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("feature", [{"mixed": 1}, None, 2.5, "mixt"])
def test_traverse_refuses_what_is_no_feature(directed, images, feature):
    with pytest.raises(OptionError, match="there is no feature"):
        directed.traverse(images[:1], feature, [1.0])
    with pytest.raises(OptionError, match="two features are two names or positions, got \\['mixed'\\]"):
        directed.traverse(images[:1], ["mixed"], [1.0])
