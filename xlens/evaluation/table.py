"""The result of an evaluation, as data: figures with their intervals and the values behind them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from xlens.errors import OptionError, UnsupportedError, did_you_mean

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure as Picture

__all__ = ["Difference", "Evaluation", "Figure", "interval"]

_RESAMPLES = 1999
#: Numbers that are drawn at once, which bounds the memory.
_DRAWN = 4_000_000


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Figure:
    """One figure of one contender.

    Args:
        contender: who is judged: ``"lens"``, ``"lens: method"``, or the method alone where no lens plays a part.
        name: what is measured.
        value: the mean over inputs, or a figure of the whole set.
        low, high: bootstrap interval of the mean; None for a figure of the whole set, or of fewer than two inputs.
        better: ``"higher"``, ``"lower"``, or ``""`` where neither is better as such.
        values: ``(m,)`` one per input that counts; empty for a figure of the whole set.
        index: ``(m,)`` which inputs these are.
    """

    contender: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    better: str = ""
    values: Tensor = field(default_factory=lambda: torch.empty(0))
    index: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def __repr__(self) -> str:
        """Return a line that fits a terminal."""
        return f"Figure({self.contender}: {self.name} {self.text()})"

    def text(self, digits: int = 3) -> str:
        """Return the value with its interval.

        >>> Figure(contender="random", name="iou", value=0.05, low=0.04, high=0.0612).text()
        '0.050 (0.040 to 0.061)'
        """
        inside = "" if self.low is None else f" ({self.low:.{digits}f} to {self.high:.{digits}f})"
        return f"{self.value:.{digits}f}{inside}"


@dataclass(frozen=True)
class Difference:
    """How far one contender is ahead of another in a figure, on the same inputs.

    Args:
        value: mean of the first minus the second, input by input.
        low, high: its bootstrap interval over inputs.
        count: number of inputs on which both have the figure.
    """

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Evaluation:
    """Figures of one or several lenses and attribution methods on the same inputs.

    Args:
        figures: all of them, lens by lens and method by method.
        count: number of inputs.
        index: ``(count,)`` their positions in the data, where these have any.
        confidence: of the intervals.
        seed: decided which inputs, and every resampling.
        notes: what was left out, and why.

    >>> import xlens
    >>> found = xlens.evaluate(explainer, images, methods=("lig", "random"), n=8, progress=False)
    >>> found.get("flips", "medxgan").better, "medxgan: lig" in found.contenders
    ('higher', True)
    """

    figures: tuple[Figure, ...]
    count: int
    index: Tensor
    confidence: float
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def contenders(self) -> tuple[str, ...]:
        """Everybody who is judged, in order."""
        return tuple(dict.fromkeys(figure.contender for figure in self.figures))

    @property
    def maps(self) -> tuple[str, ...]:
        """Those of the contenders that are attributions; the others are lenses."""
        # Every map has this figure, and no lens has it.
        return tuple(figure.contender for figure in self.figures if figure.name == "sparseness")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all figures, in order."""
        return tuple(dict.fromkeys(figure.name for figure in self.figures))

    def get(self, name: str, contender: str) -> Figure:
        """Return one figure.

        Raises:
            OptionError: there is none of that name, or not of that contender.
        """
        for what, given, known in (("figure", name, self.names), ("contender", contender, self.contenders)):
            if given not in known:
                near = did_you_mean(given, known)
                raise OptionError(f"Evaluation: there is no {what} {given!r}.{near}", allowed=", ".join(known))
        for figure in self.figures:
            if (figure.name, figure.contender) == (name, contender):
                return figure
        having = [figure.contender for figure in self.figures if figure.name == name]
        raise OptionError(f"Evaluation: {contender!r} has no figure {name!r}", allowed=", ".join(having))

    def compare(self, name: str, first: str, second: str) -> Difference:
        """Return how far `first` is ahead of `second` in a figure, with a paired bootstrap interval.

        Raises:
            OptionError: one of them does not have it, or not for each input.

        >>> import xlens
        >>> found = xlens.evaluate(explainer, images, methods=("lig", "random"), n=8, progress=False)
        >>> found.compare("sparseness", "medxgan: lig", "random").count
        8
        """
        one, other = self.get(name, first), self.get(name, second)
        both = sorted(set(one.index.tolist()) & set(other.index.tolist()))
        if len(both) < 2:
            raise OptionError(
                f"Evaluation: {name!r} of {first!r} and {second!r} cannot be paired",
                given=f"{len(both)} inputs in common",
                allowed="a figure of each input, two at least in common",
            )
        at = [dict(zip(f.index.tolist(), f.values.tolist(), strict=True)) for f in (one, other)]
        differences = torch.tensor([at[0][i] - at[1][i] for i in both], dtype=torch.float64)
        low, high = interval(differences, self.confidence, self.seed) or (float("nan"),) * 2
        return Difference(float(differences.mean()), low, high, len(both))

    def to_markdown(self) -> str:
        """Return tables: one of the lenses and judges, one of the attributions, and what was left out."""
        maps = list(self.maps)
        rest = [contender for contender in self.contenders if contender not in maps]
        lens_names = _named(self.figures, rest)
        blocks = [_transposed(self.figures, rest, lens_names), _table(self.figures, maps)]
        share = f"{self.confidence:.0%}"
        said = f"{self.count} inputs; in brackets {share} bootstrap intervals; arrows point to what is better."
        notes = [f"- {note}" for note in self.notes]
        return "\n\n".join(part for part in (*blocks, said, "\n".join(notes)) if part)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a pandas DataFrame with a row for each figure.

        Raises:
            UnsupportedError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UnsupportedError(
                "Evaluation.to_dataframe: pandas is not installed",
                do="pip install pandas, or take .records(), which needs nothing",
            ) from None
        return pandas.DataFrame(self.records())

    def records(self) -> list[dict[str, Any]]:
        """Return each figure as a plain dict, for JSON and tables."""
        return [
            {
                "contender": figure.contender,
                "figure": figure.name,
                "value": figure.value,
                "low": figure.low,
                "high": figure.high,
                "count": len(figure.values) or self.count,
                "better": figure.better,
            }
            for figure in self.figures
        ]

    def plot(self) -> Picture:
        """Draw each figure of the attributions as points with intervals, and return the matplotlib figure."""
        from xlens.plot.evaluation import plot_evaluation

        return plot_evaluation(self)

    def __repr__(self) -> str:
        """Return the tables: what one wants to see at a prompt."""
        return self.to_markdown()

    def _repr_markdown_(self) -> str:
        """Return what a notebook shows."""
        return self.to_markdown()


