"""Planted causes and rendered parts: what is said of them is true of the images."""

from __future__ import annotations

import math

import pytest
import torch

from xlens.datasets import part_factors, parts, planted, render_parts
from xlens.errors import DataError, OptionError

KINDS = ("blob", "scratch", "texture")


@pytest.fixture(scope="module")
def objects():
    """Ellipses of several tones on black, in a range that is not [0, 1]."""
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    inside = ((y - 14) / 11).square() + ((x - 13) / 8).square() < 1
    tones = torch.linspace(0.35, 1.0, 40)[:, None, None, None]
    return inside * tones * 4 - 2


def slow_profile(kind, factors, i, height=28, width=28):
    """The cause's profile, pixel by pixel."""
    of = {name: float(values[i]) for name, values in factors.items()}
    found = torch.zeros(height, width)
    for y in range(height):
        for x in range(width):
            down, right = y - of["row"], x - of["column"]
            if kind == "scratch":
                # Distance to the segment by projecting on it.
                ux, uy = math.cos(of["angle"]), math.sin(of["angle"])
                t = max(-of["length"] / 2, min(of["length"] / 2, right * ux + down * uy))
                squared = (right - t * ux) ** 2 + (down - t * uy) ** 2
            else:
                squared = down**2 + right**2
            found[y, x] = math.exp(-squared / (2 * of["sigma"] ** 2))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_factors_say_what_was_planted(objects, kind):
    found = planted(objects, kind, probability=1.0, seed=3, data_range=(-2.0, 2.0))
    for i in range(0, 40, 13):
        profile = slow_profile(kind, found.factors, i)
        assert torch.equal(found.masks[i, 0], profile > 0.3)
        change = found.factors["strength"][i] * profile
        if kind == "texture":
            y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
            angle, right = found.factors["angle"][i], x - found.factors["column"][i]
            along = right * angle.cos() + (y - found.factors["row"][i]) * angle.sin()
            wave = 2 * math.pi * along / found.factors["wavelength"][i] + found.factors["phase"][i]
            change = change * wave.sin()
        expected = (objects[i, 0] + 4 * change).clamp(-2, 2)
        assert torch.allclose(found.images[i, 0], expected, atol=1e-4)
        assert objects[i, 0, int(found.factors["row"][i]), int(found.factors["column"][i])] > -2


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_cause_is_untouched(objects, kind):
    found = planted(objects, kind, seed=0)
    without = found.labels == 0
    assert 5 < without.sum() < 35
    assert torch.equal(found.images[without], objects[without])
    assert torch.equal(found.clean, objects)
    assert not found.masks[without].any()
    assert found.masks[~without].flatten(1).any(1).all()
    assert torch.equal(found.factors["row"].isnan(), without)
    assert (found.images[~without] != objects[~without]).flatten(1).any(1).all()
    assert len(found[~without]) == int((~without).sum())


def test_a_blob_goes_away_from_the_tone_that_it_covers(objects):
    found = planted(objects, "blob", probability=1.0, data_range=(-2.0, 2.0))
    assert (found.factors["strength"][:3] > 0).all()  # dark objects get a bright spot
    assert (found.factors["strength"][-3:] < 0).all()
    assert found.factors["strength"].abs().min() >= 0.45
    assert found.factors["strength"].abs().max() <= 0.8


