"""How far an attribute can be read off a single dimension of a code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xlens.contracts.numbers import whole
from xlens.data.numbers import as_tensor
from xlens.errors import DataError, OptionError
from xlens.files.plain import said

__all__ = ["Interpretability", "interpretability"]

#: Whole numbers with at most this many values are classes; anything else is a measurement, and is binned.
_MOST_CLASSES = 20
#: Quantile bins of a code dimension, in which its mutual information with an attribute is counted.
_CODE_BINS = 16
#: "Hard margin" of the paper, on a standardised scalar; a larger C does not converge where classes overlap.
_HARDNESS = 100.0
#: A row whose attribute has a value that the fitting rows never had gets this probability, not zero.
_FLOOR = 1e-6
_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Interpretability:
    """The metric for each of A attributes; every tensor is ``(A,)``, in float64 but for `dims`.

    Args:
        dims: the dimension of the code that tells most about the attribute.
        information: their mutual information, in nats, on the rows that the dimension was chosen with.
        probability: mean of p(s|z_i), the paper's figure.
        likelihood: exp of the mean of log p(s|z_i): the same, without mercy for being sure and wrong.
        accuracy: share of rows whose attribute is predicted right.
    """

    dims: Tensor
    information: Tensor
    probability: Tensor
    likelihood: Tensor
    accuracy: Tensor

    def __repr__(self) -> str:
        """Return the means over the attributes."""
        figures = {name: float(getattr(self, name).mean()) for name in ("probability", "likelihood", "accuracy")}
        said = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        return f"Interpretability({said}; mean of {len(self.dims)})"


def interpretability(
    codes: Any,
    side_info: Any,
    *,
    test_codes: Any = None,
    test_side_info: Any = None,
    bins: int = 4,
    max_rows: int = 4000,
    seed: int = 0,
) -> Interpretability:
    """Interpretability of codes: how well each attribute is told by the one dimension that tells most about it.

    Per attribute, the dimension of largest mutual information is taken; a linear support vector machine on that
    number alone, with Platt's calibration on held-out folds, gives p(s|z_i), whose mean over rows is the figure.
    Scored on the rows that it was fitted with it flatters, and on those that a lens was trained with even more:
    pass others as `test_codes`.

    Args:
        codes: ``(n, d)``.
        side_info: ``(n, A)`` or ``(n,)``, NaN where not observed. Columns of up to 20 whole numbers are classes;
            others are measurements, and are cut into bins of equal share.
        test_codes, test_side_info: ``(m, d)`` and ``(m, A)`` to score on; the fitting rows if None.
        bins: bins of a measurement, with edges from the fitting rows.
        max_rows: fitting rows that are used, drawn with `seed`.
        seed: draws them, and the folds.

    Raises:
        DataError: tables do not fit each other, are not finite, or an attribute has a value with too few rows.
        OptionError: a number out of range.

    References:
        Adel, Ghahramani, Weller (2018), Discovering Interpretable Representations for Both Deep Generative and
        Discriminative Models, section 4 and appendix 12.

    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> s = torch.randint(0, 2, (200,), generator=generator)
    >>> codes = torch.randn(200, 3, generator=generator)
    >>> codes[:, 1] += 8 * s
    >>> found = interpretability(codes, s)
    >>> found.dims.tolist(), bool(found.probability > 0.95)
    ([1], True)
    """
    faults = [
        f"{name} must be an int >= {least}, got {value!r}"
        for name, value, least in (("bins", bins, 2), ("max_rows", max_rows, 10), ("seed", seed, 0))
        if (number := whole(value)) is None or number < least
    ]
    if (test_codes is None) != (test_side_info is None):
        faults.append("test_codes and test_side_info go together")
    if faults:
        raise OptionError("interpretability: " + "; ".join(faults))
    fitted = _tables(codes, side_info, "")
    scored = fitted if test_codes is None else _tables(test_codes, test_side_info, "test_")
    if [t.shape[1] for t in fitted] != [t.shape[1] for t in scored]:
        raise DataError(
            "interpretability: the rows to score do not fit those to fit",
            given=f"{scored[0].shape[1]} dimensions and {scored[1].shape[1]} attributes",
            allowed=f"{fitted[0].shape[1]} and {fitted[1].shape[1]}",
        )
    columns = [_column(a, fitted, scored, bins, max_rows, seed) for a in range(fitted[1].shape[1])]
    dims, *figures = (torch.tensor(part, dtype=torch.float64) for part in zip(*columns, strict=True))
    information, probability, likelihood, accuracy = figures
    return Interpretability(
        dims=dims.long(),
        information=information,
        probability=probability,
        likelihood=likelihood,
        accuracy=accuracy,
    )


def mutual_information(codes: Tensor, classes: Tensor) -> Tensor:
    """Return the mutual information of each dimension with the classes, ``(d,)`` in nats, over quantile bins.

    Args:
        codes: ``(n, d)``.
        classes: ``(n,)`` ints from 0.
    """
    count = int(classes.max()) + 1
    shares = torch.linspace(0, 1, _CODE_BINS + 1, dtype=codes.dtype)[1:-1]
    found = []
    for values in codes.T.contiguous():
        binned = torch.searchsorted(values.quantile(shares), values.contiguous(), right=True)
        joint = torch.bincount(binned * count + classes, minlength=_CODE_BINS * count).double()
        joint = joint.view(_CODE_BINS, count) / len(values)
        apart = joint.sum(1, keepdim=True) * joint.sum(0)
        found.append(torch.special.xlogy(joint, joint / apart.clamp_min(1e-300)).sum())
    return torch.stack(found)


def _column(
    a: int, fitted: tuple[Tensor, Tensor], scored: tuple[Tensor, Tensor], bins: int, max_rows: int, seed: int
) -> tuple[int, float, float, float, float]:
    """Return dimension, information, mean p, exp of mean log p and accuracy for attribute `a`."""
    seen, held = (~table[:, a].isnan() for _, table in (fitted, scored))
    codes, values = fitted[0][seen], fitted[1][seen, a]
    tested, wanted = scored[0][held], scored[1][held, a]
    if not len(wanted):
        raise DataError(f"interpretability: attribute {a} is observed on none of the rows to score")
    if len(values) > max_rows:
        index = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))[:max_rows]
        codes, values = codes[index], values[index]
    classes, truth = _classes(values, wanted, bins)
    counts = torch.bincount(classes)
    if len(counts) < 2 or int(counts[counts > 0].min()) < 2 or int((counts > 0).sum()) < 2:
        raise DataError(
            f"interpretability: attribute {a} cannot be learned",
            given=f"{len(values)} observed rows; rows per value: {counts.tolist()}",
            allowed="two values or more, each on two rows or more",
            do="observe it on more rows, or drop the column",
        )
    information = mutual_information(codes, classes)
    dim = int(information.argmax())
    p = _calibrated(codes[:, dim], classes, tested[:, dim], int(counts[counts > 0].min()), seed)
    rows = torch.arange(len(truth))
    own = torch.where(truth < p.shape[1], p[rows, truth.clamp_max(p.shape[1] - 1)], 0.0).clamp_min(_FLOOR)
    right = (p.argmax(1) == truth).double().mean()
    return dim, float(information[dim]), float(own.mean()), float(own.log().mean().exp()), float(right)


def _classes(values: Tensor, wanted: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Return class indices of the fitting and of the scoring rows; an unknown value gets one that is too large."""
    known = values.unique()
    if len(known) <= _MOST_CLASSES and bool((known == known.round()).all()):
        index = torch.searchsorted(known, wanted.contiguous()).clamp_max(len(known) - 1)
        truth = torch.where(known[index] == wanted, index, len(known))
        return torch.searchsorted(known, values.contiguous()), truth
    edges = values.quantile(torch.linspace(0, 1, bins + 1, dtype=values.dtype)[1:-1]).unique()
    own, truth = (torch.searchsorted(edges, part.contiguous(), right=True) for part in (values, wanted))
    return own, truth


