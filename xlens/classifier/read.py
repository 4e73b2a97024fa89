"""Settings that a module's forward pass reads: numbers and words kept as plain attributes."""

from __future__ import annotations

import dis
import enum
import types
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

__all__ = ["settings_of"]

#: What one is; rows and dicts of them count too.
_PLAIN = (str, bytes, int, float, complex, bool, type(None), enum.Enum, torch.dtype)
#: Where attributes are given, and no count is kept.
_MAKING = ("__init__", "__setstate__")
#: Which of several ways computes the same, by their usual names; it depends on the machine, or saves memory.
_WAYS = frozenset({"fused_attn", "grad_checkpointing", "gradient_checkpointing"})
#: What each module has of torch's.
_TORCH = frozenset(vars(nn.Module()))
#: Class -> names that its forward pass reads and nothing of it writes.
_read: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()


def settings_of(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the numbers, words, and rows and dicts of them, that a module's forward pass reads, by name.

    Read is what the code of ``forward``, or of a method or property that it names, takes by name. What any method
    but the constructor writes is passed over: it may count passes or epochs, which an equal model has of its own.
    So is what chooses between ways to compute the same.

    >>> class Scaled(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.temperature, self.seen, self.lr = 2.0, 0, 0.1
    ...     def forward(self, inputs):
    ...         self.seen += len(inputs)
    ...         return inputs / self.temperature
    >>> dict(settings_of(Scaled()))
    {'temperature': 2.0}
    """
    if isinstance(module, torch.jit.ScriptModule):
        return  # its code is not Python's
    kind = type(module)
    if kind not in _read:
        _read[kind] = _names_of(kind)
    own = vars(module)
    for name in sorted(_read[kind] & own.keys()):
        if name not in _TORCH | _WAYS and _is_plain(own[name]):
            yield name, own[name]


def _names_of(kind: type) -> frozenset[str]:
    methods: dict[str, list[types.CodeType]] = {}
    for base in _bases(kind):
        for name, codes in _methods(base):
            # What a method overrides it may call.
            methods.setdefault(name, []).extend(codes)
    writing = [codes for name, codes in methods.items() if name not in _MAKING]
    written = {name for codes in writing for name in _named(codes, "STORE")}
    found: set[str] = set()
    waiting = {"forward"}
    while waiting:
        found |= waiting
        waiting = {name for method in waiting & methods.keys() for name in _named(methods[method], "LOAD")} - found
    return frozenset(found - written)


def _bases(kind: type) -> list[type]:
    """Return the classes that say what a module of this one does, without torch's own of every module."""
    return [base for base in kind.__mro__ if base not in nn.Module.__mro__]


def _methods(kind: type) -> Iterator[tuple[str, list[types.CodeType]]]:
    for name, value in vars(kind).items():
        inner = getattr(value, "__func__", value)
        functions = [value.fget, value.fset] if isinstance(value, property) else [inner]
        # A decorated function keeps what it calls.
        functions = [getattr(one, "__wrapped__", one) for one in functions]
        codes = [one.__code__ for one in functions if isinstance(one, types.FunctionType)]
        if codes:
            yield name, codes


def _named(codes: list[types.CodeType], kind: str) -> Iterator[str]:
    """Yield the attributes that code loads or stores, with that of functions which it makes."""
    for code in codes:
        for step in dis.get_instructions(code):
            if step.opname.startswith(kind) and step.opname.endswith(("_ATTR", "_METHOD")):
                yield step.argval
        yield from _named([part for part in code.co_consts if isinstance(part, types.CodeType)], kind)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)
