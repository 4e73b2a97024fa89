"""Turns: what is one for the whole process serves one question at a time, whichever thread asks."""

from __future__ import annotations

import os
import random
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch

from xlens.classifier.interrupts import own_lines_uninterrupted, tried, uninterrupted, watch
from xlens.classifier.modes import ThreadModes, neutral

__all__ = ["Seeded", "Turn", "give_way", "out_of_turn", "random_state_kept", "seeded"]


#: Seconds after which who waits looks whether the one who has the turn still lives.
_LOOK_AFTER = 1.0


class _Queue:
    """A lock that the same thread may take again, and that goes to those who wait in their order."""

    def __init__(self) -> None:
        self._inner = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        self._owner: int | None = None
        self._process = os.getpid()
        self.depth = 0

    @property
    def mine(self) -> bool:
        return self._owner == threading.get_ident() and self._process == os.getpid()

    @property
    def wanted(self) -> bool:
        return bool(self._waiting)

    def take(self) -> None:
        """Wait for the turn; Ctrl-C ends the waiting."""
        self._forget_other_process()
        if self.mine:
            self.depth += 1
            return
        # Asking for the thread makes it known, also where it was not started by Python.
        ticket = (threading.current_thread().ident or 0, threading.Lock())
        ticket[1].acquire()
        with self._inner:
            if self._owner is None:
                self._owner, self.depth = ticket[0], 1
                return
            self._waiting.append(ticket)
        try:
            while not ticket[1].acquire(timeout=_LOOK_AFTER):
                self._look_after()
        except BaseException:
            self._give_up(ticket)
            raise

    @uninterrupted
    def leave(self, depth: int) -> None:
        """Go back to so many turns within turns; with 0 the next one has it."""
        if not self.mine:
            return
        with self._inner:
            self.depth = depth
            if depth == 0:
                self._hand_on()

    def _hand_on(self) -> None:
        if self._waiting:
            self._owner, ticket = self._waiting.popleft()
            self.depth = 1
            ticket.release()
        else:
            self._owner = None

    @uninterrupted
    def _give_up(self, ticket: tuple[int, threading.Lock]) -> None:
        with self._inner:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            elif self._owner == ticket[0]:
                self._hand_on()

    def _look_after(self) -> None:
        """Hand on a turn whose thread has ended without leaving it, stopped by what no handler can hold back."""
        with self._inner:
            alive = {thread.ident for thread in threading.enumerate()}
            if self._owner is not None and self._owner not in alive:
                self._hand_on()

    def _forget_other_process(self) -> None:
        # A forked child has the state of its parent's threads, which it does not have.
        if self._process != os.getpid():
            # As new: what it holds is the parent's.
            self.__dict__.update(_Queue().__dict__)


_queue = _Queue()


class _Process:
    """What is one for the whole process: the random numbers of torch, numpy and random, and torch's defaults."""

    def __init__(self) -> None:
        self.python, self.numpy, self.cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
        # Asking for CUDA's state would initialise CUDA; where it is not in use there is none to keep.
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        self.mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        self.dtype = torch.get_default_dtype()
        self.anomaly = (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled())

    @uninterrupted
    def put_back(self) -> None:
        """Put everything back."""
        self.put_back_random_numbers()
        torch.set_default_dtype(self.dtype)
        torch.set_anomaly_enabled(*self.anomaly)

    @uninterrupted
    def put_back_random_numbers(self) -> None:
        """Put the random numbers back, and leave the rest."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        if self.mps is not None:
            torch.mps.set_rng_state(self.mps)


class Turn:
    """A context in which this thread has its turn, the program's switches are neutral, and random numbers are kept.

    Random numbers, the default dtype and warnings are the whole process's, so two calls at once would change each
    other's results. They take turns instead, in the order in which they come; a call within a call goes on at once.
    """

    #: How the program had everything before the turn in hand.
    outside: _Process | None = None
    _done = True

    @property
    def holds(self) -> bool:
        """Whether this context has not been ended, by itself or with one around it."""
        return not self._done and _queue.mine and _queue.depth > self._depth

    @own_lines_uninterrupted
    def __enter__(self) -> Turn:
        self._watching = watch.begin()
        self._depth = _queue.depth if _queue.mine else 0
        self._thread = threading.get_ident()
        self._modes: AbstractContextManager[None] | None = None
        self._own: ThreadModes | None = None
        try:
            _queue.take()
        except BaseException:
            _queue.leave(self._depth)
            watch.end(self._watching)
            raise
        self._done = False
        try:
            self._begin()
        except BaseException:
            self.end()
            raise
        return self

    @uninterrupted
    def _begin(self) -> None:
        self._own = ThreadModes()
        if self._depth == 0:
            Turn.outside = _Process()
            modes = neutral()
            modes.__enter__()
            self._modes = modes

    @own_lines_uninterrupted
    def __exit__(self, *fault: object) -> None:
        self.end()

    @uninterrupted
    def __del__(self) -> None:
        # Only where an exception that no handler can hold back has kept the context from being left.
        if not self._done and self._thread == threading.get_ident():
            self.end()

    @uninterrupted
    def end(self) -> None:
        """Put the program's switches and random numbers back, and let the next thread have its turn."""
        if not self.holds:
            self._done = True
            return
        faults: list[BaseException] = []
        try:
            if self._modes is not None:
                self._modes.__exit__(None, None, None)
        finally:
            if self._own is not None:
                faults += tried(self._own.put_back)
            if self._depth == 0 and Turn.outside is not None:
                faults += tried(Turn.outside.put_back)
            self._done = True
            _queue.leave(self._depth)
            watch.end(self._watching)
        if faults:
            raise faults[0]


