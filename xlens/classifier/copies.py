"""Deep copies of somebody else's module."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xlens.classifier.whole import modules_of
from xlens.classifier.wrappers import unwrapped
from xlens.errors import ModelError

__all__ = ["copied"]


def copied(model: nn.Module, method: str, do: str | None = None) -> nn.Module:
    """Return a copy of a model that shares no tensor with it, without its hooks.

    Hooks may reach into the user's program. Tensors that a forward pass has left on modules are copied as values:
    torch refuses to copy them with the graph that they belong to. What else cannot be copied, such as a lock or a
    connection, is shared.

    Args:
        model: the model; wrappers are taken off.
        method: who copies it, for the error.
        do: what to do where that fails.

    Raises:
        ModelError: the model cannot be copied.
    """
    model, _ = unwrapped(model)
    with torch.inference_mode(False):
        try:
            return _deep(model, shared=False)
        except Exception as first:  # noqa: BLE001 - copying runs code of everything that the model holds
            if isinstance(first, MemoryError | torch.OutOfMemoryError):
                raise
            try:
                return _deep(model, shared=True)
            except Exception:  # noqa: BLE001
                raise ModelError(
                    f"{method}: the classifier cannot be copied",
                    given=(str(first) or type(first).__name__).splitlines()[0],
                    do=do or "make the model work with copy.deepcopy",
                ) from first


def _deep(model: nn.Module, *, shared: bool) -> nn.Module:
    memo: dict[int, Any] = {}
    # What stands in `memo` is known by its id, so it must outlive the copying.
    alive: list[Any] = []
    for _, module in modules_of(model):
        for name, value in vars(module).items():
            if name.endswith("_hooks") and isinstance(value, dict):
                # Of an ordinary kind, whatever stands in for the table at the moment.
                memo[id(value)] = dict.__new__(_plain(type(value)))
                continue
            for part in _parts(value):
                if isinstance(part, Tensor):
                    if not part.is_leaf:
                        memo[id(part)] = part.detach().clone()
                elif shared and not _copies(part):
                    memo[id(part)] = part
                alive.append(part)
    return copy.deepcopy(model, memo)


def _plain(kind: type) -> type:
    return next(base for base in kind.__mro__ if base.__module__ in ("builtins", "collections"))


def _parts(value: Any, depth: int = 4) -> Iterator[Any]:
    """Yield the values in nested containers; modules see to their own."""
    if isinstance(value, nn.Module):
        return
    if isinstance(value, Mapping | list | tuple | set) and depth:
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _parts(part, depth - 1)
    else:
        yield value


def _copies(value: Any) -> bool:
    try:
        copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - any reason will do
        return False
    return True
