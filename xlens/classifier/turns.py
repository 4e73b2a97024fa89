"""Turns: what is one for the whole process serves one question at a time, whichever thread asks."""

from __future__ import annotations

import os
import random
import threading
from collections import deque
from contextlib import AbstractContextManager

import numpy as np
import torch

from xlens.classifier.contexts import Context
from xlens.classifier.interrupts import caught, own_lines_uninterrupted, tried, uninterrupted
from xlens.classifier.modes import ThreadModes, neutral
from xlens.classifier.quiet import Quiet

__all__ = [
    "RandomStateKept",
    "Seeded",
    "Turn",
    "give_way",
    "out_of_turn",
    "random_state_kept",
    "seeded",
]


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
            while not ticket[1].acquire(timeout=_LOOK_AFTER) and not self.mine:
                self._look_after()
            self._served(ticket)
        except BaseException:
            self._give_up(ticket)
            raise

    @uninterrupted
    def leave(self, depth: int) -> None:
        """Go back to so many turns within turns; with 0 the next one has it."""
        if not self.mine:
            return
        with self._inner:
            if depth == 0:
                self._hand_on()
            else:
                self.depth = depth

    def _hand_on(self) -> None:
        if self._waiting:
            # Who has the turn is said first. Where what no handler can hold back stops the rest, who waits sees it.
            (self._owner, ticket), self.depth = self._waiting[0], 1
            self._waiting.popleft()
            ticket.release()
        else:
            self._owner = None

    @uninterrupted
    def _served(self, ticket: tuple[int, threading.Lock]) -> None:
        with self._inner:
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    @uninterrupted
    def _give_up(self, ticket: tuple[int, threading.Lock]) -> None:
        self._served(ticket)
        with self._inner:
            if self._owner == ticket[0]:
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


class Turn(Context["Turn"]):
    """A context in which this thread has its turn, the program's switches are neutral, and random numbers are kept.

    Random numbers, the default dtype and warnings are the whole process's, so two calls at once would change each
    other's results. They take turns instead, in the order in which they come; a call within a call goes on at once.
    """

    #: How the program had everything before the turn in hand.
    outside: _Process | None = None
    #: The switches of the thread that has the turn, before it had it.
    around: ThreadModes | None = None
    #: Turns around this one; None where it is not in hand.
    _depth: int | None = None
    _modes: AbstractContextManager[None] | None = None
    _own: ThreadModes | None = None
    _outermost = False

    @property
    def holds(self) -> bool:
        """Whether this context has not been ended, by itself or with one around it."""
        return self._depth is not None and _queue.mine and _queue.depth > self._depth

    @own_lines_uninterrupted
    def begin(self) -> Turn:
        """Wait for the turn, and make the program's switches neutral."""
        self._depth = _queue.depth if _queue.mine else 0
        _queue.take()
        self._begin()
        return self

    @uninterrupted
    def _begin(self) -> None:
        self._own = ThreadModes()
        if self._depth == 0:
            Turn.outside, Turn.around = _Process(), self._own
            self._outermost = True
            modes = neutral()
            modes.__enter__()
            self._modes = modes

    @uninterrupted
    def end(self) -> None:
        """Put the program's switches and random numbers back, and let the next thread have its turn."""
        if self._depth is None or not self.holds:
            self._depth = None
            return
        faults: list[BaseException] = []
        if self._modes is not None:
            faults += tried(self._leave_modes)
        if self._own is not None:
            faults += tried(self._own.put_back)
        if self._outermost and Turn.outside is not None:
            faults += tried(Turn.outside.put_back)
        # Last, so that where something that no handler can hold back stops this, it can be done again.
        _queue.leave(self._depth)
        self._depth = None
        if faults:
            raise faults[0]

    def _leave_modes(self) -> None:
        if self._modes is not None:
            self._modes.__exit__(None, None, None)
            self._modes = None


