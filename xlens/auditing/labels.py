"""True classes beside the data of an audit: of what was given as labels, and is none, an error says why."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from xlens.classifier.pieces import in_pieces
from xlens.data import Batch, Data
from xlens.data.source import MappedData
from xlens.errors import DataError
from xlens.fitted import Fitted

__all__ = ["labelled"]


def labelled(data: Data, fitted: Fitted, who: str) -> Data:
    """Return data whose labels are those that the lens is about, or none where none were given.

    Beside a lens about one of several labels may lie a table of all of them, ``(N, K)``, or a data frame that has a
    column of its name: that label's column is taken.

    Args:
        data: the user's. When they are read, what was given as labels and is none is refused with a DataError.
        fitted: classifier and lens.
        who: named in errors.
    """
    return _Labelled(data, fitted, who)


class _Labelled(MappedData):
    """Data as they are, with labels as the lens is about them."""

    def __init__(self, data: Data, fitted: Fitted, who: str) -> None:
        super().__init__(data, self._read)
        self._fitted, self._who = fitted, who
        self.column_names = data.column_names
        # So many labels the model has; counted when there is a table beside the inputs.
        self._count: int | None = None

    def _read(self, batch: Batch) -> Batch:
        if self._fitted.classifier.label is not None and batch.columns is not None:
            return dataclasses.replace(batch, labels=self._column(batch, batch.columns))
        if batch.refused:
            raise DataError(
                f"{self._who}: what lies beside the inputs cannot be used as labels",
                given=batch.refused,
                allowed="a class for each input: whole numbers (n,) or one-hot rows (n, K)",
                do="pass (X, y); for an audit the inputs alone will do",
            )
        return batch

    def _column(self, batch: Batch, table: Tensor) -> Tensor | None:
        """Return whether the lens's label holds, ``(n,)``, of a table of all labels."""
        classifier = self._fitted.classifier
        label, names = classifier.label or 0, classifier.labels or ()
        called = repr(names[label]) if names else f"number {label}"
        place, fault = label, ""
        if set(names) & set(self.column_names):
            # A data frame's columns are in an order of their own.
            if self.column_names.count(names[label]) == 1:
                place = self.column_names.index(names[label])
            else:
                fault = f"columns {', '.join(self.column_names[:5])}"
        elif table.shape[1] != (count := self._labels_of_the_model(batch.inputs)):
            if table.shape[1] == 2 and batch.labels is not None:
                # One-hot rows of the label's absence and presence.
                return batch.labels
            fault = f"{table.shape[1]} columns, and the model has {count} labels"
        if not fault:
            column = table[:, place]
            odd = column[(column != 0) & (column != 1)]
            if not len(odd):
                return column
            fault = f"{odd[0].item():g} in that column"
        raise DataError(
            f"{self._who}: the lens is about the label {called}, which a table of all labels does not say",
            given=fault,
            allowed="(n, K) of the model's K labels in its order, or a data frame with their names, of 0 and 1",
            do=f"pass the column of that label alone, 0 or 1: (X, Y[:, {label}])",
        )

    def _labels_of_the_model(self, inputs: Tensor) -> int:
        if self._count is None:
            every = self._fitted.classifier.about(None)
            with self._fitted.asking():
                self._count = in_pieces(every, inputs[:1].to(self._fitted.device)).shape[1]
        return self._count
