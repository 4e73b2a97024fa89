"""Contexts whose end is reached whatever comes in between, also what no signal handler can hold back."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from xlens.classifier.interrupts import caught, own_lines_uninterrupted, uninterrupted, watch

__all__ = ["Context"]

T = TypeVar("T")


class _Entered(threading.local):
    """The contexts that this thread is in, the outermost first; they live as long as somebody else needs them."""

    def __init__(self) -> None:
        self.contexts: list[weakref.ref[Context[Any]]] = []


_entered = _Entered()


class _WayOut:
    """A context's ``__exit__``, which does not keep the context alive while it runs.

    Python looks for what another thread has sent when a function is called, before its first line. The frame in
    which that happens, and the traceback that keeps the frame, know the context by a weak reference alone. The
    `with` block has the other one and drops it, so that ``__del__`` ends what could not be left.
    """

    def __get__(self, context: Context[Any] | None, kind: type) -> Callable[..., None]:
        if context is None:
            # An ExitStack asks the class.
            return _left
        leave = functools.partial(_leave, weakref.ref(context))
        vars(leave)["context"] = context
        return leave


@own_lines_uninterrupted
def _leave(context: weakref.ref[Context[Any]], *fault: object) -> None:
    # Whatever stops the one is over when the other is tried.
    try:
        _over(context)
    finally:
        _over(context, again=True)


@own_lines_uninterrupted
def _left(context: Context[Any], *fault: object) -> None:
    _leave(weakref.ref(context))


@uninterrupted
def _over(reference: weakref.ref[Context[Any]], again: bool = False) -> None:
    context = reference()
    if context is not None:
        context.over(again)


class Context(Generic[T]):
    """A context of one thread. Contexts within it that were never left are left with it.

    A subclass gives :meth:`begin`, and :meth:`end`, which puts back whatever `begin` has done so far and may be
    called again, whether it came to its end or not.
    """

    _watching: int | None = None
    _thread: int | None = None
    _reference: weakref.ref[Context[Any]] | None = None

    def begin(self) -> T:
        """Set up what the context is for."""
        raise NotImplementedError

    def end(self) -> None:
        """Put back what `begin` has set up; do nothing where that is done."""
        raise NotImplementedError

    def drop(self) -> None:
        """Put back what any thread can: the one that entered has dropped the context without leaving it."""

    @own_lines_uninterrupted
    def __enter__(self) -> T:
        try:
            self._thread = threading.get_ident()
            self._watching = watch.begin()
            self._reference = weakref.ref(self)
            _entered.contexts.append(self._reference)
            return self.begin()
        except BaseException:
            self._surely_over()
            raise

    if TYPE_CHECKING:

        def __exit__(self, *fault: object) -> None: ...

    else:
        __exit__ = _WayOut()

    @uninterrupted
    def over(self, again: bool = False) -> None:
        """End this context and those within it.

        Args:
            again: give up what fails.

        Raises:
            BaseException: something could not be put back, or came meanwhile; everything else was tried.
        """
        if self._thread is None:
            return
        # Where something that no handler can hold back stops this, all of it is done again.
        faults = caught(self._end_within) + caught(self.end)
        if again or not faults:
            self._forget()
            watch.end(self._watching)
            self._thread = None
        if faults:
            raise next((fault for fault in faults if not isinstance(fault, Exception)), faults[0])

    @uninterrupted
    def __del__(self) -> None:
        # Only where what no handler can hold back has kept the context from being left.
        if self._thread == threading.get_ident():
            self._surely_over()
        elif self._thread is not None:
            self.drop()

    def _surely_over(self) -> None:
        try:
            self.over()
        finally:
            self.over(again=True)

    def _end_within(self) -> None:
        known = _entered.contexts
        if self._reference is None or self._reference not in known:
            return
        faults: list[BaseException] = []
        for reference in reversed(known[known.index(self._reference) + 1 :]):
            context = reference()
            if context is not None:
                faults += caught(context.end)
        if faults:
            raise faults[0]

    def _forget(self) -> None:
        known = _entered.contexts
        if self._reference is not None and self._reference in known:
            del known[known.index(self._reference) :]
