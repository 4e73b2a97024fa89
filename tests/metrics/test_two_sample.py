"""The mean embedding test and the adversarial test, against what is known of them."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from xlens.errors import DataError, OptionError
from xlens.metrics import mean_embedding_statistic, mean_embedding_test, reconstruction_attack


def samples(n1, n2, d, seed, shift=0.0):
    """Correlated rows, so that the covariance matters."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    x, y, at = (torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing for n in (n1, n2, 4 * d))
    return x, y + shift, at


def hotelling(x, y):
    """The textbook's statistic, by an inverse."""
    x, y = x.numpy(), y.numpy()
    n1, n2 = len(x), len(y)
    pooled = ((n1 - 1) * np.cov(x.T) + (n2 - 1) * np.cov(y.T)) / (n1 + n2 - 2)
    difference = x.mean(0) - y.mean(0)
    return n1 * n2 / (n1 + n2) * difference @ np.linalg.inv(pooled) @ difference


@pytest.mark.parametrize("shift", [0.0, 0.3])
@pytest.mark.parametrize(("n1", "n2", "d"), [(60, 60, 3), (40, 90, 5)])
def test_with_enough_locations_it_is_hotellings(n1, n2, d, shift):
    x, y, at = samples(n1, n2, d, seed=d, shift=shift)
    for count in (d, d + 1, 2 * d, 4 * d):
        found = mean_embedding_test(x, y, at[:count])
        assert found.statistic == pytest.approx(hotelling(x, y), rel=1e-6)
        assert found.degrees_of_freedom == d
        assert found.p_value == pytest.approx(scipy.stats.chi2.sf(found.statistic, d), rel=1e-9, abs=1e-300)
        # A ridge lowers it, by as much less as it is smaller.
        ridged = [float(mean_embedding_statistic(x, y, at[:count], ridge=r)) for r in (1e-5, 1e-7, 1e-9)]
        assert ridged[0] < ridged[1] < ridged[2] < found.statistic * (1 + 1e-9)
        assert ridged[2] == pytest.approx(found.statistic, rel=1e-3)
    # With fewer it is another statistic.
    assert mean_embedding_test(x, y, at[: d - 1]).statistic != pytest.approx(hotelling(x, y), rel=1e-3)


def test_fewer_locations_against_a_slow_reference():
    x, y, at = samples(30, 50, 6, seed=1, shift=0.2)
    at, ridge = at[:3], 0.05
    h1 = np.array([[float(row @ v) for v in at] for row in x])
    h2 = np.array([[float(row @ v) for v in at] for row in y])
    pooled = (29 * np.cov(h1.T) + 49 * np.cov(h2.T)) / 78
    pooled += ridge * np.trace(pooled) / 3 * np.eye(3)
    mean = h1.mean(0) - h2.mean(0)
    expected = 30 * 50 / 80 * mean @ np.linalg.solve(pooled, mean)
    assert mean_embedding_test(x, y, at, ridge=ridge).statistic == pytest.approx(expected, rel=1e-9)
    # Single precision comes in, double precision is computed in.
    assert float(mean_embedding_statistic(x.float(), y.float(), at.float(), ridge=ridge)) == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize("kernel", ["linear", "gaussian"])
def test_under_the_null_it_rejects_as_often_as_it_says(kernel):
    generator = torch.Generator().manual_seed(0)
    draws, level = 400, 0.05
    rejected = 0
    for _ in range(draws):
        x, y, at = (torch.randn(n, 3, generator=generator) for n in (300, 400, 3))
        rejected += mean_embedding_test(x, y, at, kernel=kernel).p_value < level
    low, high = scipy.stats.binom.interval(0.999, draws, level)
    assert low <= rejected <= high


def test_a_gaussian_kernel_sees_what_means_do_not():
    generator = torch.Generator().manual_seed(0)
    x, y, at = (torch.randn(n, 2, generator=generator) for n in (400, 400, 4))
    y = 2 * y
    assert mean_embedding_test(x, y, at, kernel="gaussian", bandwidth=1.0).p_value < 1e-6
    assert mean_embedding_test(x, y, at).p_value > 0.001
    value = float(mean_embedding_statistic(x[:3], y[:4], at[:1], bandwidth=0.7, ridge=1e-9))
    h1, h2 = (np.exp(-((rows - at[0].numpy()) ** 2).sum(1) / 0.98) for rows in (x[:3].numpy(), y[:4].numpy()))
    pooled = (2 * h1.var(ddof=1) + 3 * h2.var(ddof=1)) / 5
    assert value == pytest.approx(12 / 7 * (h1.mean() - h2.mean()) ** 2 / pooled, rel=1e-5)


