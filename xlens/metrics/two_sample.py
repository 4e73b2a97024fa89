"""The mean embedding test: do two samples come from the same distribution?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from xlens.errors import DataError, OptionError

__all__ = ["TwoSampleTest", "mean_embedding_statistic", "mean_embedding_test"]

Kernel = Literal["linear", "gaussian"]

#: Directions in which the covariance is smaller than this share of its largest have none.
_RANK = 1e-12
#: Relative to the largest feature: spreads below the first, and differences below the second, are rounding.
_NO_SPREAD, _NO_DIFFERENCE = 1e-14, 1e-12


@dataclass(frozen=True)
class TwoSampleTest:
    """The result of a two-sample test.

    Args:
        statistic: the statistic, at least 0; infinite where the means differ in a direction in which no row of a
            sample differs from another.
        p_value: probability of one as large where both samples come from one distribution, by its limit.
        degrees_of_freedom: of the chi-squared distribution that is this limit; directions in which features vary.
    """

    statistic: float
    p_value: float
    degrees_of_freedom: int


def mean_embedding_test(
    x: Tensor,
    y: Tensor,
    locations: Tensor,
    *,
    kernel: Kernel = "linear",
    bandwidth: float | None = None,
    ridge: float = 0.0,
) -> TwoSampleTest:
    """Mean embedding two-sample test: whether two samples come from one distribution, by their kernel features.

    The features of a row are its kernel values at J locations, and the statistic is Hotelling's T-squared of these
    features, with the covariance pooled over both samples. Locations must not depend on the samples: take them from
    other rows. With a linear kernel J >= d locations in general position give Hotelling's statistic of the rows
    themselves, and only a difference of means is seen. The chi-squared limit needs samples much larger than J, and
    no ridge: one lowers the statistic, so that the p-value is too large.

    Args:
        x, y: ``(n1, d)`` and ``(n2, d)``, of at least two rows each.
        locations: ``(J, d)``.
        kernel: ``"linear"`` (the inner product) or ``"gaussian"``.
        bandwidth: of the Gaussian, in the units of the rows; None for the median distance from locations to rows.
        ridge: added to the covariance's diagonal, relative to its mean; 0 takes the pseudo-inverse.

    Raises:
        DataError: shapes that do not fit, fewer rows than features, features that do not vary, or values that are
            not finite.
        OptionError: an unknown kernel, or a number out of range.

    References:
        Chwialkowski, Ramdas, Sejdinovic, Gretton (2015), Fast Two-Sample Testing with Analytic Representations of
        Probability Measures; Hu, Sejdinovic, Robust Deep Interpretable Features for Binary Image Classification,
        eq. 1.

    >>> import torch
    >>> draw = torch.Generator().manual_seed(0)
    >>> x, y, at = (torch.randn(n, 3, generator=draw) for n in (200, 300, 3))
    >>> mean_embedding_test(x, y, at).p_value > 0.01
    True
    >>> mean_embedding_test(x, y + 0.5, at).p_value < 1e-6
    True
    """
    _check(x, y, locations, kernel, bandwidth, ridge)
    x, y, locations = (values.detach().double() for values in (x, y, locations))
    width = None
    if kernel == "gaussian":
        width = bandwidth or float(torch.cdist(locations, torch.cat([x, y])).median().clamp_min(1e-12))
    moments = _moments(x, y, locations, width)
    freedom, apart = _rank(moments), _differs_without_spread(moments)
    if not freedom and not apart:
        raise DataError(
            "mean_embedding_test: no feature varies",
            given=f"{kernel} kernel, {len(locations)} locations",
            do="choose locations among such rows" + (", or a larger bandwidth" if width else ", and not all zero"),
        )
    if apart and not ridge and freedom >= moments.n1 + moments.n2 - 2:
        raise DataError(
            "mean_embedding_test: too few rows for so many locations",
            given=f"{moments.n1} and {moments.n2} rows, {len(locations)} locations",
            allowed=f"at most {moments.n1 + moments.n2 - 2} locations",
            do="pass more rows, fewer locations, or a ridge",
        )
    statistic, freedom = float(_statistic(moments, ridge)), max(freedom, 1)
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    return TwoSampleTest(statistic, float(torch.special.gammaincc(*half)), freedom)


def mean_embedding_statistic(
    x: Tensor, y: Tensor, locations: Tensor, *, bandwidth: float | None = None, ridge: float = 0.0
) -> Tensor:
    """Mean embedding statistic, ``()`` float64; gradients flow, so it can be an objective.

    Args:
        x, y: ``(n1, d)`` and ``(n2, d)``.
        locations: ``(J, d)``.
        bandwidth: of a Gaussian kernel; None for the linear one.
        ridge: added to the covariance's diagonal, relative to its mean (which is tr(S) / J); 0 takes the
            pseudo-inverse, and is infinite where the means differ in a direction in which rows of a sample do not.
    """
    return _statistic(_moments(x, y, locations, bandwidth), ridge)


class _Moments(NamedTuple):
    """Difference of means ``(J,)``, pooled covariance ``(J, J)``, counts of rows, largest absolute feature."""

    difference: Tensor
    pooled: Tensor
    n1: int
    n2: int
    largest: Tensor


def _moments(x: Tensor, y: Tensor, locations: Tensor, bandwidth: float | None) -> _Moments:
    # In single precision the covariance of tight classes is singular long before they are far apart.
    first, second = (_features(rows.double(), locations.double(), bandwidth) for rows in (x, y))
    n1, n2 = len(first), len(second)
    return _Moments(
        difference=first.mean(0) - second.mean(0),
        pooled=(_scatter(first) + _scatter(second)) / (n1 + n2 - 2),
        n1=n1,
        n2=n2,
        largest=torch.maximum(first.detach().abs().max(), second.detach().abs().max()),
    )


def _statistic(moments: _Moments, ridge: float) -> Tensor:
    difference, pooled, n1, n2, _ = moments
    weight = n1 * n2 / (n1 + n2)
    if ridge:
        # A floor for the case that no row differs from another.
        shift = ridge * pooled.diagonal().mean() + torch.finfo(torch.float64).tiny
        factor = torch.linalg.cholesky(pooled + shift * torch.eye(len(pooled)).to(pooled))
        whitened = torch.linalg.solve_triangular(factor, difference.unsqueeze(1), upper=False)
        return weight * whitened.square().sum()
    # Rows fewer than features span less than the features do, which says nothing of the distributions.
    if _rank(moments) < n1 + n2 - 2 and _differs_without_spread(moments):
        return torch.full_like(difference[0], torch.inf)
    inverse = torch.linalg.pinv(pooled, atol=_smallest_variance(moments), rtol=0.0, hermitian=True)
    return weight * difference @ inverse @ difference


def _smallest_variance(moments: _Moments) -> Tensor:
    """Return the variance up to which a direction has none."""
    largest = torch.linalg.eigvalsh(moments.pooled.detach())[-1]
    return torch.maximum(_RANK * largest, (_NO_SPREAD * moments.largest).square())


def _rank(moments: _Moments) -> int:
    """Return in how many directions features vary."""
    return int((torch.linalg.eigvalsh(moments.pooled.detach()) > _smallest_variance(moments)).sum())


def _differs_without_spread(moments: _Moments) -> bool:
    """Whether the means differ in a direction in which features do not vary."""
    difference, smallest = moments.difference.detach(), _smallest_variance(moments)
    values, vectors = torch.linalg.eigh(moments.pooled.detach())
    missed = vectors[:, values <= smallest].T @ difference
    # Ten standard errors of a mean with as much variance as is taken for none.
    error = (len(difference) * smallest * (1 / moments.n1 + 1 / moments.n2)).sqrt()
    return float(missed.norm()) > float(10 * error + _NO_DIFFERENCE * moments.largest)


def _features(rows: Tensor, locations: Tensor, bandwidth: float | None) -> Tensor:
    if bandwidth is None:
        return rows @ locations.T
    squared = (rows.unsqueeze(1) - locations).square().sum(2)
    return (-squared / (2 * bandwidth**2)).exp()


def _scatter(features: Tensor) -> Tensor:
    centred = features - features.mean(0)
    return centred.T @ centred


def _check(x: Tensor, y: Tensor, locations: Tensor, kernel: str, bandwidth: float | None, ridge: float) -> None:
    shapes = [tuple(values.shape) for values in (x, y, locations)]
    same = all(len(shape) == 2 for shape in shapes) and len({shape[-1] for shape in shapes}) == 1
    if not same or min(shapes[0][0], shapes[1][0]) < 2 or shapes[2][0] < 1:
        raise DataError(
            "mean_embedding_test: the samples do not fit together",
            given=f"x {shapes[0]}, y {shapes[1]}, locations {shapes[2]}",
            allowed="(n1, d), (n2, d) and (J, d), with n1 and n2 at least 2 and J at least 1",
        )
    if not all(bool(values.isfinite().all()) for values in (x, y, locations)):
        raise DataError("mean_embedding_test: values are not finite", do="drop the rows that hold them")
    both = torch.cat([x, y])
    if bool((both == both[:1]).all()):
        raise DataError("mean_embedding_test: all rows are the same", do="pass samples that vary")
    if kernel not in ("linear", "gaussian"):
        raise OptionError(
            "mean_embedding_test: unknown kernel", given=repr(kernel), allowed="'linear' or 'gaussian'"
        )
    if bandwidth is not None and (kernel == "linear" or not 0 < bandwidth < float("inf")):
        raise OptionError(
            "mean_embedding_test: bandwidth is wrong",
            given=f"{bandwidth!r} with kernel={kernel!r}",
            allowed="a number > 0 for kernel='gaussian', else None",
        )
    if not 0 <= ridge < float("inf"):
        raise OptionError("mean_embedding_test: ridge is wrong", given=repr(ridge), allowed="a number >= 0")
