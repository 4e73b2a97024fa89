"""What a step takes, from the first ones of a training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["StepWatch"]

#: Steps that are timed at most, and seconds after which it is known well enough.
_MOST, _ENOUGH = 10, 0.5


class StepWatch:
    """Times the first steps of a training, and tells once what one takes.

    They are steps of the training itself: what is timed cannot change what comes out. The first is left out, in
    which memory is found and kernels are chosen, unless it is the only one or long enough by itself.

    Args:
        tell: is told the phase, the number of steps, and the seconds of one; None to time nothing.
        phase: what the training is called.
        steps: how many it takes from here.
    """

    def __init__(self, tell: Callable[[str, int, float], None] | None, phase: str, steps: int) -> None:
        self._tell, self._phase, self._steps = tell, phase, steps
        self._first: float | None = None
        self._seconds: list[float] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """Within this context one step is taken; one that fails is not counted."""
        began = time.perf_counter()
        yield
        if self._tell is not None:
            self._add(time.perf_counter() - began)

    def _add(self, seconds: float) -> None:
        if self._first is None:
            self._first = seconds
            known = self._steps == 1 or seconds > _ENOUGH
        else:
            self._seconds.append(seconds)
            spent, count = sum(self._seconds), len(self._seconds)
            known = spent > _ENOUGH or count == _MOST or count + 1 == self._steps
        if known and self._tell is not None:
            seen = self._seconds or [self._first]
            tell, self._tell = self._tell, None
            tell(self._phase, self._steps, sum(seen) / len(seen))
