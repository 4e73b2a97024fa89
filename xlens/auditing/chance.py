"""Against chance: whether a group lies in one place, outside of objects, and beside which known facts."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

__all__ = [
    "Association",
    "association",
    "corrected",
    "halves",
    "mean_interval",
    "more_than_chance",
    "one_place",
    "outside_objects",
]

_RESAMPLES = 999
#: What a date begins with in text, as ISO 8601 has it.
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}($|[T ])")
#: Up to so many different values a column of numbers counts as one of kinds.
_KINDS = 6
#: Kinds of fewer inputs than that are taken together.
_RARE = 10
#: The least radius of a place, as share of the side.
_RADIUS = 0.04


@dataclass(frozen=True)
class Association:
    """Association of being in a group with a column of facts, among the decisions for the same class.

    Where nearly all of them are in the group, it is among all inputs.

    Args:
        column: its name.
        p: of Fisher's exact test (two kinds), the chi-square test (more), or the rank test (numbers); corrected for
            the number of groups and columns.
        said: in words, what goes with the group.
    """

    column: str
    p: float
    said: str


def mean_interval(values: np.ndarray, confidence: float, seed: int) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over inputs.

    >>> import numpy as np
    >>> mean_interval(np.ones(4), 0.95, 0)
    (1.0, 1.0)
    """
    draw = np.random.default_rng(seed)
    means = [values[draw.integers(0, len(values), len(values))].mean() for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def more_than_chance(differences: np.ndarray) -> float:
    """Return how likely differences so far above 0 are by chance, by Wilcoxon's signed rank test; 1 if all are 0.

    >>> import numpy as np
    >>> more_than_chance(np.zeros(8)), more_than_chance(np.arange(1.0, 9.0)) < 0.01
    (1.0, True)
    """
    if not (differences != 0).any():
        return 1.0
    return float(stats.wilcoxon(differences, alternative="greater").pvalue)


def halves(inputs: np.ndarray) -> np.ndarray:
    """Return which half of the data each input is in, ``(N,)`` bool, by its position, but in no order of them."""
    return (inputs.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)) % np.uint64(2) == 1