def test_the_seed_decides_and_nothing_else_is_drawn_from(objects):
    before = torch.get_rng_state()
    first, again, other = (planted(objects, "texture", seed=s).images for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(parts(5, seed=1).images, parts(5, seed=1).images)
    assert torch.equal(before, torch.get_rng_state())


def test_where_it_may_lie_can_be_said(objects):
    inside = torch.zeros(40, 1, 28, 28, dtype=torch.bool)
    inside[:, :, 4:9, 20:25] = True
    found = planted(objects, inside=inside, probability=1.0)
    assert torch.equal(found.factors["row"], torch.full((40,), 6.0))  # the core, without its rim
    assert torch.equal(found.factors["column"], torch.full((40,), 22.0))


def test_what_lies_outside_of_the_range_is_refused_and_not_clamped(objects):
    """Clamped, images would change everywhere, and the mask would not say where they differ."""
    with pytest.raises(DataError, match="outside of data_range.*from -2 to 2.*from 0 to 1"):
        planted(objects, data_range=(0.0, 1.0))
    found = planted(objects, data_range=(-3.0, 3.0), probability=1.0)
    change = (found.images - found.clean).abs()
    assert (change * ~found.masks).max() < 0.31 * 0.8 * 6
    planted(objects, data_range=(-2 + 1e-7, 2 - 1e-7))
    with pytest.raises(OptionError, match="data_range"):
        planted(objects, data_range=(-math.inf, math.inf))


def test_one_image_is_a_batch_of_one(objects):
    found = planted(objects, seed=0)
    for i, wanted in ((3, 3), (-1, 39)):
        assert found[i].images.shape == (1, 1, 28, 28)
        assert torch.equal(found[i].images[0], found.images[wanted])
        assert found[i].factors["present"].tolist() == [float(found.labels[wanted])]
    with pytest.raises(IndexError):
        found[40]


def test_all_faults_in_one_error(objects):
    with pytest.raises(OptionError, match=r"'blub'.*Did you mean 'blob'.*probability.*scale.*seed.*strength"):
        planted(objects, "blub", probability=2, scale=0, seed=-1, strength=(0.9, 0.1))
    with pytest.raises(DataError, match="inside does not fit"):
        planted(objects, inside=torch.ones(1, 1, 28, 28))
    empty = torch.ones(40, 1, 28, 28, dtype=torch.bool)
    empty[7] = False
    with pytest.raises(DataError, match="inside is empty.*image 7"):
        planted(objects, inside=empty)
    for wrong in (objects[0], objects[:0], objects.long(), objects * torch.nan, "photos/", [[1], [2, 3]]):
        with pytest.raises(DataError, match="not a batch of images"):
            planted(wrong)
    with pytest.raises(OptionError, match=r"n must be.*size must be.*probability"):
        parts(0, size=4, probability=-1)
    factors = {name: torch.zeros(2) for name in part_factors()}
    with pytest.raises(OptionError, match=r"'lids'.*Did you mean 'lid'.*'tone' is missing"):
        render_parts({**{k: v for k, v in factors.items() if k != "tone"}, "lids": torch.zeros(2)})
    with pytest.raises(DataError, match="differ in length"):
        render_parts({**factors, "tone": torch.zeros(3)})


def test_cups_differ_from_their_clean_version_in_the_handle_alone():
    cups = parts(64, seed=0)
    with_handle = cups.labels == 1
    change = (cups.images - cups.clean).abs()
    assert torch.equal(change.flatten(1).amax(1) > 0, with_handle)
    energy = (change.square() * cups.masks).flatten(1).sum(1) / change.square().flatten(1).sum(1).clamp_min(1e-9)
    assert (energy[with_handle] > 0.9).all()
    assert not cups.masks[~with_handle].any()
    assert (cups.factors["handle"][~with_handle] == 0).all()


def test_cups_are_their_factors_and_gradients_flow():
    cups = parts(32, seed=1)
    rendered = render_parts(cups.factors)
    assert (rendered - cups.images).square().mean().sqrt() < 0.03  # what is left is the noise
    point = {name: values[:2].double() for name, values in cups.factors.items()}
    for name in part_factors():
        if name == "handle":
            continue  # there or not there: no small step leads from one to the other

        def image(value, name=name):
            return render_parts({**point, name: value}).sum((1, 2, 3))

        value = point[name].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(image(value).sum(), value)
        step = 1e-5
        slope = (image(point[name] + step) - image(point[name] - step)) / (2 * step)
        assert torch.allclose(gradient, slope, rtol=1e-2, atol=1e-3), name