class OutOfTurn(Context[None]):
    """What :func:`out_of_turn` returns."""

    #: Turns to come back to; None where there were none, or where it has come back.
    _depth: int | None = None
    _inside: _Process | None = None
    _own: ThreadModes | None = None
    _modes: AbstractContextManager[None] | None = None
    _away = False
    _quiet: tuple[Quiet, ...] = ()

    @uninterrupted
    def begin(self) -> None:
        """Put back what is the program's, and let others have their turns."""
        if not _queue.mine or Turn.outside is None or Turn.around is None:
            return
        self._inside, self._own, self._around = _Process(), ThreadModes(), Turn.around
        self._depth = _queue.depth
        self._quiet = Quiet.set_aside()
        Turn.outside.put_back()
        modes = self._around.again()
        modes.__enter__()
        self._modes = modes
        self._away = True
        _queue.leave(0)

    @uninterrupted
    def end(self) -> None:
        """Wait for the turn, and go on as it was; what came meanwhile, as Ctrl-C, comes then."""
        if self._depth is None:
            return
        came = _take_for_certain(0)
        _queue.depth = self._depth
        if self._away:
            Turn.outside, Turn.around, self._away = _Process(), self._around, False
        faults: list[BaseException] = []
        if self._modes is not None:
            faults += caught(self._leave_modes)
        for kept in (self._own, self._inside):
            if kept is not None:
                faults += tried(kept.put_back)
        faults += Quiet.again(self._quiet)
        self._depth = None
        if came is not None or faults:
            raise came or faults[0]

    def _leave_modes(self) -> None:
        modes, self._modes = self._modes, None
        if modes is not None:
            modes.__exit__(None, None, None)


def give_way() -> None:
    """Let those who wait have their turn, between two steps of something long, and go on where it was.

    They find the program's random numbers, and leave this thread's own as they are.
    """
    if _queue.mine and _queue.wanted:
        with OutOfTurn():
            pass


def out_of_turn() -> OutOfTurn:
    """Within this context others have their turns, and the program's switches and random numbers are back.

    For code of the user's that is called from within: it may wait for a thread of its own that asks something too,
    it finds its own modes, and what it draws does not change what is going on.
    """
    return OutOfTurn()


def _take_for_certain(before: int) -> BaseException | None:
    """Wait for one turn more than there were before; return what came meanwhile, as Ctrl-C.

    Without a turn nothing could be put in order.
    """
    came: BaseException | None = None
    while True:
        try:
            if _queue.mine and _queue.depth > before:
                return came
            _queue.take()
        except BaseException as fault:  # noqa: BLE001
            came = fault


class Seeded(Context[None]):
    """What :func:`seeded` returns."""

    def __init__(self, seed: int | None) -> None:
        self._seed, self._turn = seed, Turn()
        self._kept: _Process | None = None

    @own_lines_uninterrupted
    def begin(self) -> None:
        """Wait for the turn, and seed."""
        self._turn.begin()
        self._kept = _Process()
        if self._seed is not None:
            random.seed(self._seed)
            np.random.seed(self._seed % 2**32)
            _seed_torch(self._seed)

    @uninterrupted
    def end(self) -> None:
        """Put the random numbers back, and end the turn."""
        faults: list[BaseException] = []
        # Ended by a context around this one already, it has nothing to put back.
        if self._kept is not None and self._turn.holds:
            faults += tried(self._kept.put_back_random_numbers)
        self._kept = None
        faults += caught(self._turn.end)
        if faults:
            raise faults[0]


def _seed_torch(seed: int) -> None:
    """Seed what draws in torch, as ``torch.manual_seed`` does."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        # It would describe the stack for each kind of device that is not there, which takes longer than a small
        # model's answer.
        torch.default_generator.manual_seed(seed)


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


class RandomStateKept(Context[None]):
    """What :func:`random_state_kept` returns."""

    _kept: _Process | None = None
    #: Turns that this thread had when it was left.
    _depth: int | None = None

    def begin(self) -> None:
        """Keep the random numbers as they are when this thread has its turn."""
        with Turn():
            self._kept = _Process()

    @uninterrupted
    def end(self) -> None:
        """Wait for the turn, and put them back."""
        if self._kept is None:
            return
        # Not a turn with all that belongs to it, which would put back what it finds now.
        if self._depth is None:
            self._depth = _queue.depth if _queue.mine else 0
        came = _take_for_certain(self._depth)
        faults = tried(self._kept.put_back_random_numbers)
        _queue.leave(self._depth)
        self._kept = None
        if came is not None or faults:
            raise came or faults[0]


def random_state_kept() -> RandomStateKept:
    """Within this context random numbers may be drawn; afterwards the global RNGs are as before."""
    return RandomStateKept()
