"""Ctrl-C and SIGTERM while something is trained: first the step in hand is finished and kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Stop", "stops_deferred"]

#: Ctrl-C, and what batch systems and containers send before they kill.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """What asked a training to stop."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether this process was asked to stop."""
        return self._number is not None

    def leave(self) -> None:
        """Stop now, as the first signal says; where another process was asked, as on Ctrl-C.

        Raises:
            KeyboardInterrupt: on Ctrl-C.
            SystemExit: on SIGTERM, with the exit code that shells give it; what the program's own handler raises
                goes first.
        """
        if self._number == signal.SIGTERM:
            self._at_once(signal.SIGTERM, None)
        raise KeyboardInterrupt

    def handle(self, number: int, frame: Any) -> None:
        """Note the first signal; a second one stops at once, in the middle of a step."""
        if self.asked:
            self._at_once(number, frame)
        self._number = self._number or number

    def _at_once(self, number: int, frame: Any) -> None:
        previous = self._previous.get(number)
        if callable(previous):
            previous(number, frame)
        if number == signal.SIGTERM:
            # The default would end the process here and now, and leave nobody's files and locks in order.
            raise SystemExit(128 + number)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within this context signals are noted; afterwards the program's own handlers are back."""
        try:
            for one in _SIGNALS:
                if _defers(one):
                    self._previous[one] = signal.signal(one, self.handle)
            yield
        finally:
            for number, previous in self._previous.items():
                # None stands for a handler that was not installed from Python, which cannot be put back from here.
                signal.signal(number, signal.SIG_DFL if previous is None else previous)


def _defers(number: int) -> bool:
    """Whether a signal is deferred: one that the program ignores stays ignored, but for Ctrl-C."""
    return number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN


@contextmanager
def stops_deferred() -> Iterator[Stop]:
    """Let the step in hand finish, so that what is saved is a state between two steps.

    Only the main thread is sent signals: in another one nothing is deferred.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with stop.installed():
        yield stop
