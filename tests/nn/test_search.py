"""The search until the classifier is convinced, against every step tried one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xlens.nn import smallest_step, step_that_reaches

CPU = torch.device("cpu")
RUNGS = (0.0, 1.0, 2.0, 4.0, 8.0)
HALVINGS = 5


def one_by_one(reaches, score, rungs, halvings):
    """Return the step for one row, and whether it reaches, by the definition.

    The first rung that reaches; then the interval below it is halved, and of each half the one is kept whose upper
    end reaches.
    """
    for index, rung in enumerate(rungs):
        if not reaches(rung):
            continue
        if index == 0:
            return rung, True
        low, high = rungs[index - 1], rung
        for _ in range(halvings):
            middle = (low + high) / 2
            low, high = (low, middle) if reaches(middle) else (middle, high)
        return high, True
    return max(rungs, key=score), False


#: A row: what its score is at the rungs, and from where to where it counts as reached.
rows = st.lists(
    st.tuples(
        st.floats(-2, 12, width=32),
        st.floats(0.0625, 9, width=32),
        st.permutations(range(len(RUNGS))),
    ),
    min_size=1,
    max_size=6,
)


@given(rows)
@settings(max_examples=150, deadline=None)
def test_it_finds_what_a_search_one_by_one_finds(given_rows):
    """Of goals that are reached only in a band, which opens anywhere and may shut again below a rung."""
    starts, widths, orders = zip(*given_rows, strict=True)
    starts, widths = torch.tensor(starts), torch.tensor(widths)
    # Scores all differ, so that the best is one.
    heights = torch.tensor(orders, dtype=torch.float32)

    def score(which, steps):
        there = (steps >= starts[which]) & (steps <= starts[which] + widths[which])
        nearest = (torch.tensor(RUNGS)[None] - steps[:, None]).abs().argmin(1)
        return heights[which, nearest], there

    found, reached = smallest_step(score, len(starts), RUNGS, HALVINGS, CPU)
    for i in range(len(starts)):
        row = torch.tensor([i])
        step, there = one_by_one(
            lambda s, row=row: bool(score(row, torch.tensor([s]))[1]),
            lambda s, row=row: float(score(row, torch.tensor([s]))[0]),
            RUNGS,
            HALVINGS,
        )
        assert bool(reached[i]) == there
        assert float(found[i]) == pytest.approx(step, abs=1e-6)
        if there:
            assert bool(score(row, found[i : i + 1])[1]), "what it returns reaches the goal"


@given(st.lists(st.floats(0, 8, width=32), min_size=1, max_size=8), st.integers(0, 7))
@settings(max_examples=80, deadline=None)
def test_of_a_score_that_grows_it_is_no_longer_than_needed(goals, halvings):
    """Against the smallest step of a fine grid: it is at most the halved interval too long, and never too short."""
    goals = torch.tensor(goals)
    found, reached = smallest_step(lambda which, s: (s, s >= goals[which]), len(goals), RUNGS, halvings, CPU)
    assert reached.all()
    for goal, step in zip(goals.tolist(), found.tolist(), strict=True):
        rung = next(index for index, value in enumerate(RUNGS) if value >= goal)
        interval = 0.0 if rung == 0 else RUNGS[rung] - RUNGS[rung - 1]
        assert goal <= step <= max(goal, RUNGS[0]) + interval / 2**halvings + 1e-6


def test_rows_that_are_there_are_not_asked_again():
    asked = []

    def score(which, steps):
        asked.append((which.tolist(), steps.tolist()))
        return steps, (which == 0) | ((which == 1) & (steps >= 1.5))

    found, reached = smallest_step(score, 3, (0.0, 1.0, 2.0), 1, CPU)
    assert asked == [
        ([0, 1, 2], [0.0] * 3),
        ([1, 2], [1.0] * 2),
        ([1, 2], [2.0] * 2),
        # Halved is what came into reach on the way, and neither what was there nor what never was.
        ([1], [1.5]),
    ]
    assert found.tolist() == [0.0, 1.5, 2.0]
    assert reached.tolist() == [True, True, False]


def test_where_nothing_reaches_it_is_the_best_step():
    heights = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0], [1.0, 1.0, 1.0]])
    score = lambda which, s: (heights[which, s.long()], torch.zeros(len(which), dtype=torch.bool))  # noqa: E731
    found, reached = smallest_step(score, 3, (0.0, 1.0, 2.0), 3, CPU)
    assert found.tolist() == [0.0, 1.0, 0.0]  # of equals, the smallest
    assert not reached.any()


def test_no_rows_and_another_default_precision():
    found, reached = smallest_step(lambda which, s: (s, s > 0), 0, (0.0, 1.0), 2, CPU)
    assert (len(found), len(reached)) == (0, 0)
    torch.set_default_dtype(torch.float64)
    try:
        found, _ = smallest_step(lambda which, s: (s.double(), s > 0.3), 2, (0.0, 1.0), 2, CPU)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    assert found.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("longest", [0.3, 1.0, 6.0, 7.4])
def test_along_a_direction_it_is_at_most_a_sixteenth_of_a_rung_too_long(longest):
    goals = torch.linspace(0, longest, 23)
    found, reached = step_that_reaches(lambda which, s: (s, s >= goals[which] - 1e-6), len(goals), longest, CPU)
    spacing = longest / max(1, round(longest))
    assert reached.all()
    assert (found >= goals - 1e-5).all()
    assert (found - goals <= spacing / 16 + 1e-5).all()
    assert found.max() <= longest + 1e-6
