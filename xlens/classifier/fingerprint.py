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

from xlens.classifier.kept import is_result
from xlens.classifier.read import settings_of
from xlens.classifier.values import bits, parts_of
from xlens.classifier.whole import held_by, modules_of, roots_of, tensors_of
from xlens.classifier.wrappers import is_compiled, without_compilers
from xlens.deprecated import forwarded_module

__all__ = ["IDENTITY", "Identity", "identity_of"]

#: What a fingerprint is of: the whole model, and not only what torch counts to it.
IDENTITY = 2

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
#: What newer versions of torch show of their norms besides; whether there is a bias is seen in the state.
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
_BIAS = re.compile(r", bias=(True|False)")
#: What TorchScript puts into names of types, by the order in which a process loads them.
_MANGLED = re.compile(r"___torch_mangle_\d+\.?")


@dataclass(frozen=True)
class Identity:
    """A hash of a classifier.

    Args:
        digest: the hash.
        unread: names of what decides its outputs and could not be read, so that another model may have this hash.
        constants: name -> hash of each tensor and array that a module keeps as a plain attribute, and of each
            number and word there that its forward pass reads. They are no part of `digest`: some may be what a
            forward pass has left, which an equal model need not have.
        before: the hash that lenses saved before this field carry, without what torch does not count to the model.
            Of most models it is `digest`.
    """

    digest: str
    unread: tuple[str, ...]
    constants: Mapping[str, str] = field(default_factory=dict)
    before: str = ""

    def is_saved_as(self, fingerprint: str, kind: int | None) -> bool:
        """Whether a lens with this fingerprint was fitted around this classifier.

        Args:
            fingerprint: what was saved.
            kind: what was saved beside it, :data:`IDENTITY`; None before there was any.
        """
        return fingerprint == self.digest or (kind is None and fingerprint == self.before)

    def other_constants(self, saved: Mapping[str, str]) -> list[str]:
        """Return the names of those that are there as when they were saved, but for their values."""
        return [name for name, value in saved.items() if self.constants.get(name, value) != value]


def identity_of(model: nn.Module, layer: str | None, outputs: str, *, as_shown: bool = False) -> Identity:
    """Return the hash of a model's weights, buffers, packed and extra state, its modules and how they are set.

    What a module computes beyond its type and the settings that its repr shows is not seen, apart from the code of
    TorchScript; neither are hooks, nor numbers that are plain attributes which no forward pass reads by name, or
    that methods write, which may as well count something.

    Args:
        model: the model.
        layer: its hidden layer, by name, or None.
        outputs: what it returns.
        as_shown: take settings as this version of torch shows them, as lenses were saved before they were read
            alike of every version.
    """
    digest = hashlib.sha256(f"{without_compilers(layer or '') or layer}|{outputs}".encode())
    unread: list[str] = []
    roots = list(roots_of(model))
    for prefix, root in roots:
        _add_root(digest, prefix, root, unread, as_shown)
    before = digest
    if len(roots) > 1 or _not_in_state(model) or any(map(is_compiled, model.modules())):
        before = hashlib.sha256(f"{layer}|{outputs}".encode())
        _add_former(before, model, as_shown)
    return Identity(digest.hexdigest(), tuple(unread), _constants(model), before.hexdigest())


def _state_of(module: nn.Module) -> dict[str, Any]:
    return {**module.state_dict(keep_vars=True), **dict(module.named_buffers())}


def _not_in_state(module: nn.Module) -> dict[str, Any]:
    """Return the parameters that a module leaves out of its state, as hooks may make it do."""
    state = _state_of(module)
    known = {id(value) for value in state.values()}
    return {n: value for n, value in module.named_parameters() if n not in state and id(value) not in known}


def _add_root(digest: Any, prefix: str, root: nn.Module, unread: list[str], as_shown: bool) -> None:
    """Add a module with all that torch knows to belong to it, and what hooks take out of its state."""
    for name, module in root.named_modules(prefix=prefix):
        if not is_compiled(module):
            _add_settings(digest, without_compilers(name), module, as_shown)
    before = f"{prefix}." if prefix else ""
    state = {without_compilers(before + n): v for n, v in (_state_of(root) | _not_in_state(root)).items()}
    for name, value in sorted(state.items()):
        _add(digest, name, value, unread)
    for name, value in _beyond_state(root):
        _add(digest, without_compilers(before + name), value, unread)


def _add_former(digest: Any, model: nn.Module, as_shown: bool) -> None:
    """Add what lenses that were saved before know of a model."""
    for name, module in model.named_modules():
        _add_settings(digest, name, module, as_shown)
    for name, value in (*sorted(_state_of(model).items()), *_beyond_state(model)):
        _add(digest, name, value, [])


def _add_settings(digest: Any, name: str, module: nn.Module, as_shown: bool) -> None:
    settings = _ADDRESS.sub("", module.extra_repr())
    if isinstance(module, _NORMS) and not as_shown:
        settings = _BIAS.sub("", settings)
    digest.update(f"{name}:{type(module).__name__}({settings});".encode())


def _constants(model: nn.Module) -> dict[str, str]:
    known = {id(value) for value in tensors_of(model)}
    found = {}
    modules = [(name, module) for name, module in modules_of(model) if not _is_metric(module)]
    for name, module in modules:
        for key, value in held_by(module):
            digest, unread = hashlib.sha256(), list[str]()
            if id(value) not in known and not is_result(module, key):
                _add(digest, "", value, unread)
                if not unread:
                    # Of another shape it is another input's result, and no constant that has changed.
                    said = without_compilers(f"{name}.{key}".lstrip(".")) + f" {tuple(value.shape)}"
                    found[said] = digest.hexdigest()
    for name, setting in settings_of(modules):
        digest = hashlib.sha256()
        _add(digest, "", setting, [])
        found[without_compilers(name)] = digest.hexdigest()
    return found


def _is_metric(module: nn.Module) -> bool:
    """Whether a module counts how a training goes, in tensors that decide nothing."""
    return any(kind.__module__.startswith("torchmetrics.") for kind in type(module).__mro__)


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
