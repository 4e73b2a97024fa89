"""The way between two real inputs: its ends, what it decodes to, and what the classifier says of it."""

from __future__ import annotations

import pytest
import torch
import toys

from xlens.errors import DataError, OptionError


def test_frames_are_decodings_on_the_line_between_the_codes(ask, fitted, images):
    found = ask("interpolate", images[:3], images[3:6], 5)
    assert found.frames.shape == (3, 5, 1, 8, 8)
    assert found.values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    start, end = fitted.lens.encode(images[:3]), fitted.lens.encode(images[3:6])
    for k, value in enumerate(found.values):
        assert torch.allclose(found.frames[:, k], fitted.lens.decode(torch.lerp(start, end, value)), atol=1e-5)
    with torch.no_grad(), fitted.classifier.frozen():
        expected = fitted.classifier.probabilities(found.frames.flatten(0, 1)).view(3, 5, 3)
    assert torch.allclose(found.probabilities, expected, atol=1e-5)
    assert found.class_names == fitted.class_names


def test_carried_ends_are_the_inputs_whatever_the_lens_leaves_out(fitted, images):
    blind = toys.explainer_with(toys.BlindLens(), fitted)
    plain = blind.interpolate(images[:2], images[2:4], 4)
    assert (plain.frames[:, 0] - images[:2]).abs().max() > 0.5
    found = blind.interpolate(images[:2], images[2:4], 4, carry="residual")
    assert torch.allclose(found.frames[:, 0], images[:2], atol=1e-5)
    assert torch.allclose(found.frames[:, -1], images[2:4], atol=1e-5)


def test_a_geodesic_has_the_same_ends(ask, images):
    straight, bent = (ask("interpolate", images[:2], images[2:4], 5, path=path) for path in ("linear", "geodesic"))
    assert torch.allclose(straight.frames[:, [0, -1]], bent.frames[:, [0, -1]], atol=1e-5)


def test_what_cannot_be_asked(ask, images):
    with pytest.raises(OptionError, match="n must be an int >= 2, got 1"):
        ask("interpolate", images[:1], images[1:2], 1)
    with pytest.raises(OptionError, match="path must be one of linear, geodesic, got 'pixel'"):
        ask("interpolate", images[:1], images[1:2], path="pixel")
    with pytest.raises(OptionError, match="carry must be"):
        ask("interpolate", images[:1], images[1:2], carry="masked")
    with pytest.raises(DataError, match="not as many second inputs.*2 and 1"):
        ask("interpolate", images[:2], images[1:2])
