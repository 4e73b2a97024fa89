"""Tone against classifiers of which it is known that they go by it, or do not."""

import numpy as np
import pytest
import torch

from xlens.auditing.sweep import Seen
from xlens.auditing.tone import contrasts, tones_of

COUNT, SIDE = 160, 16


def _photographs(cast, seed=0):
    """Grey noise of various brightness; the odd ones multiplied by `cast`, ``(3, H, W)`` or smaller."""
    generator = torch.Generator().manual_seed(seed)
    level = 0.3 + 0.2 * torch.rand(COUNT, 1, 1, 1, generator=generator)
    images = level + 0.1 * torch.rand(COUNT, 3, SIDE, SIDE, generator=generator)
    return torch.where((torch.arange(COUNT) % 2 == 1)[:, None, None, None], images * cast, images)


def _tones(images, score, objects=None, shift=0.0, scale=1.0, channels=3):
    """Tones of a classifier that decides for the odd class by `score`; the data stand in units of their own."""

    def ask(inputs):
        value = score((inputs - shift) / scale)
        return torch.stack([-value, value], 1).softmax(1)

    given = images * scale + shift
    target = ask(given).argmax(1).numpy()
    seen = Seen(np.arange(COUNT), target, 1 - target, np.full(COUNT, -1), np.zeros(COUNT, dtype=np.int64))
    masks = None if objects is None else lambda index: objects.expand(len(index), 1, SIDE, SIDE)
    return tones_of(
        seen,
        names=("plain", "blue"),
        ranges=[(shift, shift + scale)] * channels,
        take=lambda index: given[torch.from_numpy(index)],
        ask=ask,
        objects=masks,
        confidence=0.95,
        seed=0,
    )


def _blueness(x):
    return 40 * (x[:, 2].mean((1, 2)) / x[:, 1].mean((1, 2)) - 1.15)


BLUE = torch.tensor([1.0, 1.0, 1.3])[:, None, None]


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (-2.0, 4.0)])
def test_a_cast_is_found_with_its_factors_in_any_units(shift, scale):
    found = _tones(_photographs(BLUE), _blueness, shift=shift, scale=scale)
    assert {one.kind for one in found} == {"colours"}
    assert {one.target for one in found} == {"plain", "blue"}
    one = next(one for one in found if one.target == "blue")
    red, green, blue = one.factors
    assert blue / green == pytest.approx(1 / 1.3, rel=0.03)
    assert red / green == pytest.approx(1, rel=0.03)
    assert one.flips > 0.9
    assert one.elsewhere < one.effect / 2
    assert "blue times" in one.said


def test_taken_out_it_is_gone_from_those_that_had_it_and_others_stay():
    images = _photographs(BLUE)
    one = next(one for one in _tones(images, _blueness) if one.target == "blue")
    masks, there = one.find(images)
    odd = torch.arange(COUNT) % 2 == 1
    assert float((there == odd).float().mean()) > 0.95
    assert torch.equal(masks.flatten(1).all(1), there)
    without = one.mask_out(images)
    assert torch.equal(without[~there], images[~there])
    blue = without.mean((2, 3))[:, 2] / without.mean((2, 3))[:, 1]
    assert float((blue[odd & there] - 1).abs().max()) < 0.1


def test_a_vignette_is_light_and_no_colour():
    down = torch.linspace(-1, 1, SIDE) ** 2
    away = (down[:, None] + down[None]) / 2
    corner = (away > 0.6).float()

    def rim(x):
        grey = x.mean(1)
        return 60 * (0.85 - (grey * corner).sum((1, 2)) / corner.sum() / grey[:, 4:12, 4:12].mean((1, 2)))

    found = _tones(_photographs(1 - 0.4 * away), rim)
    assert {one.kind for one in found} == {"light"}
    one = next(one for one in found if one.target == "blue")
    assert one.factors[0] == pytest.approx(1 / 0.6, rel=0.1)
    assert "corners times" in one.said


def test_a_classifier_of_a_spot_goes_by_no_tone():
    images = _photographs(torch.ones(1))
    images[1::2, :, 3:6, 3:6] = 1.0
    assert _tones(images, lambda x: 40 * (x[:, :, 4, 4].mean(1) - 0.8)) == []


def test_colours_that_differ_and_are_not_looked_at_are_no_tone():
    images = _photographs(BLUE)
    images[1::2, :, 3:6, 3:6] = 1.0
    assert _tones(images, lambda x: 40 * (x[:, 0, 4, 4] - 0.8)) == []


def test_masks_tell_the_background_from_the_object():
    inside = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    inside[..., 4:12, 4:12] = True

    background = _tones(_photographs(BLUE), lambda x: _blueness(x[:, :, :3]), inside)[0]
    assert background.background == pytest.approx(background.effect, abs=0.02)
    own = _tones(_photographs(BLUE), lambda x: _blueness(x[:, :, 5:11, 5:11]), inside)[0]
    assert abs(own.background) < 0.1 < own.effect


def test_a_class_of_a_few_inputs_has_no_tone():
    images = _photographs(BLUE)
    assert _tones(torch.cat([images[::2], images[::2]]), lambda x: -torch.ones(len(x))) == []


def test_a_class_goes_toward_the_most_usual_contrast_of_which_there_are_enough():
    target = np.repeat([0, 1, 2], [80, 70, 10])
    contrast = np.concatenate([np.tile([2, 2, 1, 2], 20), np.zeros(80, dtype=np.int64)])
    none = np.zeros(COUNT, dtype=np.int64)
    assert contrasts(Seen(np.arange(COUNT), target, contrast, none, none)) == {0: 1, 1: 0}


def test_what_is_beyond_black_and_white_stays_as_it_is():
    images = _photographs(BLUE)
    one = next(one for one in _tones(images, _blueness) if one.target == "blue")
    brighter = one.mask_out(images + 0.9)
    beyond = (images + 0.9 > 1) & one.find(images + 0.9)[1][:, None, None, None]
    assert float((brighter - images - 0.9)[beyond].max()) <= 1e-6
    spots = images.clone()
    spots[:, :, 0, 0] = torch.tensor([-0.2, 0.3, 1.4])
    there = one.find(spots)[1]
    assert float((one.mask_out(spots)[there][:, 2, 0, 0] - 1.4 * one.factors[2]).abs().max()) < 1e-5
    assert bool((one.mask_out(spots)[there][:, 0, 0, 0] < 0).all())


def test_a_thing_in_one_corner_is_no_tone():
    """On black, where its light is most of what there is."""
    images = torch.zeros(COUNT, 3, SIDE, SIDE)
    images[:, :, 4:12, 4:12] = 0.5 + 0.1 * torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[1::2, :, -4:, -4:] = 1.0
    assert _tones(images, lambda x: 40 * (x[:, :, -2, -2].mean(1) - 0.8)) == []


def test_the_shape_of_a_thing_on_black_is_no_tone():
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(COUNT, 1, SIDE, SIDE)
    images[::2, :, 4:12, 4:12] = 0.5 + 0.3 * torch.rand(COUNT // 2, 1, 8, 8, generator=generator)
    images[1::2, :, 1:15, 1:15] = 0.5 + 0.3 * torch.rand(COUNT // 2, 1, 14, 14, generator=generator)
    assert _tones(images, lambda x: 40 * (x[:, 0, 2].amax(1) - 0.4), channels=1) == []