def one_place(places: np.ndarray, inputs: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Whether parts lie in one place: the radius that holds most of them, and how likely that is by chance.

    The place is taken from one half of the inputs; the other half is counted against what a place of that size
    would get if parts fell anywhere. So clustering by place does not prove itself.

    Args:
        places: ``(M, 2)`` centres of the group's parts.
        inputs: ``(M,)`` whose they are.
        others: ``(K, 2)`` centres of all parts of the same decisions, the group's included, of the other half.

    >>> import numpy as np
    >>> corner = np.full((40, 2), 0.9)
    >>> one_place(corner, np.arange(40), corner)[1] < 1e-9
    True
    """
    drawn = halves(inputs)
    first = places[~drawn] if (~drawn).any() else places
    centre = np.median(first, 0)
    radius = max(_RADIUS, float(np.quantile(np.linalg.norm(first - centre, axis=1), 0.8)))
    rows, columns = (np.clip([c - radius, c + radius], 0, 1) for c in centre)
    area = min(float(np.pi * radius**2), float((rows[1] - rows[0]) * (columns[1] - columns[0])))
    inside = int((np.linalg.norm(others - centre, axis=1) <= radius).sum())
    if not len(others):
        return radius, 1.0
    return radius, float(stats.binomtest(inside, len(others), min(1.0, area), "greater").pvalue)


def outside_objects(outside: np.ndarray, usual: float) -> tuple[float, float]:
    """Mean share of the parts outside of the objects, and how likely as many lie outside by chance.

    Args:
        outside: share of each part that lies outside, NaN where no mask is known.
        usual: share of the images that is outside, which is chance.
    """
    known = outside[~np.isnan(outside)]
    if not len(known):
        return float("nan"), 1.0
    count = int((known > 0.5).sum())
    return float(known.mean()), float(stats.binomtest(count, len(known), usual, "greater").pvalue)


def association(column: str, values: np.ndarray, inside: np.ndarray) -> Association | None:
    """Return how a column goes with a group, not corrected yet; None where it does not vary.

    Args:
        column: its name.
        values: ``(N,)``.
        inside: ``(N,)`` bool, which of them are in the group.
    """
    known = np.array([not _missing(value) for value in values])
    values, inside = _of_one_kind(values[known]), inside[known]
    kinds, counts = np.unique(values, return_counts=True)
    if len(kinds) < 2 or inside.all() or not inside.any():
        return None
    if values.dtype.kind in "iufM" and len(kinds) > _KINDS:
        ranks = stats.rankdata(values)
        p = float(stats.mannwhitneyu(ranks[inside], ranks[~inside]).pvalue)
        middle, besides = (_middle(values[rows]) for rows in (inside, ~inside))
        return Association(column, p, f"median of {column} is {middle} in the group, {besides} besides")
    values, kinds = _with_rare_together(values, kinds, counts)
    if len(kinds) < 2:
        return None
    table = np.array([[(values[rows] == kind).sum() for kind in kinds] for rows in (inside, ~inside)])
    exact = table.shape[1] == 2
    p = float(stats.fisher_exact(table).pvalue if exact else stats.chi2_contingency(table).pvalue)
    shares = table / table.sum(1, keepdims=True)
    top = int(np.argmax(shares[0] - shares[1]))
    said = f"{column} is {_plain(kinds[top])} in {shares[0, top]:.0%} of the group, in {shares[1, top]:.0%} besides"
    return Association(column, p, said)


def corrected(found: list[tuple[int, Association]]) -> list[tuple[int, Association]]:
    """Return associations with p corrected for their number, by Holm.

    >>> corrected([(0, Association("a", 0.01, "")), (1, Association("a", 0.5, ""))])[0][1].p
    0.02
    """
    order = sorted(range(len(found)), key=lambda i: found[i][1].p)
    worst, result = 0.0, list(found)
    for rank, i in enumerate(order):
        group, one = found[i]
        worst = min(1.0, max(worst, one.p * (len(found) - rank)))
        result[i] = group, Association(one.column, worst, one.said)
    return result


def _with_rare_together(values: np.ndarray, kinds: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values of which kinds that hardly occur count as one, and the kinds: the test needs some of each."""
    if len(kinds) == 2 or not (counts < _RARE).any():
        return values, kinds
    rest = np.isin(values, kinds[counts < _RARE])
    together = np.where(rest, "another", np.array([_plain(value) for value in values], dtype=object))
    return together, np.unique(together.astype(str)).astype(object)


def _missing(value: Any) -> bool:
    """Whether there is no value: None, NaN, no time, or what pandas has for it, which is not even unequal."""
    try:
        return value is None or bool(value != value)  # noqa: PLR0124 - what is missing is not itself
    except (TypeError, ValueError) as fault:
        # Pandas' NA says of nothing whether it is so; an array says it of each of its own.
        return isinstance(fault, TypeError)


def _of_one_kind(values: np.ndarray) -> np.ndarray:
    """Return numbers and times as such, also where they stood beside what is missing, and all else as text."""
    if values.dtype.kind == "O":
        if len(values) and all(isinstance(value, datetime.date) for value in values):
            return _times(values)
        flat = all(isinstance(value, bool | int | float | str | np.number | np.bool_) for value in values)
        values = np.array(values.tolist() if flat else [str(value) for value in values])
    if values.dtype.kind == "m":
        return values / np.timedelta64(1, "s")
    values = values if values.dtype.kind in "biufMU" else values.astype(str)
    if values.dtype.kind == "U" and len(values) and all(map(_DATE.match, values.tolist())):
        try:
            return _times(np.array([datetime.datetime.fromisoformat(value) for value in values.tolist()]))
        except ValueError:
            return values
    return values


def _times(values: np.ndarray) -> np.ndarray:
    """Return dates and times as seconds of one clock; those that say a zone, by it."""
    found = []
    for value in values.tolist():
        when = value if isinstance(value, datetime.datetime) else datetime.datetime(*value.timetuple()[:3])
        found.append(when.astimezone(datetime.UTC).replace(tzinfo=None) if when.tzinfo else when)
    return np.array(found, dtype="datetime64[s]")


def _middle(values: np.ndarray) -> str:
    if values.dtype.kind == "M":
        return str(np.sort(values)[len(values) // 2].astype("datetime64[s]"))
    return f"{np.median(values):.3g}"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)
