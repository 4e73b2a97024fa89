"""Leakage between directions, where the answer is known."""

import numpy as np
import pytest
import torch
import toys
from directed import Directed, ManyClasses

from xlens import metrics
from xlens.errors import OptionError
from xlens.evaluation import leakage


@pytest.fixture(scope="module")
def directed(fitted):
    return toys.explainer_with(Directed(), fitted)


def test_leakage_is_the_cosine_where_the_lens_is_exact_and_zero_where_held(directed, images):
    found = leakage(directed, images[:5], amount=-1.5)
    for edited, row in found.items():
        for read, value in row.items():
            assert value == pytest.approx(1.0 if read == edited else 0.5**0.5, abs=1e-4)
    held = leakage(directed, images[:5], orthogonal=True)
    assert held["mixed"]["patch"] == pytest.approx(0.0, abs=1e-5)
    assert held["mixed"]["mixed"] == pytest.approx(0.5**0.5, abs=1e-4)


@pytest.mark.parametrize("k", [3, 10])
def test_leakage_of_dependent_classes_holds_all_but_one(fitted, images, k):
    found = leakage(toys.explainer_with(ManyClasses(k), fitted), images[:4], orthogonal=True)
    # Perpendicular to K - 2 of the others, what is left of a corner is its difference from the one left over.
    own = (k / (2 * (k - 1))) ** 0.5
    for edited, row in found.items():
        assert row.pop(edited) == pytest.approx(own, abs=1e-4)
        *held, opposed = sorted(row.values(), key=abs)
        assert held == pytest.approx([0.0] * (k - 2), abs=1e-4)
        assert opposed == pytest.approx(-own, abs=1e-4)


@pytest.mark.parametrize("amount", [0, float("nan"), float("inf"), "3", True, None])
def test_leakage_refuses_what_is_no_amount(directed, images, amount):
    with pytest.raises(OptionError, match="a finite number other than 0"):
        leakage(directed, images[:2], amount)


def test_leakage_takes_numbers_of_any_kind(directed, images):
    assert leakage(directed, images[:2], np.float32(2.0)) == leakage(directed, images[:2], 2.0)


def test_leakage_counts_what_happens_in_the_input_and_not_in_the_code_alone():
    # This decoder turns half of the first direction into the second.
    matrix = torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    axes = torch.eye(2)
    found = metrics.leakage(lambda x: x, lambda z: z @ matrix, torch.randn(6, 2), axes, axes, 3.0)
    torch.testing.assert_close(found, matrix)
