"""Hooks that act only for the thread that placed them: a model is one for the whole process."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["ITS_HOOKS", "OwnTable", "Passing", "is_hooks", "of_this_thread", "own_tables", "place"]

#: The tables of hooks that every module has.
ITS_HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith("_hooks"))
#: Tables of hooks that run in the forward pass. Those of the backward pass may run in threads of autograd's.
_FORWARD = ("_forward_hooks", "_forward_pre_hooks")


def of_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a forward hook that does nothing where another thread runs the module.

    >>> hook = of_this_thread(lambda module, args, output: -output)
    >>> hook(None, (), 1)
    -1
    """
    owner = threading.get_ident()

    @functools.wraps(hook, updated=())
    def own(*args: Any, **kwargs: Any) -> Any:
        return hook(*args, **kwargs) if threading.get_ident() == owner else None

    return own


class OwnTable(OrderedDict[int, Any]):
    """A module's table of hooks in which new ones act for the thread that placed them, and go with what it asks.

    Those of a thread that asks nothing are the program's: they act for every thread, and stay. Copied or saved it
    is an ordinary table of the user's hooks alone: a copy of the model outlives the call.

    Args:
        given: the module's own table.
        asks: whether the thread that calls it asks something.
        wraps: whether hooks run in the thread that runs the module; those of the backward pass need not.
    """

    #: The module's own table, when this one is out of use.
    _given: dict[int, Any] | None = None

    def __init__(self, given: dict[int, Any], asks: Callable[[], bool], *, wraps: bool) -> None:
        # There are eight of a module, and hundreds of modules: nothing is done here that need not be.
        self._asks, self._wraps = asks, wraps
        #: What threads that ask nothing have placed meanwhile.
        self.others: dict[int, Any] = {}
        for key, hook in given.items():
            # Those that are there already are the user's, and act for every thread.
            self.place(key, hook)

    def place(self, key: int, hook: Any) -> None:
        """Take in a hook as it is."""
        super().__setitem__(key, hook)

    def give_back(self, given: dict[int, Any]) -> None:
        """Hand what is the program's over to the module's own table, from now on too."""
        # First, so that what comes in between is handed over as well.
        self._given = given
        given.update(self.others)
        if self.others:
            # Who placed them removes them from here.
            _handed_over.append(self)

    def copy(self) -> OrderedDict[int, Any]:  # type: ignore[override]
        """Return an ordinary table of the user's hooks."""
        return OrderedDict((key, hook) for key, hook in list(self.items()) if not _is_passing(hook))

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (), None, None, iter(self.copy().items())

    def __setitem__(self, key: int, hook: Any) -> None:
        if self._asks():
            super().__setitem__(key, of_this_thread(hook) if self._wraps and callable(hook) else hook)
            return
        self.others[key] = hook
        super().__setitem__(key, hook)
        if self._given is not None:
            self._given[key] = hook

    def __delitem__(self, key: int) -> None:
        super().__delitem__(key)
        mine = self.others.pop(key, None) is not None
        if mine and self._given is not None:
            self._given.pop(key, None)
            if not self.others:
                _handed_over[:] = [table for table in _handed_over if table is not self]


class Passing:
    """A hook for every thread that goes with the call that placed it."""


#: Tables that are out of use, but for handles of hooks that other threads have placed in them.
_handed_over: list[OwnTable] = []


def _is_passing(hook: Any) -> bool:
    """Whether a hook goes with the call that placed it, as those that :func:`of_this_thread` returned do."""
    return getattr(hook, "__code__", None) is _OWN_CODE or isinstance(hook, Passing)


def place(table: dict[Any, Any], key: Any, entry: Any) -> None:
    """Set an entry of any table of a module's, a hook as it is."""
    if isinstance(table, OwnTable):
        table.place(key, entry)
    else:
        table[key] = entry


def is_hooks(name: str, value: Any) -> bool:
    """Whether an attribute of a module is one of its tables of hooks."""
    return isinstance(value, dict) and name.endswith("_hooks")


def own_tables(tables: dict[str, dict[int, Any]], asks: Callable[[], bool]) -> dict[str, OwnTable]:
    """Return tables to stand in for a module's own ones, which then nothing can touch.

    Args:
        tables: the module's tables of hooks, by name.
        asks: whether the thread that calls it asks something.
    """
    return {name: OwnTable(table, asks, wraps=name in _FORWARD) for name, table in tables.items()}


_OWN_CODE = of_this_thread(lambda *_: None).__code__
