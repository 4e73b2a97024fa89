"""Ctrl-C while somebody else's model is changed or put back: held until that is done."""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

__all__ = ["Watch", "caught", "own_lines_uninterrupted", "tried", "uninterrupted", "watch"]

F = TypeVar("F", bound=Callable[..., Any])

#: What must not be left half way, with everything that it calls.
_WHOLE: set[CodeType] = set()
#: What must not be left from its own lines, because it has entered a context that nobody would leave.
_OWN_LINES: set[CodeType] = set()
#: The same, in the library's helpers for contexts.
_CONTEXTS = contextlib.__file__
#: Seconds after which what is held back comes again: soon at first, and rarely while something long goes on.
_AGAIN_AFTER, _AT_MOST = 0.001, 0.05


def uninterrupted(function: F) -> F:
    """Decorate what Ctrl-C must not stop, with everything that it calls."""
    _WHOLE.add(function.__code__)
    return function


def own_lines_uninterrupted(function: F) -> F:
    """Decorate what Ctrl-C must not stop in its own lines; what it calls may be stopped, as waiting has to be."""
    _OWN_LINES.add(function.__code__)
    return function


def tried(step: Callable[[], None]) -> list[BaseException]:
    """Take a step, and once more where it fails, as the fault may come from outside; return what went wrong."""
    try:
        step()
    except BaseException as first:  # noqa: BLE001 - also what another thread sends to this one
        try:
            step()
        except BaseException as second:  # noqa: BLE001
            return [second]
        # The step is taken; an interruption still has to reach whom it was meant for.
        return [] if isinstance(first, Exception) else [first]
    return []


def caught(step: Callable[[], None]) -> list[BaseException]:
    """Take a step once, and return what went wrong."""
    try:
        step()
    except BaseException as fault:  # noqa: BLE001 - also what another thread sends to this one
        return [fault]
    return []


class Watch:
    """Ctrl-C goes to the handler that the program has, but not in the middle of what has to be done as a whole.

    Python calls a handler between any two lines, also between the end of a ``with`` block and the clean-up that
    follows it. This one looks where it was called, and comes back a little later if that is such a place. Handlers
    belong to the main thread: in others nothing is done, and nothing needs to be.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._previous: Any = None
        #: A press that was held back; who takes it out hands it on.
        self._held_back: list[int] = []
        self._again_after = _AGAIN_AFTER

    @uninterrupted
    def begin(self) -> int | None:
        """Begin to watch, in the main thread; return what :meth:`end` is to be given, if anything is."""
        if threading.current_thread() is not threading.main_thread():
            return None
        begun = self._depth
        try:
            if not begun:
                previous = signal.getsignal(signal.SIGINT)
                if not callable(previous):
                    return None
                # `==`, because methods are made anew whenever they are asked for.
                if previous != self._handle:
                    self._previous, self._again_after = previous, _AGAIN_AFTER
                    signal.signal(signal.SIGINT, self._handle)
            self._depth = begun + 1
            return begun
        except BaseException:
            self._depth = begun + 1
            self.end(begun)
            raise

    @uninterrupted
    def end(self, begun: int | None) -> None:
        """Give the program its handler back; contexts within this one that were never ended are ended with it."""
        if begun is None or begun >= self._depth:
            return
        # A handler that was placed meanwhile is somebody else's business.
        ours = not begun and signal.getsignal(signal.SIGINT) == self._handle
        if ours:
            signal.signal(signal.SIGINT, self._previous)
        # Only now: where something that no handler can hold back stops this, it can be done again.
        self._depth = begun
        if ours and self._taken():
            signal.raise_signal(signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if _must_go_on(frame):
            if not self._held_back:
                self._held_back.append(number)
                # A thread of the lowest level: what was interrupted may hold the locks of the higher one.
                _thread.start_new_thread(self._press_again, ())
            return
        self._again_after = _AGAIN_AFTER
        if callable(self._previous):
            self._previous(number, frame)

    def _press_again(self) -> None:
        time.sleep(self._again_after)
        self._again_after = min(2 * self._again_after, _AT_MOST)
        main = threading.main_thread().ident
        if not self._taken():
            return
        # A signal, where there are any, also ends what the main thread may be waiting for by then.
        if hasattr(signal, "pthread_kill") and main is not None:
            signal.pthread_kill(main, signal.SIGINT)
        else:
            _thread.interrupt_main(signal.SIGINT)

    def _taken(self) -> bool:
        try:
            self._held_back.pop()
        except IndexError:
            return False
        return True


watch = Watch()


def _must_go_on(frame: FrameType | None) -> bool:
    if frame is not None and (frame.f_code in _OWN_LINES or frame.f_code.co_filename == _CONTEXTS):
        return True
    while frame is not None:
        if frame.f_code in _WHOLE:
            return True
        frame = frame.f_back
    return False
