"""The whole of somebody else's model: also the modules and tensors that it keeps in lists, dicts and objects."""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor, nn

__all__ = [
    "ITS_OWN",
    "buffers_of",
    "held_among",
    "held_by",
    "is_passed",
    "kept_in",
    "modules_of",
    "parameters_of",
    "parts_of",
    "roots_of",
    "tensors_of",
]

#: Where torch itself keeps what a module is made of.
_TABLES = ("_parameters", "_buffers", "_modules")
#: What every module has, and the tables among that, of its parts and its hooks, which are not looked into.
ITS_OWN = frozenset(vars(nn.Module()))
_PASSED = frozenset(name for name, value in vars(nn.Module()).items() if isinstance(value, dict)) | {*_TABLES}
#: Levels of containers and objects below an attribute.
_DEEPEST = 6
_ATOMS = (
    set,
    frozenset,
    str,
    bytes,
    int,
    float,
    bool,
    complex,
    type(None),
    type,
    types.FunctionType,
    types.ModuleType,
)
_ATOMIC = frozenset(_ATOMS)
_ROWS = frozenset((tuple, list))
#: Whose objects are about a model and no part of it, such as an optimizer, a trainer or a compiler.
_ABOUT = (
    *(f"torch.{name}" for name in ("_", "amp", "cuda", "distributed", "fx", "jit", "optim", "utils")),
    *("lightning", "pytorch_lightning", "lightning_fabric", "accelerate", "logging", "threading"),
)

Leaf = Tensor | np.ndarray | nn.Module


def kept_in(module: nn.Module) -> Iterator[tuple[str, Leaf]]:
    """Yield the tensors, arrays and modules that a module keeps as plain attributes, by name.

    Looked into are lists, tuples, dicts, objects by their attributes, and what a function is bound to; not what a
    function closes over.

    >>> layer = nn.Identity()
    >>> layer.hidden = [nn.ReLU(), {"scale": np.ones(1)}]
    >>> [name for name, _ in kept_in(layer)]
    ['hidden[0]', "hidden[1]['scale']"]
    """
    seen = {id(module)}
    for name, value in list(vars(module).items()):
        if is_passed(name, value):
            continue
        if isinstance(value, Tensor):
            yield name, value
        else:
            yield from _leaves(name, value, seen, _DEEPEST)


def is_plain(value: Any) -> bool:
    """Whether a value is, or is a row of, numbers, words and the like alone, in which no tensor can be."""
    kind = type(value)
    return kind in _ATOMIC or (kind in _ROWS and _ATOMIC.issuperset(map(type, value)))


def is_passed(name: str, value: Any) -> bool:
    """Whether an attribute is none of those that :func:`kept_in` looks into, as nearly all are."""
    return name in _PASSED or is_plain(value) or name.endswith("_hooks")


def held_by(module: nn.Module) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """Yield the tensors and arrays that a module keeps as plain attributes, by name.

    Those with a graph are no constants: a forward pass has left them there.
    """
    yield from held_among(kept_in(module))


def held_among(leaves: Iterable[tuple[str, Leaf]]) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """Yield what :func:`held_by` does, of what :func:`kept_in` has found."""
    for name, value in leaves:
        if isinstance(value, np.ndarray) or (isinstance(value, Tensor) and value.grad_fn is None):
            yield name, value


def roots_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the model, and each module that it keeps where torch does not look for modules, by name."""
    for prefix, root, _ in _walk(model):
        yield prefix, root


def modules_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module of the whole model once, by name; first those that ``named_modules`` gives.

    >>> layer = nn.Identity()
    >>> layer.hidden = [nn.Sequential(nn.ReLU())]
    >>> [name for name, _ in modules_of(layer)]
    ['', 'hidden[0]', 'hidden[0].0']
    """
    for _, _, modules in _walk(model):
        yield from ((name, module) for name, module, _ in modules)


