"""Which part of a module does all that the module does, by its text or by a run without data."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

import torch
from torch import nn

from xlens.classifier.turns import random_state_kept

__all__ = ["handed_to", "only_calls"]

#: What a forward pass may keep notes in.
_CONTAINERS = (list, dict, set)


def only_calls(forward: Any) -> str | None:
    """Return the name of the submodule that a method hands its argument to, where its text says nothing else.

    >>> only_calls(torch.optim.swa_utils.AveragedModel.forward)  # hands on more than one
    """
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


def handed_to(model: nn.Module) -> str | None:
    """Return the name of the submodule that does all that a module does, or None where that is not certain.

    The module's own ``forward`` is run on a copy of it whose submodules are stand-ins, with an object that nothing
    can be computed from. Where it hands that very object to one of them, in the modes that it was called in, and
    returns the very object that this one returned, it changes nothing on any input. The submodule has to hold every
    parameter too: what could be trained elsewhere might decide something after all.

    >>> class Wrapper(nn.Module):
    ...     def __init__(self, scale=None):
    ...         super().__init__()
    ...         self.net, self.scale = nn.Linear(2, 2), scale
    ...
    ...     def forward(self, x):
    ...         logits = self.net(x)
    ...         return logits if self.scale is None else logits * self.scale
    >>> handed_to(Wrapper()), handed_to(Wrapper(2.0))
    ('net', None)
    """
    given = object()
    calls: list[tuple[str, Any, Any, object]] = []
    stand_ins = {name: None if part is None else _StandIn(name, calls) for name, part in model._modules.items()}
    own = {name: type(value)(value) if type(value) in _CONTAINERS else value for name, value in vars(model).items()}
    copy = object.__new__(type(model))
    copy.__dict__.update(own, _modules=stand_ins, training=False)
    try:
        with random_state_kept():
            modes = _modes()
            returned = type(model).forward(copy, given)
    except Exception:  # noqa: BLE001 - somebody's code, which computes something of what it is given
        return None
    if len(calls) != 1:
        return None
    name, arguments, inside, output = calls[0]
    if arguments != ((given,), {}) or returned is not output or inside != modes:
        return None
    inner = {id(parameter) for parameter in model._modules[name].parameters()}  # type: ignore[union-attr]
    return name if all(id(parameter) in inner for parameter in model.parameters()) else None


class _StandIn(nn.Module):
    """Notes what it is called with, and returns an object of its own."""

    def __init__(self, name: str, calls: list[tuple[str, Any, Any, object]]) -> None:
        super().__init__()
        self._name, self._calls = name, calls

    def forward(self, *arguments: Any, **named: Any) -> object:
        """Note the call."""
        output = object()
        self._calls.append((self._name, (arguments, named), _modes(), output))
        return output


def _modes() -> tuple[bool, ...]:
    casting = [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")]
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *casting
