"""Side information as targets: which dimensions of the code a column gets, and what is to be read there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.errors import DataError, OptionError

__all__ = ["BERNOULLI", "GAUSSIAN", "KINDS", "PLACES", "Column", "columns_of", "targets_of"]

#: What a dimension of the code says: yes or no; one of several values along a line; a number.
BERNOULLI, PLACES, GAUSSIAN = 0, 1, 2
#: What a column of side information may be.
KINDS = ("auto", "binary", "classes", "ordinal", "single", "measured")
#: Whole numbers with at most this many values are classes, where nothing else is said.
_MOST_CLASSES = 20


@dataclass(frozen=True)
class Column:
    """One column of side information.

    Args:
        kind: ``"binary"``, ``"classes"`` (a dimension for each), ``"ordinal"`` (one dimension, values in their
            order), ``"single"`` (one dimension, values in an order that is found) or ``"measured"``.
        levels: its values, in order; of a measured one mean and standard deviation.
    """

    kind: str
    levels: tuple[float, ...]

    @property
    def width(self) -> int:
        """How many dimensions of the code it takes."""
        return len(self.levels) if self.kind == "classes" else 1

    @property
    def reading(self) -> int:
        """What each of its dimensions says."""
        return {"ordinal": PLACES, "single": PLACES, "measured": GAUSSIAN}.get(self.kind, BERNOULLI)


def columns_of(table: Tensor, kinds: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of side information ``(n, A)``.

    Args:
        table: NaN where not observed.
        kinds: one of :data:`KINDS` for each column, or none, which is ``"auto"`` for all. ``"classes:5"`` (or
            ``"ordinal:5"``, ``"single:5"``) says that the values are 0 to 4, also where they are not observed yet.

    Raises:
        OptionError: kinds do not fit.
        DataError: a column holds nothing to learn.
    """
    count = table.shape[1]
    if kinds and len(kinds) != count:
        raise OptionError("kinds do not fit side_info", given=f"{len(kinds)} kinds", allowed=f"{count}")
    if strange := [kind for kind in kinds if not _is_kind(kind)]:
        raise OptionError(
            "kinds of side_info are wrong",
            given=", ".join(map(repr, strange)),
            allowed=", ".join(KINDS) + ", or with a number of values, such as classes:5",
        )
    return tuple(_column(a, table[:, a], (kinds or ("auto",) * count)[a]) for a in range(count))


def targets_of(table: Tensor, columns: Sequence[Column]) -> Tensor:
    """Return what each assigned dimension should say, ``(n, C)``, NaN where not observed.

    Args:
        table: ``(n, A)``.
        columns: of these A columns.

    Raises:
        DataError: another number of columns, or a value that the column does not have.
    """
    if table.dim() != 2 or table.shape[1] != len(columns):
        raise DataError("side_info does not fit", given=tuple(table.shape), allowed=f"(n, {len(columns)})")
    parts = []
    for a, column in enumerate(columns):
        values, seen = table[:, a].double(), ~table[:, a].isnan()
        if column.kind == "measured":
            mean, spread = column.levels
            parts.append(((values - mean) / spread).unsqueeze(1))
            continue
        levels = torch.tensor(column.levels, dtype=torch.float64)
        filled = torch.where(seen, values, levels[0])
        index = _nearest(filled, levels)
        nearest = levels[index]
        # One of both tables may have been rounded to single precision.
        wrong = (nearest != filled) & (nearest.float() != filled) & (nearest != filled.float())
        if bool(wrong.any()):
            raise DataError(
                f"side_info: column {a} has a value that it does not know",
                given=f"{float(filled[wrong][0]):.10g}",
                allowed=", ".join(f"{level:.10g}" for level in column.levels),
                do="where not all values are observed yet, say at fit how many there are: kinds=('classes:5', ...) "
                "for 0 to 4",
            )
        found = index.double().unsqueeze(1)
        if column.kind == "classes":
            found = torch.nn.functional.one_hot(index, len(levels)).double()
        parts.append(torch.where(seen.unsqueeze(1), found, torch.nan))
    return torch.cat(parts, 1).float()


def _nearest(values: Tensor, levels: Tensor) -> Tensor:
    """Return the position of the level ``(L,)``, in ascending order, that is nearest to each value ``(n,)``."""
    above = torch.searchsorted(levels, values).clamp_max(len(levels) - 1)
    below = (above - 1).clamp_min(0)
    return torch.where((values - levels[below]).abs() < (levels[above] - values).abs(), below, above)


def _is_kind(kind: str) -> bool:
    name, _, size = kind.partition(":")
    sized = name in ("classes", "ordinal", "single") and size.isdecimal() and 2 <= int(size) <= 1000
    return name in KINDS and (not size or sized) and not kind.endswith(":")


def _column(a: int, values: Tensor, kind: str) -> Column:
    observed = values[~values.isnan()].double()
    if not bool(observed.isfinite().all()):
        raise DataError(f"side_info: column {a} is not finite", allowed="finite numbers, NaN where not observed")
    kind, _, size = kind.partition(":")
    known = tuple(observed.unique().tolist())
    if size:
        return Column(kind, tuple(map(float, range(int(size)))))
    if kind == "binary" and set(known) <= {0.0, 1.0}:
        return Column(kind, (0.0, 1.0))
    if len(known) < 2:
        raise DataError(
            f"side_info: column {a} cannot be learned",
            given=f"{len(known)} different values",
            allowed="two or more; or say what it will be, as kinds=('binary', 'classes:5')",
        )
    if kind == "auto":
        whole = all(value.is_integer() for value in known) and len(known) <= _MOST_CLASSES
        kind = "measured" if not whole else "binary" if len(known) == 2 else "classes"
    if kind == "measured":
        return Column(kind, (float(observed.mean()), float(observed.std(correction=0))))
    if kind == "binary" and len(known) != 2:
        raise DataError(f"side_info: column {a} is not binary", given=f"{len(known)} values", allowed="two")
    return Column(kind, known)
