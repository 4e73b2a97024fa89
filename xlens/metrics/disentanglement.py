"""How codes relate to known factors: MIG, SAP and DCI."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from xlens.errors import DataError

__all__ = ["DCI", "dci", "factor_fault", "mutual_information_gap", "separated_attribute_predictability"]

_BINS = 20
#: A factor with at most as many values is a set of classes.
_CLASSES = 10
_TREES = 50
#: The first share of the rows is fitted, the rest is judged.
_FITTED = 0.75
_LEAST = 8


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness, each at most 1, and what they are computed from.

    Args:
        disentanglement: 1 where each dimension of the code tells of one factor only.
        completeness: 1 where one dimension tells all that is told of a factor.
        informativeness: mean accuracy (classes) or R squared (numbers) on held-out rows; can be negative.
        importance: ``(d, A)`` of each dimension for each factor, by a random forest.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Tensor


def mutual_information_gap(codes: Tensor, factors: Tensor) -> float:
    """MIG: how much more the best dimension tells of a factor than the second best, in [0, 1].

    Codes, and factors of more than 10 values, are cut into 20 bins of equal width.

    Args:
        codes: ``(n, d)``, d >= 2.
        factors: ``(n, A)`` known factors, each with two values at least; NaN where one says nothing of a row, which
            then does not count for that factor. At least 8 rows must be left to each.

    Raises:
        DataError: parts that do not fit, values that are not finite, or a factor that is constant.

    References:
        Chen et al. (2018), Isolating Sources of Disentanglement in Variational Autoencoders.

    >>> import torch
    >>> factors = torch.randint(0, 2, (400, 2), generator=torch.Generator().manual_seed(0))
    >>> mutual_information_gap(factors.float(), factors) > 0.98
    True
    """
    from sklearn.metrics import mutual_info_score

    z, s = _checked("mutual_information_gap", codes, factors)
    gaps = []
    for rows, known in map(_observed, s.T):
        classes = _classes(known)
        told = np.sort([mutual_info_score(classes, _binned(column)) for column in z[rows].T])
        gaps.append((told[-1] - told[-2]) / mutual_info_score(classes, classes))
    return float(np.mean(gaps))


def separated_attribute_predictability(codes: Tensor, factors: Tensor) -> float:
    """SAP: how much better the best dimension predicts a factor than the second best, in [0, 1].

    A single dimension predicts a number by its squared correlation, and classes by the balanced accuracy of a
    linear support vector machine on held-out rows: the last quarter, so that rows must come in no order.

    Arguments and errors as for :func:`mutual_information_gap`.

    References:
        Kumar, Sattigeri, Balakrishnan (2018), Variational Inference of Disentangled Latent Concepts.
    """
    z, s = _checked("separated_attribute_predictability", codes, factors)
    gaps = []
    for rows, known in map(_observed, s.T):
        scores = np.sort([_predicts(column, known) for column in z[rows].T])
        gaps.append(scores[-1] - scores[-2])
    return float(np.mean(gaps))


def dci(codes: Tensor, factors: Tensor, *, seed: int = 0) -> DCI:
    """DCI: disentanglement, completeness and informativeness by random forests of 50 trees.

    Arguments and errors as for :func:`mutual_information_gap`; the last quarter of the rows is held out, so that
    they must come in no order.

    References:
        Eastwood, Williams (2018), A Framework for the Quantitative Evaluation of Disentangled Representations.
    """
    import torch
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    z, s = _checked("dci", codes, factors)
    importance, informed = [], []
    for rows, known in map(_observed, s.T):
        told, fitted = z[rows], int(_FITTED * len(rows))
        kind = RandomForestClassifier if _is_classes(known) else RandomForestRegressor
        known = _numbered(known)
        # All dimensions at every split: where some are left out, those that know nothing are split on too.
        forest = kind(_TREES, max_features=None, random_state=seed).fit(told[:fitted], known[:fitted])
        importance.append(forest.feature_importances_)
        informed.append(forest.score(told[fitted:], known[fitted:]))
    table = np.stack(importance, 1)
    total = table.sum() or 1.0
    disentanglement = (_concentration(table) * table.sum(1) / total).sum()
    completeness = (_concentration(table.T) * table.sum(0) / total).sum()
    return DCI(float(disentanglement), float(completeness), float(np.mean(informed)), torch.from_numpy(table))


def _concentration(table: np.ndarray) -> np.ndarray:
    """Return 1 minus the entropy of each row, in units of that of an even row; 1 where there is one column."""
    shares = table / np.maximum(table.sum(1, keepdims=True), 1e-12)
    if table.shape[1] == 1:
        return np.ones(len(table))
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1)
    return 1 - entropy / np.log(table.shape[1])


def _predicts(column: np.ndarray, known: np.ndarray) -> float:
    if column.std() == 0:
        return 0.0
    if not _is_classes(known):
        return float(np.corrcoef(column, known)[0, 1] ** 2)
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.svm import LinearSVC

    known, fitted = _numbered(known), int(_FITTED * len(column))
    unit = ((column - column[:fitted].mean()) / (column[:fitted].std() or 1.0))[:, None]
    machine = LinearSVC(class_weight="balanced", random_state=0)
    with warnings.catch_warnings():
        # Of a dimension that knows little it says that it did not converge; of few rows, that a class is missing.
        warnings.simplefilter("ignore", UserWarning)
        machine.fit(unit[:fitted], known[:fitted])
        return float(balanced_accuracy_score(known[fitted:], machine.predict(unit[fitted:])))


def _is_classes(known: np.ndarray) -> bool:
    return len(np.unique(known)) <= _CLASSES


def _numbered(known: np.ndarray) -> np.ndarray:
    """Return classes as whole numbers from 0, whatever their values are: scikit-learn takes no others."""
    return np.unique(known, return_inverse=True)[1] if _is_classes(known) else known


def _classes(known: np.ndarray) -> np.ndarray:
    return _numbered(known) if _is_classes(known) else _binned(known)


def _binned(column: np.ndarray) -> np.ndarray:
    edges = np.linspace(column.min(), column.max(), _BINS + 1)
    return np.digitize(column, edges[1:-1])


def _observed(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of which a factor says something, and what."""
    rows = np.flatnonzero(~np.isnan(column))
    return rows, column[rows]


def factor_fault(column: np.ndarray) -> str | None:
    """Return in words why nothing can be told of a factor ``(n,)``, or None."""
    _, known = _observed(column)
    if not np.isfinite(known).all():
        return "is not finite"
    if len(known) < _LEAST:
        return f"is known of {len(known)} rows, and it takes {_LEAST}"
    return "is constant" if len(np.unique(known[: int(_FITTED * len(known))])) < 2 else None


def _checked(who: str, codes: Tensor, factors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    z, s = (values.detach().cpu().double().numpy() for values in (codes, factors))
    if z.ndim != 2 or s.ndim != 2 or len(z) != len(s) or z.shape[1] < 2 or not s.shape[1]:
        raise DataError(
            f"{who}: codes and factors do not fit",
            given=f"{z.shape} and {s.shape}",
            allowed="(n, d) and (n, A), d >= 2, A >= 1",
        )
    if not np.isfinite(z).all():
        raise DataError(f"{who}: codes are not finite", do="leave out such rows")
    for j, column in enumerate(s.T):
        if fault := factor_fault(column):
            raise DataError(f"{who}: factor {j} {fault}", do="leave it out, or shuffle the rows")
    return z, s