def interval(values: Tensor, confidence: float, seed: int) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of the mean of values ``(m,)``; None for fewer than two.

    >>> import torch
    >>> interval(torch.ones(5), 0.95, 0)
    (1.0, 1.0)
    """
    if len(values) < 2:
        return None
    if bool((values == values[0]).all()):
        return float(values[0]), float(values[0])
    from scipy.stats import bootstrap

    found = bootstrap(
        (values.double().cpu().numpy(),),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, _DRAWN // len(values)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _named(figures: Iterable[Figure], contenders: list[str]) -> list[str]:
    return list(dict.fromkeys(f.name for f in figures if f.contender in contenders))


def _arrow(figures: Iterable[Figure], name: str) -> str:
    better = next(f.better for f in figures if f.name == name)
    return name + {"higher": " ↑", "lower": " ↓"}.get(better, "")


def _table(figures: tuple[Figure, ...], contenders: list[str]) -> str:
    """Return a table with a row for each contender."""
    names = _named(figures, contenders)
    if not names:
        return ""
    cells = {(f.contender, f.name): f.text() for f in figures}
    lines = ["| | " + " | ".join(_arrow(figures, name) for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {c} | " + " | ".join(cells.get((c, name), "") for name in names) + " |" for c in contenders]
    return "\n".join(lines)


def _transposed(figures: tuple[Figure, ...], contenders: list[str], names: list[str]) -> str:
    """Return a table with a row for each figure."""
    if not names:
        return ""
    cells = {(f.contender, f.name): f.text() for f in figures}
    lines = ["| | " + " | ".join(contenders) + " |", "|---" * (len(contenders) + 1) + "|"]
    lines += [
        f"| {_arrow(figures, name)} | " + " | ".join(cells.get((c, name), "") for c in contenders) + " |"
        for name in names
    ]
    return "\n".join(lines)
