"""Containers of a module into which its passes write: what those that ask have written is taken back."""

from __future__ import annotations

import operator
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from xlens.classifier.hooks import OwnTable, Passing

__all__ = ["CONTAINERS", "Writes", "content_of", "place_hooks", "same_content", "writes_of"]

#: Attributes that are put back inside.
CONTAINERS = (list, dict, set, deque)
#: Immutable, so that two threads may have written one and the same object.
_SHARED = (int, float, complex, bool, str, bytes, type(None), tuple, frozenset, type)

Content = Any


class _Change(NamedTuple):
    """What a container held before and after something was written to it, and others' passes up to then."""

    container: Any
    before: Content
    after: Content
    passes: int


class _Pass(NamedTuple):
    """A pass through the module that has begun: what its containers held, and what had been noted by then."""

    contents: list[tuple[Any, Content]]
    passes: int
    alone: bool
    changes: int


class Writes:
    """What the passes of threads that ask have written to a module's containers, while the module is held.

    A change is theirs where it came about within one of their passes, and no other thread ran the module in it.
    What is not certainly theirs is left: an entry too many can be told from the rest, and a lost one is lost.

    Args:
        module: the module.
        containers: those of its attributes that are lists, dicts, sets or deques.
        asks: whether the thread that calls it asks something.
    """

    def __init__(self, module: nn.Module, containers: Sequence[Any], asks: Callable[[], bool]) -> None:
        self._module, self._containers, self._asks = module, containers, asks
        self._open: dict[int, list[_Pass]] = {}
        self.changes: list[_Change] = []
        #: Passes of threads that ask nothing.
        self.passes = 0

    def running(self) -> bool:
        """Whether another thread is in the middle of a pass through the module."""
        here = threading.get_ident()
        return any(_runs(self._module, frame) for ident, frame in sys._current_frames().items() if ident != here)

    def look_around(self) -> None:
        """Note, when the hooks are placed, a pass of another thread that had begun before."""
        self.passes += self.running()

    def noted(self) -> tuple[int, int]:
        """Return how many changes, and passes of others that are over, have been noted."""
        return len(self.changes), self.passes - self.running()

    def shared(self, since: int) -> bool:
        """Whether another thread has run the module after so many passes of others, or runs it now."""
        return self.passes > since or self.running()

    def begin(self) -> None:
        """Note that a pass through the module begins."""
        if not self._asks():
            self.passes += 1
            return
        # Looked around before and after: another pass may begin and end while the containers are copied.
        passes, alone = self.passes, not self.running()
        contents = [(one, content_of(one)) for one in self._containers]
        alone = alone and not self.shared(passes)
        begun = _Pass(contents, passes, alone, len(self.changes))
        self._open.setdefault(threading.get_ident(), []).append(begun)

    def end(self) -> None:
        """Note that one has ended."""
        begun = self._open.get(threading.get_ident())
        if begun:
            self._close(begun.pop())

    def take_back(self, since: int) -> None:
        """Take back what was written by those that ask, from so many changes on."""
        for begun in list(self._open.values()):
            # Passes that failed have not ended. The first of them saw everything that came later.
            while begun:
                self._close(begun.pop())
        while len(self.changes) > since:
            change = self.changes[-1]
            _undo(change, others=self.passes > change.passes)
            self.changes.pop()

    def _close(self, begun: _Pass) -> None:
        found = [(container, before, content_of(container)) for container, before in begun.contents]
        # Asked after they were copied: whoever has written by then has been counted.
        if not begun.alone or self.shared(begun.passes):
            return
        # What came within this pass is part of what it changed.
        del self.changes[begun.changes :]
        for container, before, after in found:
            if not same_content(before, after):
                self.changes.append(_Change(container, before, after, begun.passes))


class PassBegins(Passing):
    """A hook for every thread, before a module runs."""

    def __init__(self, writes: Writes) -> None:
        self.writes = writes

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Note it."""
        self.writes.begin()


class PassEnds(PassBegins):
    """A hook for every thread, after a module has run."""

    def __call__(self, module: nn.Module, args: Any, output: Any = None) -> None:
        """Note it."""
        self.writes.end()


#: Under which its hooks stand in a module's tables, where torch has none.
_KEY = -1


def place_hooks(tables: Mapping[str, OwnTable], writes: Writes) -> None:
    """Place the hooks by which passes are noted in the tables that stand in for a module's own."""
    tables["_forward_pre_hooks"].place(_KEY, PassBegins(writes))
    tables["_forward_hooks"].place(_KEY, PassEnds(writes))


def writes_of(module: nn.Module) -> Writes | None:
    """Return what is noted of a module that is held."""
    hook = vars(module)["_forward_hooks"].get(_KEY)
    return hook.writes if isinstance(hook, PassEnds) else None


def content_of(container: Any) -> Content:
    """Return a copy of what a container holds, made at one stroke, whoever else writes to it."""
    return container.copy()


def same_content(one: Any, other: Any) -> bool:
    """Whether two containers of one kind hold the same objects in the same order."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(operator.is_, list(one.values()), list(other.values())))
    if isinstance(one, set):
        return one == other
    return len(one) == len(other) and all(map(operator.is_, list(one), list(other)))


def _runs(module: nn.Module, frame: Any) -> bool:
    while frame is not None:
        if frame.f_code is _CALL and frame.f_locals.get("self") is module:
            return True
        frame = frame.f_back
    return False


_CALL = nn.Module._wrapped_call_impl.__code__


def _undo(change: _Change, *, others: bool) -> None:
    """Take back one change of a container that has gone on; each step is one that no thread can come between."""
    container, before, after = change.container, change.before, change.after
    if isinstance(container, dict):
        _undo_keys(container, before, after, others=others)
    elif isinstance(container, set):
        # Of two that are equal, one of another thread's may stand there.
        if not others:
            container.difference_update(after - before)
        container.update(before - after)
    else:
        _undo_members(container, list(before), list(after))


def _undo_keys(table: dict[Any, Any], before: dict[Any, Any], after: dict[Any, Any], *, others: bool) -> None:
    missing = object()
    for key in [*after, *(key for key in before if key not in after)]:
        was, became = before.get(key, missing), after.get(key, missing)
        if was is became or table.get(key, missing) is not became:
            # Not changed, or changed again since by somebody else.
            continue
        if others and isinstance(became, _SHARED):
            continue
        if was is missing:
            table.pop(key, None)
        else:
            table[key] = was


def _undo_members(row: Any, before: list[Any], after: list[Any]) -> None:
    start = 0
    while start < min(len(before), len(after)) and before[start] is after[start]:
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] is after[-1 - end]:
        end += 1
    lost, gained = before[start : len(before) - end], after[start : len(after) - end]
    place = min(start, len(row))
    for member in reversed(gained):
        found = _place_of(row, member, place)
        if found is not None:
            place = found
            del row[found]
    most = getattr(row, "maxlen", None)
    for member in reversed(lost):
        if most is None or len(row) < most:
            row.insert(min(place, len(row)), member)


def _place_of(row: Any, member: Any, near: int) -> int | None:
    """Return where a member stands, looked for from where it was put: others have added and taken out since."""
    members = list(row)
    for i in (*range(near, len(members)), *range(min(near, len(members)))):
        if members[i] is member:
            return i
    return None