def test_what_cannot_be_tested_is_refused():
    x, y, at = samples(10, 10, 2, seed=0)
    for wrong in ((x[:1], y, at), (x, y[:, :1], at), (x, y, at[:0]), (x[:, 0], y, at), (x * float("nan"), y, at)):
        with pytest.raises(DataError):
            mean_embedding_test(*wrong)
    with pytest.raises(DataError, match="all rows are the same"):
        mean_embedding_test(torch.ones(4, 2), torch.ones(5, 2), at)
    negative = {"kernel": "gaussian", "bandwidth": -1.0}
    for options in ({"kernel": "cubic"}, {"bandwidth": 1.0}, negative, {"ridge": -1.0}):
        with pytest.raises(OptionError):
            mean_embedding_test(x, y, at, **options)


def test_degrees_of_freedom_are_the_directions_in_which_features_vary():
    """Columns that are constant, or locations that are nearly the same, add none."""
    generator = torch.Generator().manual_seed(0)
    draws, level, rejected = 400, 0.05, 0
    for _ in range(draws):
        x, y, at = (torch.randn(n, 4, generator=generator) for n in (300, 400, 6))
        x[:, 2:] = y[:, 2:] = 1
        found = mean_embedding_test(x, y, at)
        assert found.degrees_of_freedom == 2
        assert found.statistic == pytest.approx(hotelling(x[:, :2].double(), y[:, :2].double()), rel=1e-6)
        rejected += found.p_value < level
    low, high = scipy.stats.binom.interval(0.999, draws, level)
    assert low <= rejected <= high
    twice = torch.tensor([[0.0, 0, 0, 0], [1e-9, 0, 0, 0]], dtype=torch.float64)
    assert mean_embedding_test(x, y, twice, kernel="gaussian").degrees_of_freedom == 1


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_means_that_differ_where_no_row_does_are_seen(ridge):
    """What divides the samples without an exception is the surest difference of all, not none."""
    x, y, at = samples(50, 60, 3, seed=2)
    x[:, 1], y[:, 1] = 0.1, 0.3
    if not ridge:
        found = mean_embedding_test(x, y, at)
        assert found.statistic == float("inf")
        assert found.p_value == 0
    assert mean_embedding_test(torch.zeros(9, 1), torch.ones(9, 1), torch.ones(1, 1), ridge=ridge).p_value < 1e-9
    y[:, 1] = 0.1
    assert 0.001 < mean_embedding_test(x, y, at, ridge=ridge).p_value < 1
    # Too small a difference to be more than rounding.
    y[:, 1] = 0.1 * (1 + 1e-15)
    assert 0.001 < mean_embedding_test(x, y, at, ridge=ridge).p_value < 1


def test_what_says_nothing_is_refused():
    x, y, at = samples(4, 5, 12, seed=0)
    with pytest.raises(DataError, match="4 and 5 rows, 48 locations.*at most 7"):
        mean_embedding_test(x, y, at)
    # Hotelling's statistic is defined up to as many directions as rows leave.
    assert mean_embedding_test(x, y, at[:7]).degrees_of_freedom == 7
    assert mean_embedding_statistic(x, y, at).isfinite()
    with pytest.raises(DataError, match="no feature varies.*not all zero"):
        mean_embedding_test(x, y, 0 * at)
    with pytest.raises(DataError, match="no feature varies.*larger bandwidth"):
        mean_embedding_test(x, y, at + 1000, kernel="gaussian", bandwidth=1.0)


def test_the_attack_goes_where_the_reconstruction_can_go():
    """A linear reconstruction can be moved in its span only, and by the nearest point of it."""
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 2))[0]
    x, aim = torch.randn(3, 6), torch.randn(3, 6)

    def reconstruct(rows):
        return rows @ basis @ basis.T

    free = reconstruction_attack(reconstruct, x, aim, weight=0.0, steps=2000)
    torch.testing.assert_close(free.reconstructions, aim @ basis @ basis.T, atol=1e-2, rtol=0)
    residual = (aim - aim @ basis @ basis.T).square().mean(1)
    torch.testing.assert_close(free.after, residual, atol=1e-3, rtol=0)
    torch.testing.assert_close(free.before, (reconstruct(x) - aim).square().mean(1))
    dear = reconstruction_attack(reconstruct, x, aim, weight=0.5)
    assert (dear.size < free.size).all()
    assert (dear.moved < free.moved).all()
    priceless = reconstruction_attack(reconstruct, x, aim, weight=100.0)
    assert (priceless.moved.abs() < 0.2).all()
    # Each row by itself.
    alone = reconstruction_attack(reconstruct, x[:1], aim[:1], weight=0.5)
    torch.testing.assert_close(alone.perturbations, dear.perturbations[:1], atol=1e-5, rtol=0)
    with pytest.raises(DataError):
        reconstruction_attack(nn.Identity(), x, aim[:2])
    with pytest.raises(OptionError):
        reconstruction_attack(nn.Identity(), x, aim, weight=-1.0)
    with pytest.raises(OptionError):
        reconstruction_attack(nn.Identity(), x, aim, weight=float("nan"))
    # Without a gradient nothing moves, which would pass as robust.
    with pytest.raises(OptionError, match="no gradient flows"):
        reconstruction_attack(torch.no_grad()(reconstruct), x, aim)