def parts_of(model: nn.Module) -> Iterator[tuple[nn.Module, list[tuple[str, Leaf]]]]:
    """Yield every module of the whole model once, with what :func:`kept_in` finds in it."""
    for _, _, modules in _walk(model):
        yield from ((module, leaves) for _, module, leaves in modules)


def parameters_of(model: nn.Module) -> Iterator[Tensor]:
    """Yield every parameter of the whole model once."""
    found = (p for _, module in modules_of(model) for p in module.parameters(recurse=False))
    yield from {id(parameter): parameter for parameter in found}.values()


def buffers_of(model: nn.Module) -> Iterator[Tensor]:
    """Yield every buffer of the whole model once."""
    found = (b for _, module in modules_of(model) for b in module.buffers(recurse=False))
    yield from {id(buffer): buffer for buffer in found}.values()


def tensors_of(model: nn.Module) -> Iterator[Tensor]:
    """Yield every parameter of the whole model, then every buffer."""
    yield from parameters_of(model)
    yield from buffers_of(model)


def _walk(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[tuple[str, nn.Module, list[tuple[str, Leaf]]]]]]:
    """Yield each root by name with the modules that are found from it first, and what these keep."""
    seen: set[nn.Module] = set()
    waiting: deque[tuple[str, nn.Module]] = deque([("", model)])
    while waiting:
        prefix, root = waiting.popleft()
        if root in seen:
            continue
        modules = [(name, module, list(kept_in(module))) for name, module in root.named_modules(seen, prefix)]
        yield prefix, root, modules
        for name, _, leaves in modules:
            before = f"{name}." if name else ""
            waiting.extend((before + key, part) for key, part in leaves if isinstance(part, nn.Module))


def _leaves(name: str, value: Any, seen: set[int], depth: int) -> Iterator[tuple[str, Leaf]]:
    if isinstance(value, Tensor | np.ndarray | nn.Module):
        yield name, value
        return
    if isinstance(value, _ATOMS) or not depth or id(value) in seen:
        return
    seen.add(id(value))
    for key, part in _inside(value):
        yield from _leaves(name + key, part, seen, depth - 1)


def _inside(value: Any) -> list[tuple[str, Any]]:
    """Return what a container or an object is made of, with how it is reached; nothing of theirs runs."""
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in list(value.items())]
    if isinstance(value, list | tuple | deque):
        return [(f"[{i}]", part) for i, part in enumerate(list(value))]
    if isinstance(value, functools.partial):
        return [(f".{name}", getattr(value, name)) for name in ("func", "args", "keywords")]
    if isinstance(value, types.MethodType):
        return [(".__self__", value.__self__)]
    kind = type(value)
    if kind not in _slots:
        _slots[kind] = _slots_of(kind)
    found = {name: slot.__get__(value) for name, slot in _slots[kind] if _is_set(slot, value)}
    own = getattr(value, "__dict__", None)
    if isinstance(own, dict) and not _is_about(kind):
        found |= own
    return [(f".{name}", part) for name, part in found.items()]


def _is_about(kind: type) -> bool:
    where = f"{kind.__module__}."
    return any(where.startswith(about if about.endswith("_") else f"{about}.") for about in _ABOUT)


#: Class -> the attributes of its objects that are in none of their dicts.
_slots: WeakKeyDictionary[type, tuple[tuple[str, Any], ...]] = WeakKeyDictionary()
#: Of classes that were written in Python; those of C have members too, which are none of the model's.
_ON_HEAP = 1 << 9


def _slots_of(kind: type) -> tuple[tuple[str, Any], ...]:
    bases = [base for base in kind.__mro__ if base.__flags__ & _ON_HEAP]
    found = [(name, slot) for base in bases for name, slot in vars(base).items()]
    return tuple((n, s) for n, s in found if isinstance(s, types.MemberDescriptorType) and not _is_about(kind))


def _is_set(slot: Any, value: Any) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True
