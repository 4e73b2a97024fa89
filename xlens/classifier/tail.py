"""The part of a model that follows a hidden layer, cut out where its structure allows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from xlens.classifier.hooks import of_this_thread
from xlens.classifier.modes import factories_of
from xlens.classifier.put_out import with_tensor

__all__ = ["WholeTail", "structural_tail"]


def structural_tail(model: nn.Module, layer: str) -> nn.Module | None:
    """Return a module from the layer's output to the model's, or None where there is no such cut.

    It shares the model's own parts. The result may still be wrong for models that do unusual things, so the caller
    compares it with the model on a probe.
    """
    return _sequential_tail(model, layer) or _traced_tail(model, layer)


class WholeTail(nn.Module):
    """The layer's output to the model's, where it cannot be cut: it runs as a whole, with that output replaced.

    Args:
        model: the model.
        layer: name of the layer, of which the last run counts.
        inputs: ``(N, *S)`` what the rest of the model sees, or ``(1, *S)`` for whatever is asked.
    """

    inputs: Tensor

    def __init__(self, model: nn.Module, layer: str, inputs: Tensor) -> None:
        super().__init__()
        self.model, self.layer = model, layer
        self.register_buffer("inputs", inputs, persistent=False)
        #: Whether the layer puts out a tensor, and not a tuple or a dict that it stands in.
        self.plain = False
        self.runs = self._count()

    def forward(self, activations: Tensor) -> Any:
        """Return what the model returns when the layer puts out `activations` ``(N, *A)``."""
        seen = 0

        def replace(output: Any) -> Any:
            nonlocal seen
            seen += 1
            return with_tensor(output, activations) if seen == self.runs else None

        return self._run(replace, self.inputs.expand(len(activations), *self.inputs.shape[1:]))

    def _count(self) -> int:
        runs = 0

        def count(output: Any) -> None:
            nonlocal runs
            runs += 1
            self.plain = isinstance(output, Tensor)

        with torch.no_grad():
            self._run(count, self.inputs[:1])
        return runs

    def _run(self, each: Callable[[Any], Any], inputs: Tensor) -> Any:
        layer = self.model.get_submodule(self.layer)
        handle = layer.register_forward_hook(of_this_thread(lambda _module, _args, output: each(output)))
        try:
            with factories_of(inputs.device, inputs.dtype):
                return self.model(inputs.clone())
        finally:
            handle.remove()


def _sequential_tail(model: nn.Module, layer: str) -> nn.Module | None:
    """Follow the path down through nn.Sequential containers, and run what comes after it."""
    following: list[list[nn.Module]] = []
    here = model
    for part in layer.split("."):
        if type(here) is not nn.Sequential:
            return None
        names = [name for name, _ in here.named_children()]
        children = list(here)
        # A module that stands twice in the chain is listed once by name, so the cut is ambiguous.
        if len({id(child) for child in children}) != len(children):
            return None
        position = names.index(part)
        following.append(children[position + 1 :])
        here = children[position]

    return nn.Sequential(*(module for level in reversed(following) for module in level))


class _LayerTracer(fx.Tracer):
    """Traces through the model but keeps the hidden layer, and all library modules, in one piece.

    torch.fx stands in for the call of every module in the process meanwhile. What other threads call is not traced.
    """

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return qualified_name == self.layer or super().is_leaf_module(module, qualified_name)


def _traced_tail(model: nn.Module, layer: str) -> nn.Module | None:
    """Trace the model symbolically and keep the graph after the layer's last run."""
    try:
        graph = _LayerTracer(layer).trace(model)
    except Exception:  # noqa: BLE001 - tracing runs the user's code, which may fail in any way
        return None
    runs = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if not runs:
        return None
    cut = runs[-1]
    with graph.inserting_before(cut):
        entry = graph.placeholder("activations")
    before = list(graph.nodes)[: list(graph.nodes).index(entry)]
    cut.replace_all_uses_with(entry)
    # Only what comes before the layer is dropped: an unused node after it may work in place.
    for node in reversed([*before, cut]):
        if not node.users:
            graph.erase_node(node)
        elif node.op == "placeholder":
            # The model's own inputs reach the output around the layer.
            return None
    return fx.GraphModule(model, graph)
