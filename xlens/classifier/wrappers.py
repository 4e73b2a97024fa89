"""Wrappers that training and deployment put around a network, taken off where the network inside is certain."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import torch
from torch import nn
from torch.jit._script import RecursiveScriptModule
from torch.optim.swa_utils import AveragedModel

from xlens.classifier.handing import handed_to, only_calls
from xlens.errors import ModelError, did_you_mean

__all__ = ["bare_name", "check_compiled", "is_compiled", "layer_name", "own_name", "unwrapped", "without_compilers"]

#: Under which name ``torch.compile`` has what it wraps.
_COMPILED = "_orig_mod"


def unwrapped(model: nn.Module) -> tuple[nn.Module, str]:
    """Return the network itself, and what its wrappers put before the names of its modules.

    Taken off are ``torch.compile``, DataParallel, DistributedDataParallel, AveragedModel, and a LightningModule of
    which it is certain that its ``forward`` only calls the network. They compute what the network does, but need
    not call hooks, copy or name it as it is. Any other LightningModule is a model like others.

    >>> bare, prefix = unwrapped(nn.DataParallel(nn.Linear(2, 2)))
    >>> type(bare).__name__, prefix
    ('Linear', 'module.')
    """
    prefix = ""
    while (name := _inner(model)) is not None:
        model, prefix = getattr(model, name), f"{prefix}{name}."
    return model, prefix


def check_compiled(bare: nn.Module) -> None:
    """Refuse a network that was compiled so that nothing can be placed on it.

    A traced module takes hooks until it is saved, loaded or copied.

    Raises:
        ModelError: it is one.
    """
    given = None
    if isinstance(bare, RecursiveScriptModule):
        given = f"{bare.original_name}, a module of TorchScript, which takes no hooks"
    elif isinstance(bare, torch.fx.GraphModule) and "eval" in vars(bare):
        given = "a program of torch.export, which knows no eval mode"
    if given is not None:
        raise ModelError(
            "Classifier: the model is compiled, and xlens cannot look into it",
            given=given,
            do="pass the torch.nn.Module that it was made from",
        )


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
    if model._forward_hooks or model._forward_pre_hooks or "forward" in vars(model):
        # They may change what it returns.
        return None
    if isinstance(model, AveragedModel) and type(model).forward is AveragedModel.forward:
        return "module"
    if _is_lightning(model):
        name = only_calls(type(model).forward) or handed_to(model)
        return name if name is not None and isinstance(model._modules.get(name), nn.Module) else None
    return None


def _is_lightning(model: nn.Module) -> bool:
    return any(
        base.__name__ == "LightningModule" and base.__module__.split(".")[0] in ("lightning", "pytorch_lightning")
        for base in type(model).__mro__
    )


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
