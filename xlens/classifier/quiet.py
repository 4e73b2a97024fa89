"""Warnings that are dropped while one thread has the turn, and given again while others have theirs."""

from __future__ import annotations

import warnings
from typing import ClassVar

from xlens.classifier.contexts import Context
from xlens.classifier.interrupts import caught, uninterrupted

__all__ = ["Quiet", "quiet"]


class Quiet(Context[None]):
    """What :func:`quiet` returns."""

    #: Those of the thread that has the turn, the outermost first.
    all: ClassVar[list[Quiet]] = []
    _catching: warnings.catch_warnings[None] | None = None

    def __init__(self, category: type[Warning]) -> None:
        self._category = category

    @uninterrupted
    def begin(self) -> None:
        """Drop warnings."""
        Quiet.all.append(self)
        self._drop()

    @uninterrupted
    def end(self) -> None:
        """Let them be given again."""
        self._let()
        if self in Quiet.all:
            Quiet.all.remove(self)

    @staticmethod
    def set_aside() -> tuple[Quiet, ...]:
        """Let all warnings be given, and return what :meth:`again` is to be given."""
        aside = tuple(Quiet.all)
        for one in reversed(aside):
            one._let()
        Quiet.all = []
        return aside

    @staticmethod
    def again(aside: tuple[Quiet, ...]) -> list[BaseException]:
        """Drop them again; return what went wrong."""
        Quiet.all = list(aside)
        return [fault for one in aside for fault in caught(one._drop)]

    def _drop(self) -> None:
        if self._catching is None:
            self._catching = warnings.catch_warnings()
            self._catching.__enter__()
            warnings.simplefilter("ignore", self._category)

    def _let(self) -> None:
        catching, self._catching = self._catching, None
        if catching is not None:
            catching.__exit__(None, None, None)


def quiet(category: type[Warning] = Warning) -> Quiet:
    """Within this context warnings of a kind are dropped; others who have a turn meanwhile get theirs.

    Python has one list of what is dropped, for all threads: this is for the thread that has the turn.

    >>> with quiet(UserWarning):
    ...     warnings.warn("dropped")
    """
    return Quiet(category)
