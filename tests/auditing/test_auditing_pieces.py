"""The pieces of an audit against what is known of them by hand."""

import datetime

import numpy as np
import pandas
import pytest
import torch

from xlens.auditing.chance import association, corrected, halves, mean_interval, one_place, outside_objects
from xlens.auditing.filling import continued
from xlens.auditing.foreign import foreign
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


def test_what_is_missing_is_no_kind_and_leaves_numbers_numbers():
    inside = np.arange(60) < 30
    missing = [None, float("nan"), pandas.NA, pandas.NaT]
    mixed = np.array([*missing, *range(4, 60)], dtype=object)
    assert "median" in association("age", mixed, inside).said
    assert "NA" not in association("site", np.array([*missing, *"ab" * 28], dtype=object), inside).said
    days = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]").astype("datetime64[ns]")
    days[0] = "NaT"
    found = association("day", days, inside)
    assert found.p < 1e-6
    assert "median of day is 2020-01-16T00:00:00 in the group" in found.said
    assert association("wait", days - days[1], inside).p == pytest.approx(found.p)
    assert association("word", np.array([[1], "a"] * 30, dtype=object), inside).p > 0.5


def test_an_interval_covers_the_mean():
    draw = np.random.default_rng(1)
    low, high = mean_interval(draw.normal(2, 1, 100), 0.95, 0)
    assert low < 2 < high
    assert high - low == pytest.approx(2 * 1.96 / 10, rel=0.3)


def _leaves(colour, count=24, side=32):
    """Grey-green noise, of which each has one patch of a colour in a box of 6 x 6, and the boxes' corners."""
    generator = torch.Generator().manual_seed(0)
    plain = 0.3 + 0.2 * torch.rand(2 * count, 3, side, side, generator=generator)
    inputs, others = plain[:count].clone(), plain[count:]
    corners = torch.tensor([[20, 4]]).expand(count, 2)
    where = torch.rand(count, 1, 6, 6, generator=generator) < 0.4
    box = inputs[:, :, 20:26, 4:10]
    inputs[:, :, 20:26, 4:10] = torch.where(where, torch.tensor(colour)[:, None, None], box)
    return inputs, corners, others


def test_writing_in_a_colour_of_its_own_is_foreign_whatever_it_says():
    share, p = foreign(*_leaves([1.0, 0.6, 0.1]), (6, 6), [(0.0, 1.0)] * 3, 0)
    assert share == pytest.approx(0.4, abs=0.05)
    assert p < 1e-4


def test_a_few_that_are_decided_wrongly_do_not_make_it_known():
    inputs, corners, others = _leaves([1.0, 0.6, 0.1])
    some = torch.cat([others[:22], inputs[:2]])
    assert foreign(inputs, corners, some, (6, 6), [(0.0, 1.0)] * 3, 0)[0] == pytest.approx(0.4, abs=0.05)


def test_a_colour_that_others_have_is_not_foreign():
    assert foreign(*_leaves([0.4, 0.4, 0.4]), (6, 6), [(0.0, 1.0)] * 3, 0) == (0.0, 1.0)


def test_colours_that_stand_anywhere_in_the_input_are_not_of_the_part():
    _, corners, others = _leaves([1.0, 0.6, 0.1])
    red = torch.rand(len(others), 1, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.4
    spotted = torch.where(red, torch.tensor([1.0, 0.6, 0.1])[:, None, None], others.flip(0))
    assert foreign(spotted, corners, others, (6, 6), [(0.0, 1.0)] * 3, 0)[1] > 0.01


def test_foreign_colours_are_the_same_in_other_units():
    inputs, corners, others = _leaves([1.0, 0.6, 0.1])
    plain = foreign(inputs, corners, others, (6, 6), [(0.0, 1.0)] * 3, 0)
    assert foreign(4 * inputs - 2, corners, 4 * others - 2, (6, 6), [(-2.0, 2.0)] * 3, 0) == plain


def test_of_one_channel_nothing_is_known_as_colour():
    grey = torch.rand(4, 1, 8, 8)
    assert foreign(grey, torch.zeros(4, 2, dtype=torch.long), grey, (2, 2), [(0.0, 1.0)], 0) == (0.0, 1.0)


@pytest.mark.parametrize("form", ["datetime64", "datetime", "date", "zones", "pandas", "text"])
def test_times_are_in_order_however_they_are_said(form):
    days = np.arange(60)
    inside = days >= 40
    start = datetime.datetime(2024, 1, 1)
    when = [start + datetime.timedelta(days=int(day)) for day in days]
    values = {
        "datetime64": np.array(when, dtype="datetime64[s]"),
        "datetime": np.array(when, dtype=object),
        "date": np.array([one.date() for one in when], dtype=object),
        "zones": np.array([one.replace(tzinfo=datetime.UTC) for one in when], dtype=object),
        "pandas": np.asarray(pandas.Series(when).dt.tz_localize("UTC")),
        "text": np.array([one.date().isoformat() for one in when], dtype=object),
    }[form]
    found = association("taken", values, inside)
    assert found.p < 1e-6
    assert found.said.startswith("median of taken is 2024-02-20")


def test_rare_kinds_are_taken_together():
    """Of forty kinds of one input each the chi-square test would find some group special far too often."""
    draw = np.random.default_rng(0)
    values = np.array(["usual"] * 160 + [f"rare {i}" for i in range(40)])
    hits = 0
    for _ in range(200):
        found = association("camera", values, draw.permutation(200) < 60)
        hits += found.p < 0.05
    assert hits <= 20
    kinds = np.array(["old"] * 50 + ["new"] * 50 + ["odd"] * 3)
    assert association("camera", kinds, np.arange(103) < 50).p < 1e-9
    assert association("camera", np.array([f"{i}x" for i in range(20)]), np.arange(20) < 9) is None
