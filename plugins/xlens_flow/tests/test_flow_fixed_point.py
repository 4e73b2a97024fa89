"""The correction of an inversion's step: stiff maps too, row by row, and never worse than before."""

import torch
from xlens_flow.fixed_point import corrected


def linear(matrix, goal):
    return lambda states, rows: goal[rows] - states @ matrix.T


def drawn(eigenvalues, n=5):
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator)).Q
    goal = torch.randn(n, len(eigenvalues), generator=generator)
    return basis @ torch.diag(torch.tensor(eigenvalues)) @ basis.T, goal


def test_it_solves_what_the_plain_fixed_point_moves_away_from():
    # Adding what is missing multiplies it by 1 - 3 along the first direction.
    matrix, goal = drawn([3.0, 1.0, 0.5])
    missing, start = linear(matrix, goal), torch.zeros(5, 3)
    plain = start
    for _ in range(8):
        plain = plain + missing(plain, torch.arange(5))
    assert missing(plain, torch.arange(5)).norm() > 10 * goal.norm()
    found = corrected(missing, start, 8, 1e-6)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, goal.T).T, atol=1e-3, rtol=0)


def test_a_row_depends_on_no_other_and_is_asked_no_longer_than_it_misses_too_much():
    matrix, goal = drawn([2.5, 1.2, 0.7])
    goal = goal * torch.tensor([1.0, 1e-9, 0.1, 1.0, 1.0])[:, None]
    asked = []

    def missing(states, rows):
        asked.append(rows.tolist())
        return goal[rows] - states @ matrix.T

    together = corrected(missing, torch.zeros(5, 3), 6, 1e-4)
    assert all(1 not in rows for rows in asked[1:])
    for row in range(5):
        alone = corrected(linear(matrix, goal[row : row + 1]), torch.zeros(1, 3), 6, 1e-4)
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-4, rtol=1e-3)


def test_what_no_step_makes_better_stays():
    found = corrected(lambda states, rows: 1 + states.square(), torch.zeros(2, 3), 3, 0.0)
    assert torch.equal(found, torch.zeros(2, 3))
