"""Progress for whoever waits: a bar on a terminal, and now and then a line in the log where there is none."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from tqdm.auto import tqdm

__all__ = ["Bar"]

_LOGGER = logging.getLogger("xlens")
#: Seconds between two lines of a log.
_EVERY = 30.0


class Bar(tqdm):  # type: ignore[misc]  # tqdm declares no types
    """tqdm's bar; with ``disable=None`` it logs under ``xlens`` where there is no terminal, twice a minute.

    >>> from xlens.training.bar import Bar
    >>> with Bar(total=3, desc="survey", disable=True) as bar:
    ...     bar.update(1)
    """

    def __init__(self, *, disable: bool | None = False, **options: Any) -> None:
        self._logs = disable is None and not sys.stderr.isatty()
        self._began = self._said = time.monotonic()
        super().__init__(disable=True if self._logs else disable, **options)
        self._first = self.n
        # One that is not shown keeps nothing of this.
        self._what, self._of = str(options.get("desc")), str(options.get("unit", "step"))

    def update(self, n: float | None = 1) -> bool | None:
        """Move on by `n`."""
        if not self._logs:
            return super().update(n)
        self.n += n or 0
        now = time.monotonic()
        if now - self._said >= _EVERY and self.n > self._first:
            self._said = now
            _LOGGER.info(self._line(now - self._began))
        return None

    def _line(self, seconds: float) -> str:
        taken = self.format_interval(seconds)
        if not self.total:
            return f"{self._what}: {self.n} {self._of}s in {taken}"
        left = seconds * (self.total - self.n) / (self.n - self._first)
        return f"{self._what}: {self.n} of {self.total} in {taken}, about {self.format_interval(left)} left"