def give_way() -> None:
    """Let those who wait have their turn, between two steps of something long, and go on where it was.

    They find the program's random numbers, and leave this thread's own as they are.
    """
    if _queue.mine and _queue.wanted:
        pressed = _come_back(*_step_aside())
        if pressed is not None:
            raise pressed


@contextmanager
def out_of_turn() -> Iterator[None]:
    """Within this context others have their turns, and the program's random numbers and defaults are back.

    For code of the user's that is called from within: it may wait for a thread of its own that asks something too,
    and what it draws does not change what is going on.
    """
    if not _queue.mine:
        yield
        return
    depth, own = _step_aside()
    try:
        yield
    finally:
        pressed = _come_back(depth, own)
    if pressed is not None:
        raise pressed


def _step_aside() -> tuple[int, _Process]:
    depth, own = _queue.depth, _Process()
    if Turn.outside is not None:
        Turn.outside.put_back()
    _queue.leave(0)
    return depth, own


def _come_back(depth: int, own: _Process) -> BaseException | None:
    """Wait for the turn, and go on as it was; return what came meanwhile."""
    pressed = _take_for_certain()
    _queue.depth = depth
    Turn.outside = _Process()
    own.put_back()
    return pressed


def _take_for_certain() -> BaseException | None:
    """Wait for the turn; return what came meanwhile, as Ctrl-C: without a turn nothing could be put in order."""
    came: BaseException | None = None
    before = _queue.depth if _queue.mine else 0
    while not _queue.mine or _queue.depth == before:
        try:
            _queue.take()
        except BaseException as fault:  # noqa: BLE001
            came = fault
    return came


class Seeded:
    """What :func:`seeded` returns. Ending it twice does nothing, so that it can be tried again."""

    def __init__(self, seed: int | None) -> None:
        self._seed, self._turn = seed, Turn()
        self._kept: _Process | None = None

    @own_lines_uninterrupted
    def __enter__(self) -> None:
        self._turn.__enter__()
        try:
            self._kept = _Process()
            if self._seed is not None:
                random.seed(self._seed)
                np.random.seed(self._seed % 2**32)
                torch.manual_seed(self._seed)
        except BaseException:
            self.end()
            raise

    @own_lines_uninterrupted
    def __exit__(self, *fault: object) -> None:
        self.end()

    @uninterrupted
    def end(self) -> None:
        """Put the random numbers back, and end the turn."""
        faults: list[BaseException] = []
        # Ended by a context around this one already, it has nothing to put back.
        if self._kept is not None and self._turn.holds:
            faults += tried(self._kept.put_back_random_numbers)
        self._kept = None
        self._turn.end()
        if faults:
            raise faults[0]


def seeded(seed: int | None) -> Seeded:
    """Within this context the global RNGs are seeded (unless None); afterwards they are as before.

    It is a turn too: threads wait for each other.

    >>> import torch
    >>> before = torch.get_rng_state()
    >>> with seeded(0):
    ...     _ = torch.rand(3)
    >>> bool((before == torch.get_rng_state()).all())
    True
    """
    return Seeded(seed)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Within this context random numbers may be drawn; afterwards the global RNGs are as before."""
    with Turn():
        kept = _Process()
    try:
        yield
    finally:
        # Not a turn with all that belongs to it, which would put back what it finds now.
        depth = _queue.depth if _queue.mine else 0
        came = _take_for_certain()
        try:
            kept.put_back_random_numbers()
        finally:
            _queue.leave(depth)
        if came is not None:
            raise came
