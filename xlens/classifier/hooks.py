"""Hooks that act only for the thread that placed them: a model is one for the whole process."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

__all__ = ["OwnTable", "of_this_thread", "own_tables", "place"]

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
    """A module's table of forward hooks in which each new one acts for the thread that placed it.

    Copied or saved it is an ordinary table of the user's hooks alone: a copy of the model outlives the call.
    """

    def __init__(self, given: dict[int, Any]) -> None:
        super().__init__()
        for key, hook in given.items():
            # Those that are there already are the user's, and act for every thread.
            self.place(key, hook)

    def place(self, key: int, hook: Any) -> None:
        """Take in a hook as it is."""
        super().__setitem__(key, hook)

    def copy(self) -> OrderedDict[int, Any]:  # type: ignore[override]
        """Return an ordinary table of the user's hooks."""
        return OrderedDict((key, hook) for key, hook in list(self.items()) if not _is_passing(hook))

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (), None, None, iter(self.copy().items())

    def __setitem__(self, key: int, hook: Any) -> None:
        super().__setitem__(key, of_this_thread(hook) if callable(hook) else hook)


def _is_passing(hook: Any) -> bool:
    """Whether a hook is one that :func:`of_this_thread` returned, which goes with the call that placed it."""
    return getattr(hook, "__code__", None) is _OWN_CODE


def place(table: dict[Any, Any], key: Any, entry: Any) -> None:
    """Set an entry of any table of a module's, a hook as it is."""
    if isinstance(table, OwnTable):
        table.place(key, entry)
    else:
        table[key] = entry


def own_tables(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return tables to stand in for a module's own ones, which then nothing can touch.

    Args:
        attributes: ``vars(module)``.
    """
    found = {
        name: table for name, table in attributes.items() if name.endswith("_hooks") and isinstance(table, dict)
    }
    return {name: OwnTable(table) if name in _FORWARD else type(table)(table) for name, table in found.items()}


_OWN_CODE = of_this_thread(lambda *_: None).__code__