def _calibrated(codes: Tensor, classes: Tensor, tested: Tensor, rarest: int, seed: int) -> Tensor:
    """Return p(s|z_i) for the scalars `tested`, ``(m, K)``."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import SVC

    scale = codes.std().clamp_min(1e-12)
    fit, score = (((part - codes.mean()) / scale).unsqueeze(1).numpy() for part in (codes, tested))
    folds = StratifiedKFold(min(_FOLDS, rarest), shuffle=True, random_state=seed)
    machine = CalibratedClassifierCV(SVC(kernel="linear", C=_HARDNESS), ensemble=False, cv=folds)
    p = torch.from_numpy(machine.fit(fit, classes.numpy()).predict_proba(score)).double()
    every = torch.zeros(len(p), int(classes.max()) + 1, dtype=torch.float64)
    every[:, torch.from_numpy(machine.classes_)] = p
    return every


def _tables(codes: Any, side_info: Any, prefix: str) -> tuple[Tensor, Tensor]:
    try:
        values, table = (as_tensor(part).detach().cpu().double() for part in (codes, side_info))
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(
            f"interpretability: {prefix}codes or {prefix}side_info are no tables of numbers",
            given=said(fault),
            allowed="(n, d) and (n, A), as tensors, arrays or data frames of numbers",
        ) from None
    table = table.unsqueeze(1) if table.dim() == 1 else table
    if values.dim() != 2 or table.dim() != 2 or len(values) != len(table) or not table.shape[1]:
        raise DataError(
            f"interpretability: {prefix}codes and {prefix}side_info do not fit",
            given=f"{tuple(values.shape)} and {tuple(table.shape)}",
            allowed="(n, d) and (n, A)",
        )
    if not bool(values.isfinite().all()) or bool(table.isinf().any()):
        raise DataError(
            f"interpretability: {prefix}codes or {prefix}side_info are not finite",
            allowed="finite codes; attributes that are finite, or NaN where not observed",
        )
    return values, table
