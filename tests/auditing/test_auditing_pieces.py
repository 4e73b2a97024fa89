"""The pieces of an audit against what is known of them by hand."""

import numpy as np
import pytest
import torch

from xlens.auditing.chance import association, corrected, halves, mean_interval, one_place, outside_objects
from xlens.auditing.filling import continued
from xlens.auditing.sameness import best_match, template_of


def test_a_filling_continues_a_slope_and_leaves_the_rest():
    slope = torch.linspace(0, 1, 24).expand(1, 1, 24, 24).clone()
    hole = torch.zeros(1, 1, 24, 24, dtype=torch.bool)
    hole[..., 8:14, 8:14] = True
    filled = continued(slope.masked_fill(hole, 5.0), hole)
    assert torch.equal(filled[~hole], slope[~hole])
    assert float((filled - slope).abs().max()) < 0.1
    everything = continued(slope, torch.ones_like(hole))
    assert torch.allclose(everything, slope.mean().expand_as(slope))


def test_the_best_match_is_where_brute_force_finds_it():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(4, 2, 12, 13, generator=generator)
    picture, core = torch.rand(2, 3, 4, generator=generator), torch.ones(1, 3, 4)
    core[0, 0, 0] = 0
    found, distance = best_match(inputs, picture, core, torch.full((4, 2), 4), (2, 3))
    for i, one in enumerate(inputs):
        costs = {
            (top, left): float((((one[:, top : top + 3, left : left + 4] - picture) ** 2) * core).sum() / 22)
            for top in range(2, 7)
            for left in range(1, 8)
        }
        best = min(costs, key=costs.get)
        assert tuple(found[i].tolist()) == best
        assert float(distance[i]) == pytest.approx(costs[best], abs=1e-5)


def _with_stamp(noise=0.0, background=0.2, box=5):
    """What a template is made of: 24 inputs with a stamp of 5 x 5, its centres, as many others, and the box."""
    generator = torch.Generator().manual_seed(0)
    inputs, others = (background * torch.rand(24, 1, 28, 28, generator=generator) for _ in range(2))
    stamp = torch.rand(5, 5, generator=generator) + noise * torch.rand(24, 5, 5, generator=generator)
    inputs[:, 0, 18:23, 3:8] = stamp
    return inputs, torch.tensor([[20.5, 5.5]]).expand(24, 2) / 28, others, (box, box)


@pytest.mark.parametrize(("noise", "same"), [(0.0, True), (0.2, True), (1.0, False)])
def test_a_stamp_is_the_same_and_noise_is_not(noise, same):
    one = template_of(*_with_stamp(noise), 0)
    assert (one.sameness > 0.98) == same
    assert one.others == 0
    assert one.p < 0.01


def test_a_box_that_holds_more_than_the_stamp_changes_nothing():
    one, wide = template_of(*_with_stamp(), 0), template_of(*_with_stamp(box=11), 0)
    assert wide.sameness == pytest.approx(one.sameness, abs=0.002)
    assert int(wide.extent[:, 3:8, 3:8].sum()) == int(wide.extent.sum()) > 4
    assert wide.p < 0.01


def test_a_rim_that_is_black_in_every_input_is_no_part_of_the_stamp():
    """It is the steadiest there is, and others have it, too."""
    one = template_of(*_with_stamp(background=0.0, box=9), 0)
    assert one.sameness > 0.98
    assert one.others == 0
    assert int(one.extent.sum()) <= 25


def test_one_in_six_that_lack_the_stamp_are_taken_for_mistakes():
    inputs, *rest = _with_stamp()
    inputs[::6] = 0.2 * torch.rand(inputs[::6].shape, generator=torch.Generator().manual_seed(1))
    one = template_of(inputs, *rest, 0)
    assert one.sameness > 0.98
    assert one.others == 0


def test_what_is_as_much_the_same_anywhere_else_is_chance():
    inputs, centres, others, size = _with_stamp()
    one = template_of((inputs > 0).float(), centres, torch.zeros_like(others), size, 0)
    assert one.sameness > 0.98
    assert one.p > 0.1
    nowhere = template_of(inputs[..., 16:25, 1:10], torch.full((24, 2), 0.5), others[..., 16:25, 1:10], size, 0)
    assert nowhere.p == 1


def test_chance_knows_a_place_from_anywhere():
    draw = np.random.default_rng(0)
    inputs = np.arange(200)
    anywhere = draw.random((200, 2))
    assert one_place(anywhere[:40], inputs[:40], anywhere[100:])[1] > 0.01
    corner = np.array([0.9, 0.9]) + 0.01 * draw.standard_normal((200, 2))
    assert one_place(corner, inputs, corner[halves(inputs)])[1] < 1e-9
    assert outside_objects(np.ones(20), 0.3)[1] == pytest.approx(0.3**20)
    assert outside_objects(np.full(20, np.nan), 0.3)[1] == 1
    assert 0.4 < halves(inputs).mean() < 0.6


def test_associations_by_kinds_and_by_numbers():
    inside = np.arange(60) < 30
    kinds = association("clinic", np.where(inside, "a", "b"), inside)
    assert kinds.p < 1e-9
    assert kinds.said == "clinic is a in 100% of the group, in 0% besides"
    assert association("clinic", np.array([None, "a"] * 30, dtype=object), inside) is None
    assert association("day", np.arange(60.0), inside).p < 1e-6
    assert association("day", np.tile(np.arange(30.0), 2), inside).p > 0.9
    three = [(0, kinds), (1, association("day", np.tile(np.arange(30.0), 2), inside))]
    assert corrected(three)[0][1].p == pytest.approx(2 * kinds.p)


def test_an_interval_covers_the_mean():
    draw = np.random.default_rng(1)
    low, high = mean_interval(draw.normal(2, 1, 100), 0.95, 0)
    assert low < 2 < high
    assert high - low == pytest.approx(2 * 1.96 / 10, rel=0.3)
