"""Settings that a module's forward pass reads: numbers and words kept as plain attributes."""

from __future__ import annotations

import dis
import enum
import inspect
import types
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import fx, nn

from xlens.classifier.kept import is_result

__all__ = ["settings_of"]

_NUMBERS = (int, float, complex, np.number, np.bool_)
#: What one is; rows of them that cannot be written into count too.
_PLAIN = (*_NUMBERS, str, type(None), enum.Enum, torch.dtype)
#: Where attributes are given, and no count is kept.
_MAKING = ("__init__", "__setstate__")
#: By their usual names: which of several ways computes the same, what acts in training alone, and what a module is
#: called or where it lies.
_NO_MATTER = frozenset(
    {
        *("fused_attn", "grad_checkpointing", "gradient_checkpointing", "memory_efficient"),
        *("use_nested_tensor", "enable_nested_tensor", "dynamic_img_size"),
        *("device", "name", "verbose"),
    }
)
_OF_TRAINING = "drop"
#: What each module has of torch's.
_TORCH = frozenset(vars(nn.Module())) | frozenset(vars(nn.Module))
#: Class -> names that its forward pass reads, and names that any of its methods writes.
_named: WeakKeyDictionary[type, tuple[frozenset[str], frozenset[str]]] = WeakKeyDictionary()


def settings_of(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[tuple[str, Any]]:
    """Yield the numbers, words, and rows of them, that the forward passes of a model's modules read, by name.

    Read is what the code of ``forward``, or of a method or property that it names, takes by name. What a method of
    any of the modules writes, but for constructors, is passed over, as is what a forward pass was seen to replace:
    it may count passes or epochs, which an equal model has of its own. So are lists and dicts, and what decides
    nothing once a model is trained, by its usual name.

    Args:
        modules: the model's modules, by name.

    >>> class Scaled(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.temperature, self.seen, self.lr = 2.0, 0, 0.1
    ...     def forward(self, inputs):
    ...         self.seen += len(inputs)
    ...         return inputs / self.temperature
    >>> dict(settings_of([("", Scaled())]))
    {'temperature': 2.0}
    """
    # The code of TorchScript is not Python's.
    looked_at = [(name, module) for name, module in modules if not isinstance(module, torch.jit.ScriptModule)]
    written = frozenset[str]().union(*(_names_of(type(module))[1] for _, module in looked_at))
    for prefix, module in looked_at:
        for name in sorted(_names_of(type(module))[0] - written - _TORCH - _NO_MATTER):
            value = vars(module).get(name, inspect.getattr_static(type(module), name, module))
            if _OF_TRAINING in name or _is_torchs_own(module, name):
                continue
            if _is_plain(value) and not is_result(module, name):
                yield f"{prefix}.{name}".lstrip("."), _alike(value)
        if isinstance(module, fx.GraphModule):
            yield f"{prefix}.code".lstrip("."), module.code


def _is_torchs_own(module: nn.Module, name: str) -> bool:
    """Whether a name is private to torch, whose next version may keep something else there."""
    return name.startswith("_") and type(module).__module__.startswith("torch.")


def _names_of(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    if kind not in _named:
        methods: dict[str, list[types.CodeType]] = {}
        for base in _bases(kind):
            for name, codes in _methods(base):
                # What a method overrides it may call.
                methods.setdefault(name, []).extend(codes)
        writing = [codes for method, codes in methods.items() if method not in _MAKING]
        written = {name for codes in writing for name in _attributes(codes, "STORE")}
        found: set[str] = set()
        waiting = {"forward"}
        while waiting:
            found |= waiting
            read = [methods[method] for method in waiting & methods.keys()]
            waiting = {name for codes in read for name in _attributes(codes, "LOAD")} - found
        _named[kind] = frozenset(found), frozenset(written)
    return _named[kind]


def _bases(kind: type) -> list[type]:
    """Return the classes that say what a module of this one does, without torch's own of every module."""
    return [base for base in kind.__mro__ if base not in nn.Module.__mro__]


def _methods(kind: type) -> Iterator[tuple[str, list[types.CodeType]]]:
    for name, value in vars(kind).items():
        functions = [value.fget, value.fset] if isinstance(value, property) else [getattr(value, "__func__", value)]
        codes = []
        for function in functions:
            # A decorated function keeps what it calls.
            while isinstance(function, types.FunctionType):
                codes.append(function.__code__)
                function = getattr(function, "__wrapped__", None)
        if codes:
            yield name, codes


def _attributes(codes: Iterable[types.CodeType], kind: str) -> Iterator[str]:
    """Yield the attributes that code loads or stores, with that of functions which it makes."""
    for code in codes:
        for step in dis.get_instructions(code):
            if step.opname.startswith(kind) and step.opname.endswith(("_ATTR", "_METHOD")):
                yield step.argval
        if kind == "STORE" and "setattr" in code.co_names:
            yield from (name for name in code.co_consts if isinstance(name, str))
        yield from _attributes([part for part in code.co_consts if isinstance(part, types.CodeType)], kind)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _alike(value: Any) -> Any:
    """Return a value as all that compute the same are: 2 is 2.0."""
    if isinstance(value, tuple):
        return tuple(map(_alike, value))
    if isinstance(value, enum.Enum) or not isinstance(value, _NUMBERS):
        return value
    return complex(value) if isinstance(value, complex | np.complexfloating) else float(value)
