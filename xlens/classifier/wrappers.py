"""Wrappers that training and deployment put around a network, taken off where the network inside is certain."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from torch import nn

from xlens.errors import ModelError, did_you_mean

__all__ = ["bare_name", "is_compiled", "layer_name", "own_name", "unwrapped", "without_compilers"]

#: Under which name ``torch.compile`` has what it wraps.
_COMPILED = "_orig_mod"


def unwrapped(model: nn.Module) -> tuple[nn.Module, str]:
    """Return the network itself, and what its wrappers put before the names of its modules.

    Taken off are ``torch.compile``, DataParallel, DistributedDataParallel, and a LightningModule whose ``forward``
    only calls the network. They compute what the network does, but need not call hooks, copy or name it as it is.

    >>> bare, prefix = unwrapped(nn.DataParallel(nn.Linear(2, 2)))
    >>> type(bare).__name__, prefix
    ('Linear', 'module.')
    """
    prefix = ""
    while (name := _inner(model)) is not None:
        model, prefix = getattr(model, name), f"{prefix}{name}."
    return model, prefix


def bare_name(name: str, model: nn.Module, prefix: str) -> str:
    """Return a module's name in the bare network, where it was named as in its wrapper."""
    own = name.removeprefix(prefix)
    return own if name not in dict(model.named_modules()) else name


def is_compiled(module: nn.Module) -> bool:
    """Whether this is what ``torch.compile`` has put around a module."""
    # Looked up and not imported: what nobody has imported wraps nothing.
    compiling = sys.modules.get("torch._dynamo.eval_frame")
    return compiling is not None and isinstance(module, compiling.OptimizedModule)


def without_compilers(name: str) -> str:
    """Return the name that something would have in a model of which no part is compiled.

    >>> without_compilers("body._orig_mod.0.weight")
    'body.0.weight'
    """
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def own_name(name: str, names: Iterable[str]) -> str | None:
    """Return that of a model's `names` which stands for the module, also where other parts of it are compiled.

    >>> own_name("body.0", ["body", "body._orig_mod", "body._orig_mod.0"])
    'body._orig_mod.0'
    """
    bare, known = without_compilers(name), list(names)
    # The last: it is what is compiled, and has hooks that are called.
    return name if name in known else next((n for n in reversed(known) if without_compilers(n) == bare), None)


def _inner(model: nn.Module) -> str | None:
    """Return the name under which a wrapper has what it wraps, or None for what is no wrapper."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "module"
    if is_compiled(model):
        return _COMPILED
    if _is_lightning(model) and not (model._forward_hooks or model._forward_pre_hooks):
        name = _only_calls(type(model).forward)
        if name is not None and isinstance(model._modules.get(name), nn.Module):
            return name
    return None


def _is_lightning(model: nn.Module) -> bool:
    return any(
        base.__name__ == "LightningModule" and base.__module__.split(".")[0] in ("lightning", "pytorch_lightning")
        for base in type(model).__mro__
    )


def _only_calls(forward: Any) -> str | None:
    """Return the name of the submodule that a method hands its arguments to, where that is all that it does."""
    try:
        (method,) = ast.parse(textwrap.dedent(inspect.getsource(forward))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    if not isinstance(method, ast.FunctionDef) or method.decorator_list:
        return None
    body = [
        node for node in method.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    arguments = [argument.arg for argument in (*method.args.posonlyargs, *method.args.args)]
    if len(body) != 1 or not isinstance(body[0], ast.Return) or len(arguments) < 2:
        return None
    call = body[0].value
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or len(call.args) != 1:
        return None
    handed = isinstance(call.args[0], ast.Name) and call.args[0].id == arguments[1] and not call.keywords
    owned = isinstance(call.func.value, ast.Name) and call.func.value.id == arguments[0]
    return call.func.attr if handed and owned else None


def layer_name(model: nn.Module, layer: str | nn.Module | None) -> str | None:
    """Return the dotted name of a hidden layer that is given by it, or as the module itself.

    Raises:
        ModelError: the model has no such layer.
    """
    if layer is None:
        return None
    names = {name: module for name, module in model.named_modules() if name}
    if isinstance(layer, nn.Module):
        found = next((name for name, module in names.items() if module is layer), None)
        if found is None:
            raise ModelError(
                "Classifier: the layer given is not a module of this model",
                given=type(layer).__name__,
                do="pass a module that model.modules() lists, or its dotted name",
            )
        return found
    found = own_name(layer, names)
    if found is None:
        raise ModelError(
            f"Classifier: the model has no layer {layer!r}.{did_you_mean(layer, names)}",
            allowed=", ".join(list(names)[:40]) + (", ..." if len(names) > 40 else ""),
            do="use a name from dict(model.named_modules())",
        )
    return found
