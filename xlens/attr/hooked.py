"""A hidden layer of any module: what it takes or puts out, and what the whole makes of other values there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from xlens.classifier.hooks import of_this_thread
from xlens.errors import ModelError

__all__ = ["HookedLayer"]

V = TypeVar("V")


class HookedLayer:
    """A layer inside a module that runs as a whole: with several inputs, further arguments, or tuples in between.

    Where the layer runs several times in one pass, its last run is meant.

    Args:
        model: runs on ``(*inputs, *arguments)``.
        layer: a module inside it.
        before: its first positional arguments are meant, and not what it puts out.
        who: names the caller in errors.
    """

    def __init__(self, model: nn.Module, layer: nn.Module, before: bool, who: str) -> None:
        self.model, self.layer, self.before, self.who = model, layer, before, who
        self._runs = 0

    def values(self, arguments: tuple[Any, ...]) -> Tensor | tuple[Tensor, ...]:
        """Return what is there when ``model(*arguments)`` runs.

        Raises:
            ModelError: the layer does not run, or what is there are no tensors.
        """
        seen: list[Any] = []
        with torch.no_grad(), self._hook(seen.append):
            self.model(*arguments)
        self._runs = len(seen)
        if not seen:
            raise ModelError(f"{self.who}: the layer did not run", do="name a module that the model calls")
        parts = seen[-1] if isinstance(seen[-1], tuple) else (seen[-1],)
        if not parts or not all(isinstance(part, Tensor) for part in parts):
            raise ModelError(
                f"{self.who}: the layer does not work on tensors",
                given=", ".join(type(part).__name__ for part in parts) or "nothing",
                do="name a layer whose output is a tensor, or a tuple of them",
            )
        kept = tuple(part.detach().clone() for part in parts)
        return kept if isinstance(seen[-1], tuple) else kept[0]

    def replaced(self, values: Tensor | tuple[Tensor, ...], arguments: tuple[Any, ...]) -> Any:
        """Return what the model makes of ``arguments`` with these values at the layer; gradients flow to them."""
        runs = 0

        def instead(_old: Any) -> Any:
            nonlocal runs
            runs += 1
            # Copies, because what follows may work in place.
            copies = tuple(v.clone() for v in values) if isinstance(values, tuple) else values.clone()
            return copies if runs == self._runs else None

        with self._hook(instead):
            return self.model(*arguments)

    @contextmanager
    def _hook(self, meet: Any) -> Iterator[None]:
        def before(_module: nn.Module, args: Any) -> Any:
            return meet(args if len(args) > 1 else args[0] if args else ())

        def after(_module: nn.Module, _args: Any, output: Any) -> Any:
            return meet(output)

        place = self.layer.register_forward_pre_hook if self.before else self.layer.register_forward_hook
        handle = place(of_this_thread(before if self.before else after))
        try:
            yield
        finally:
            handle.remove()
