"""Fingerprint of a classifier: a hash of everything that decides its outputs."""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xlens.classifier.kept import results_of
from xlens.classifier.values import bits, held_by, parts_of
from xlens.deprecated import forwarded_module

__all__ = ["Identity", "identity_of"]

# Where it was before 0.2.
__getattr__ = forwarded_module("xlens.classifier.fingerprint", "xlens.classifier.bound", ("Bound",))

_PLAIN = (
    str,
    bytes,
    bytearray,
    int,
    float,
    complex,
    bool,
    type(None),
    enum.Enum,
    torch.dtype,
    torch.device,
    np.generic,
)
_ADDRESS = re.compile(r"0x[0-9a-f]+")
#: What TorchScript puts into names of types, by the order in which a process loads them.
_MANGLED = re.compile(r"___torch_mangle_\d+\.?")


@dataclass(frozen=True)
class Identity:
    """A hash of a classifier.

    Args:
        digest: the hash.
        unread: names of what decides its outputs and could not be read, so that another model may have this hash.
        constants: name -> hash of each tensor and array that a module keeps as a plain attribute. They are no part
            of `digest`: some may be what a forward pass has left, which an equal model need not have.
    """

    digest: str
    unread: tuple[str, ...]
    constants: Mapping[str, str] = field(default_factory=dict)

    def other_constants(self, saved: Mapping[str, str]) -> list[str]:
        """Return the names of those that are there as when they were saved, but for their values."""
        return [name for name, value in saved.items() if self.constants.get(name, value) != value]


def identity_of(model: nn.Module, layer: str | None, outputs: str) -> Identity:
    """Return the hash of a model's weights, buffers, packed and extra state, its modules and how they are set.

    What a module computes beyond its type and the settings that its repr shows is not seen, apart from the code of
    TorchScript; neither are hooks, nor numbers that are plain attributes, which may as well count something.
    """
    digest = hashlib.sha256(f"{layer}|{outputs}".encode())
    unread: list[str] = []
    for name, module in model.named_modules():
        settings = _ADDRESS.sub("", module.extra_repr())
        digest.update(f"{name}:{type(module).__name__}({settings});".encode())
    state = {**model.state_dict(keep_vars=True), **dict(model.named_buffers())}
    for name, value in sorted(state.items()):
        _add(digest, name, value, unread)
    for name, value in _beyond_state(model):
        _add(digest, name, value, unread)
    return Identity(digest.hexdigest(), tuple(unread), _constants(model))


def _constants(model: nn.Module) -> dict[str, str]:
    known = {id(value) for value in (*model.parameters(), *model.buffers())}
    found = {}
    for name, module in model.named_modules():
        for key, value in held_by(module):
            digest, unread = hashlib.sha256(), list[str]()
            if id(value) not in known and key not in results_of(module):
                _add(digest, "", value, unread)
                if not unread:
                    # Of another shape it is another input's result, and no constant that has changed.
                    said = f"{name}.{key}".lstrip(".") + f" {tuple(value.shape)}"
                    found[said] = digest.hexdigest()
    return found


def _beyond_state(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield what decides outputs and is in no state dict."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            yield from _script(name, module)
        elif isinstance(module, parametrize.ParametrizationList):
            # A parametrisation computes the weight from its own settings, which few of them show.
            for key, part in module.named_modules():
                plain = {k: v for k, v in vars(part).items() if k[0] != "_" and isinstance(v, _PLAIN)}
                yield f"{name}.{key}", {k: v for k, v in plain.items() if k not in ("training", "unsafe")}


def _script(name: str, module: torch.jit.ScriptModule) -> Iterator[tuple[str, Any]]:
    """Yield the code of a TorchScript module with its constants, in which a frozen one has its weights."""
    try:
        code, constants = module.code_with_constants
    except (AttributeError, RuntimeError):
        return  # a part without a forward pass of its own
    yield f"{name}: code", _MANGLED.sub("", code)
    yield f"{name}: constants", dict(constants.const_mapping)


def _add(digest: Any, name: str, value: Any, unread: list[str]) -> None:
    if isinstance(value, Tensor):
        _add_tensor(digest, name, value, unread)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{name}:{value.dtype}:{value.shape};".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, _PLAIN):
        digest.update(f"{name}={value!r};".encode())
    elif isinstance(value, Mapping):
        digest.update(f"{name}:{len(value)} entries;".encode())
        for key, part in value.items():
            _add(digest, f"{name}[{key!r}]", part, unread)
    elif isinstance(value, list | tuple):
        digest.update(f"{name}:{len(value)} members;".encode())
        for i, part in enumerate(value):
            _add(digest, f"{name}[{i}]", part, unread)
    elif isinstance(value, set | frozenset) and all(isinstance(part, _PLAIN) for part in value):
        digest.update(f"{name}:{sorted(map(repr, value))};".encode())
    elif hasattr(value, "getvalue") and isinstance(value.getvalue(), bytes):
        # Extra state is often a buffer of bytes.
        _add(digest, name, value.getvalue(), unread)
    elif isinstance(value, torch.ScriptObject):
        _add_packed(digest, name, value, unread)
    else:
        digest.update(f"{name}:{type(value).__name__};".encode())
        unread.append(name)


def _add_packed(digest: Any, name: str, value: torch.ScriptObject, unread: list[str]) -> None:
    """Add an object of torch's own, such as packed weights, by the state that it would be saved with."""
    try:
        state = value.__getstate__()
    except Exception:  # noqa: BLE001 - not every kind has one
        unread.append(name)
        return
    _add(digest, f"{name}.state", state, unread)


def _add_tensor(digest: Any, name: str, tensor: Tensor, unread: list[str]) -> None:
    try:
        parts = [part if isinstance(part, str) else bits(part).cpu() for part in parts_of(tensor)]
    except Exception:  # noqa: BLE001 - a kind of tensor that torch itself does not take apart
        digest.update(f"{name}:{type(tensor).__name__};".encode())
        unread.append(name)
        return
    digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part.numpy().tobytes())
