"""Side information as attributes that are learned: yes or no, or numbers in standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.errors import DataError, OptionError

__all__ = ["Attributes", "attributes_of"]

#: Names of the lens's own, with which attributes share one space; and what those of its classes begin with.
_RESERVED, _OF_CLASSES = ("everything else", "class evidence"), "evidence for "


@dataclass(frozen=True)
class Attributes:
    """Attributes of the inputs of a fit, ready to be learned.

    Args:
        values: ``(n, A)``, NaN where not observed; columns that are not 0 and 1 are standardised.
        binary: ``(A,)`` which columns are 0 and 1.

    >>> import torch
    >>> Attributes.of(torch.tensor([[0.0, 1990.0], [1.0, 2000.0], [torch.nan, 2010.0]])).values
    tensor([[ 0.0000, -1.2247],
            [ 1.0000,  0.0000],
            [    nan,  1.2247]])
    """

    values: Tensor
    binary: Tensor

    @property
    def coded(self) -> Tensor:
        """The values ``(n, A)`` as conditions: yes is 1, no is -1, NaN where not observed."""
        return torch.where(self.binary, 2 * self.values - 1, self.values)

    @classmethod
    def of(cls, table: Tensor) -> Attributes:
        """Return the columns of side information ``(n, A)``."""
        # Columns such as years differ by little of their size, which float32 sums would lose.
        table = table.double()
        seen = table.isfinite()
        binary = ((table == 0) | (table == 1) | ~seen).all(0)
        count = seen.sum(0).clamp_min(1)
        filled = torch.where(seen, table, torch.zeros_like(table))
        mean = filled.sum(0) / count
        spread = (torch.where(seen, table - mean, torch.zeros_like(table)).square().sum(0) / count).sqrt()
        scaled = (table - mean) / spread.clamp_min(1e-8)
        return cls(torch.where(binary, table, scaled).to(torch.float32), binary)


def attributes_of(backend: str, side_info: Tensor | None, names: Sequence[str]) -> Attributes | None:
    """Return the attributes that a fit learns, or None where there is no side information.

    Args:
        backend: named in errors.
        side_info: ``(n, A)``, NaN where not observed.
        names: of the columns, or none.

    Raises:
        OptionError: names do not fit the columns, or are names of the lens's own.
        DataError: a column holds nothing to learn.
    """
    if side_info is None:
        if names:
            raise OptionError(
                f"{backend}: attributes are named, but there are none",
                given=f"attributes={tuple(names)} without side_info",
                do="pass side_info, one column for each name",
            )
        return None
    _check_names(backend, names, side_info.shape[1])
    for column, values in enumerate(side_info.T):
        observed = values[~values.isnan()]
        finite = bool(observed.isfinite().all())
        if not finite or len(observed.unique()) < 2:
            raise DataError(
                f"{backend}: column {column} of side_info cannot be learned",
                given="fewer than two values" if finite else "values that are not finite",
                allowed="finite numbers that differ, NaN where not observed",
                do="drop the column, or observe it on more inputs",
            )
    return Attributes.of(side_info)


def _check_names(backend: str, names: Sequence[str], count: int) -> None:
    if names and (len(names) != count or len(set(names)) != count):
        raise OptionError(
            f"{backend}: attributes do not fit side_info",
            given=f"{len(names)} names, {len(set(names))} different",
            allowed=f"{count} different names, one for each column",
        )
    if taken := [n for n in names if n in _RESERVED or n.startswith(_OF_CLASSES)]:
        raise OptionError(
            f"{backend}: an attribute cannot be called {taken[0]!r}, which is a name of the lens's own",
            allowed=f"anything but {', '.join(map(repr, _RESERVED))} and what begins with {_OF_CLASSES!r}",
        )
