"""The search up the ladder: near the least height that convinces, in few tries."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from xlens_flow.search import least_height

SHAPES = {
    "a line": lambda heights: heights,
    "steep, then flat": lambda heights: 5 * (1 - (-heights).exp()),
    "flat, then steep": lambda heights: heights.exp() / 60,
    "a step": lambda heights: (heights > 3).to(heights),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_near_the_least_height_that_convinces(shape):
    goals = torch.linspace(0.05, 5.9, 40)
    curve = SHAPES[shape]
    at = curve(goals)
    asked = []

    def slack(rows, heights):
        asked.append(len(rows))
        return curve(heights) - at[rows], heights

    found = least_height(slack, curve(torch.zeros(40)) - at, 6.0, 0.25, 12)
    assert (curve(found) >= at).all()
    fine = torch.linspace(0, 6, 2401)
    least = torch.stack([fine[curve(fine) >= goal][0] for goal in at])
    assert (found - least).max() <= 0.6
    # A ladder of quarters tried upward would ask a dozen times.
    assert sum(asked) / 40 <= 6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3, 12), min_size=1, max_size=6), st.integers(1, 6))
def test_no_row_depends_on_the_others_and_the_highest_that_was_tried_is_the_last_resort(goals, tries):
    goals = torch.tensor(goals)

    def found(goals):
        return least_height(lambda rows, h: (h - goals[rows], h), -goals, 6.0, 0.25, tries)

    together = found(goals)
    torch.testing.assert_close(together, torch.cat([found(goal[None]) for goal in goals]))
    assert torch.equal(together == 0, goals <= 0)
    if tries > 1:
        assert (together[goals > 6] == 6).all()


def test_where_the_top_goes_too_far_something_below_it_is_found():
    # It convinces from 4.5 to 5 only, and the score is best at 2.
    def slack(rows, heights):
        return 0.25 - (heights - 4.75).abs(), -(heights - 2).abs()

    found = least_height(slack, torch.tensor([-4.5]), 6.0, 0.25, 6)
    assert 4.5 <= float(found) <= 5

    def never(rows, heights):
        return -torch.ones(len(rows)), -(heights - 2.4).abs()

    assert float(least_height(never, torch.tensor([-1.0]), 6.0, 0.25, 6)) == pytest.approx(2.4)
