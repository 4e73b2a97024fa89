"""The parts of infill, each against a known answer: fills, survey, mask search, objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse.linalg import spsolve
from xlens_infill.fill import fill_harmonic, fill_patches, harmonic
from xlens_infill.survey import levels_of, separation, survey
from xlens_infill.where import choose, find, label, margin_of, nested, relabel
from xlens_infill.within import object_of, shows_objects

FILLS = [fill_harmonic, fill_patches]


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def hole(side, top, left, height, width):
    mask = torch.zeros(1, 1, side, side, dtype=torch.bool)
    mask[..., top : top + height, left : left + width] = True
    return mask


def solved(image, mask):
    """Laplace's equation in the hole by a direct sparse solve, without flux through the border of the image."""
    side, index = image.shape[0], -np.ones(image.shape, int)
    index[mask] = np.arange(mask.sum())
    rows, cols, values, right = [], [], [], np.zeros(mask.sum())
    for r, c in zip(*np.nonzero(mask), strict=True):
        around = [(r + a, c + b) for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        around = [(p, q) for p, q in around if 0 <= p < side and 0 <= q < side]
        rows, cols, values = [*rows, index[r, c]], [*cols, index[r, c]], [*values, float(len(around))]
        for p, q in around:
            if mask[p, q]:
                rows, cols, values = [*rows, index[r, c]], [*cols, index[p, q]], [*values, -1.0]
            else:
                right[index[r, c]] += image[p, q]
    matrix = sparse.csr_matrix((values, (rows, cols)))
    found = image.copy()
    found[mask] = spsolve(matrix, right)
    return found


# --- fills ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("top", "left"), [(5, 4), (0, 6)])
def test_harmonic_is_the_direct_solution(top, left):
    mask = hole(16, top, left, 6, 5)
    rows, cols = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    image = (torch.sin(rows / 4) + (cols / 8) ** 2)[None, None]
    found = harmonic(image, ~mask, mask)[0, 0].numpy()
    wanted = solved(image[0, 0].double().numpy(), mask[0, 0].numpy())
    # Coarse to fine with few sweeps: near the solution, not on it.
    assert np.abs(found - wanted).max() < 0.06 * np.ptp(wanted)


@pytest.mark.parametrize("fill", FILLS)
def test_a_constant_is_reproduced(fill):
    image = torch.full((2, 3, 32, 32), 0.37)
    mask = hole(32, 8, 12, 9, 7).repeat(2, 1, 1, 1)
    torch.testing.assert_close(fill(image, mask), image, rtol=1e-4, atol=1e-5)


def test_a_plane_is_nearly_reproduced():
    rows, cols = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    image = (0.3 * rows + 0.7 * cols)[None, None]
    found = fill_harmonic(image, hole(32, 10, 10, 10, 10), detail=0.0)
    assert float((found - image).abs().max()) < 0.03


@pytest.mark.parametrize("fill", FILLS)
def test_nothing_outside_the_hole_changes(fill):
    image, mask = noise(1, 3, 40, 40), hole(40, 5, 9, 12, 10)
    found = fill(image, mask)
    assert torch.equal(torch.where(mask, 0, found), torch.where(mask, 0, image))
    assert torch.equal(fill(image, torch.zeros_like(mask)), image)


@pytest.mark.parametrize("fill", FILLS)
def test_what_lay_in_the_hole_is_forgotten(fill):
    image, mask = noise(1, 1, 40, 40), hole(40, 12, 12, 8, 8)
    other = torch.where(mask, 1 - image, image)
    low, high = image.clone(), other.clone()
    for one in (low, high):  # the range of an image is known, and part of the answer
        one[..., 0, 0], one[..., 0, 1] = 0.0, 1.0
    torch.testing.assert_close(fill(low, mask), fill(high, mask), rtol=1e-4, atol=1e-5)


def test_nearest_gives_binary_images_values_that_occur():
    stripes = (torch.arange(48) // 6 % 2).float().repeat(48, 1)[None, None]
    mask = hole(48, 18, 16, 11, 13)
    found = fill_patches(stripes, mask)
    assert float(((found == 0) | (found == 1)).float().mean()) == 1.0
    assert float((found - stripes)[mask].abs().mean()) < 0.05


def test_the_background_is_no_source():
    image = torch.zeros(1, 1, 40, 40)
    within = hole(40, 10, 10, 20, 20)
    image[within] = 0.8
    mask = hole(40, 10, 10, 6, 6)
    for fill in FILLS:
        assert float(fill(image, mask, within)[mask].min()) > 0.7


def test_a_hole_that_takes_the_whole_object_is_filled_from_around_it():
    image, within = torch.full((1, 1, 24, 24), 0.25), hole(24, 8, 8, 6, 6)
    image[within] = 1.0
    found = fill_harmonic(image, within, within)
    assert float((found - 0.25).abs().max()) < 0.05


@pytest.mark.parametrize("fill", FILLS)
def test_a_batch_is_filled_like_its_images(fill):
    image = noise(3, 2, 40, 36)
    mask = torch.zeros(3, 1, 40, 36, dtype=torch.bool)
    mask[0, :, 3:9, 4:10], mask[1, :, 20:38, 12:20] = True, True
    alone = torch.cat([fill(image[i : i + 1], mask[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(fill(image, mask), alone, rtol=1e-5, atol=1e-6)


# --- survey --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dotted():
    """Noise, and noise with a bright square of 7 pixels in class 1."""
    images, decided = 0.2 * noise(40, 1, 48, 48), torch.arange(40) % 2
    true = torch.zeros(40, 1, 48, 48, dtype=torch.bool)
    generator = torch.Generator().manual_seed(1)
    for i in range(1, 40, 2):
        top, left = torch.randint(4, 36, (2,), generator=generator).tolist()
        true[i, :, top : top + 7, left : left + 7] = True
    return images + 0.8 * true, decided, true


@pytest.fixture(scope="module")
def surveyed(dotted):
    images, decided, _ = dotted
    return survey(images, torch.ones_like(images, dtype=torch.bool), decided, 2, words=48, seed=0)


def test_the_planted_word_is_evidence(surveyed, dotted):
    images, _, true = dotted
    within = torch.ones_like(true)
    evidence = surveyed.evidence(images[1::2], within[1::2], 1, 0)
    inside, outside = evidence[true[1::2]], evidence[~true[1::2]]
    assert float(inside.median()) > 1.0 > float(outside.median()) + 0.5
    torch.testing.assert_close(surveyed.log_ratio(0, 1), -surveyed.log_ratio(1, 0))


def test_separation_knows_evidence_from_none(surveyed, dotted):
    images, decided, _ = dotted
    within = torch.ones_like(images, dtype=torch.bool)
    assert separation(surveyed, images, within, decided) > 0.95
    shuffled = decided[torch.randperm(40, generator=torch.Generator().manual_seed(3))]
    other = survey(images[::2], within[::2], shuffled[::2], 2, words=48, seed=0)
    assert separation(other, images[1::2], within[1::2], shuffled[1::2]) < 0.85


def test_levels_are_exceeded_by_few(surveyed, dotted):
    images, decided, _ = dotted
    within = torch.ones_like(images, dtype=torch.bool)
    levels = levels_of(surveyed, images, within, decided, 2)
    assert bool((levels[1, 0].diff() <= 0).all())
    clean = surveyed.evidence(images[::2], within[::2], 1, 0)
    assert float((clean > levels[1, 0, -1]).float().mean()) < 0.08


def test_a_survey_is_the_same_for_the_same_seed(dotted):
    images, decided, _ = dotted
    within = torch.ones_like(images, dtype=torch.bool)
    first, second = (survey(images, within, decided, 2, words=16, seed=4) for _ in range(2))
    assert torch.equal(first.counts, second.counts)
    assert torch.equal(first.words, second.words)


# --- where ---------------------------------------------------------------------------------------------------


def test_masks_are_nested_and_inside():
    evidence, within = noise(1, 1, 60, 60, seed=2), hole(60, 5, 5, 40, 50)
    smooth = torch.nn.functional.avg_pool2d(evidence, 9, 1, 4)
    masks = nested(smooth, [0.56, 0.53, 0.5], within)
    assert bool((masks[:-1] <= masks[1:]).all())
    assert not bool((masks & ~within).any())


def test_the_smallest_mask_that_reaches_the_goal_is_chosen():
    assert choose(torch.tensor([-1.0, 0.2, 3.0]), -4.0, 0.0) == 1
    # None does: the first that is about as good as the best.
    assert choose(torch.tensor([-3.0, -1.05, -1.0]), -4.0, 0.0) == 1


def test_parts_are_named_and_numbered_anew():
    parts, number = label(hole(20, 1, 1, 3, 3) | hole(20, 10, 1, 3, 3) | hole(20, 10, 10, 3, 3))
    assert number == 3
    again = relabel(parts, torch.tensor([True, False, True]))
    assert sorted(again.unique().tolist()) == [0, 1, 2]


class OneSpot(torch.nn.Module):
    """Class 1 where the left spot is bright; the right one counts against it."""

    def forward(self, x):
        left, right = x[:, 0, 20:28, 6:14].mean((1, 2)), x[:, 0, 20:28, 34:42].mean((1, 2))
        return torch.stack([torch.zeros_like(left), 10 * left - right - 3], 1)


def spots():
    image = torch.full((1, 1, 48, 48), 0.1)
    both = hole(48, 20, 6, 8, 8) | hole(48, 20, 34, 8, 8)
    return image + 0.8 * both, both


def searched(x, evidence, **options):
    within = torch.ones_like(evidence, dtype=torch.bool)
    return find(
        margin_of(OneSpot(), 0),
        x,
        evidence,
        [0.5],
        fill_harmonic,
        within,
        **{"goal": 0.0, "largest": 0.3} | options,
    )


def test_what_the_classifier_does_not_care_about_is_put_back():
    x, both = spots()
    found = searched(x, both.float())
    assert found.problem is None
    assert bool(found.mask[0, 20:28, 6:14].all())
    assert not bool(found.mask[0, :, 24:].any())
    assert len(found.credit) == 1


def test_problems_are_said_in_words():
    x, both = spots()
    assert "nothing in this input" in searched(x, torch.zeros_like(x)).problem
    right = both.float() * (torch.arange(48) > 24)
    assert "the classifier's margin is" in searched(x, right).problem
    assert "it would take" in searched(x, both.float(), largest=0.01).problem


# --- within --------------------------------------------------------------------------------------------------


def test_an_object_on_plain_ground_is_found_and_noise_is_all_object():
    image = torch.full((1, 3, 40, 40), 0.9) + 0.01 * noise(1, 3, 40, 40)
    image[..., 8:32, 10:30] = 0.3 + 0.05 * noise(1, 3, 24, 20)
    found = object_of(torch.cat([image, noise(1, 3, 40, 40)]))
    true = hole(40, 8, 10, 24, 20)[0]
    assert float((found[0] & true).sum()) / float((found[0] | true).sum()) > 0.6
    assert bool(found[1].all())


def test_what_one_class_alone_shows_is_no_object():
    whole, part = torch.ones(1, 1, 8, 8, dtype=torch.bool), hole(8, 2, 2, 3, 3)
    assert shows_objects(torch.cat([part, part]), torch.tensor([0, 1]))
    assert not shows_objects(torch.cat([whole, part]), torch.tensor([0, 1]))
