"""Figures of fidelity against slow loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xlens.metrics import monotone_share, ssim


def slow_ssim(first, second, span):
    """Wang et al. (2004) with uniform windows, window by window and channel by channel."""
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    smallest = min(first.shape[1:])
    size = min(7, smallest if smallest % 2 else smallest - 1)
    values = []
    for a, b in zip(first.astype(float), second.astype(float), strict=True):
        for i in range(a.shape[0] - size + 1):
            for j in range(a.shape[1] - size + 1):
                u, v = a[i : i + size, j : j + size], b[i : i + size, j : j + size]
                covariance = ((u - u.mean()) * (v - v.mean())).mean()
                values.append(
                    (2 * u.mean() * v.mean() + c1) * (2 * covariance + c2)
                    / ((u.mean() ** 2 + v.mean() ** 2 + c1) * (u.var() + v.var() + c2))
                )  # fmt: skip
    return np.mean(values)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14), (2, 11, 7), (1, 4, 4), (1, 3, 20), (1, 2, 2), (1, 1, 5)])
def test_ssim_of_images(shape):
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(3, *shape, generator=generator) * 5 - 3
    second = first + torch.tensor([0.1, 1.0, 3.0]).view(3, 1, 1, 1) * torch.randn(3, *shape, generator=generator)
    found = ssim(first, second, 5.0)
    expected = [slow_ssim(a.numpy(), b.numpy(), 5.0) for a, b in zip(first, second, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert found[0] > found[2]


@pytest.mark.parametrize("shape", [(6,), (2, 9)])
def test_ssim_of_anything_else_is_over_the_whole(shape):
    first, second = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    found = ssim(first, second, 1.0)
    for a, b, value in zip(first.flatten(1).numpy(), second.flatten(1).numpy(), found.tolist(), strict=True):
        covariance = ((a - a.mean()) * (b - b.mean())).mean()
        expected = (2 * a.mean() * b.mean() + 1e-4) * (2 * covariance + 9e-4)
        expected /= (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var() + b.var() + 9e-4)
        assert value == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_ssim_is_symmetric_bounded_and_one_on_equal_images(seed):
    first, second = torch.randn(2, 2, 1, 8, 9, generator=torch.Generator().manual_seed(seed))
    there, back = ssim(first, second, 4.0), ssim(second, first, 4.0)
    assert torch.allclose(there, back, atol=1e-6)
    assert (there.abs() <= 1 + 1e-6).all()
    assert torch.allclose(ssim(first, first, 4.0), torch.ones(2), atol=1e-6)


def test_ssim_of_constant_images_is_finite():
    assert ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), 1.0).tolist() == pytest.approx([1.0])


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12))
def test_monotone_share(scores):
    slack = 0.01 * (max(scores) - min(scores))
    steps = list(zip(scores, scores[1:], strict=False))
    margins = [abs(b - a + slack) for a, b in steps]
    if min(margins) < 1e-4:
        return  # on the edge, single precision decides
    expected = sum(b - a >= -slack for a, b in steps) / len(steps)
    assert monotone_share(torch.tensor([scores])).tolist() == pytest.approx([expected])


def test_a_flat_path_does_not_fall():
    assert monotone_share(torch.zeros(2, 5)).tolist() == [1.0, 1.0]
