"""Integrated gradients of a hidden layer, computed on the part of the model that follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import LayerAttribution
from torch import Tensor, nn

from xlens.attr.captum_form import CompleteAttribution, wrappable
from xlens.attr.hooked import HookedLayer
from xlens.attr.latent_ig import LatentIntegratedGradients
from xlens.attr.memory import points_in_flight
from xlens.attr.quadrature import Method
from xlens.attr.targets import Target, as_tuple, baselines_like, row_arguments
from xlens.classifier.classifier import Classifier, as_classifier
from xlens.classifier.frozen import frozen
from xlens.classifier.hooks import of_this_thread
from xlens.classifier.turns import Turn
from xlens.contracts.numbers import plain
from xlens.errors import DataError, ModelError

__all__ = ["LayerIntegratedGradients"]

_WHO = "LayerIntegratedGradients"


class LayerIntegratedGradients(CompleteAttribution, LayerAttribution):  # type: ignore[misc]  # Captum brings no types
    """Layer integrated gradients ``(N, *A)``: what each activation contributes, as Captum's class of that name.

    The line between the layer's activations on the baseline and on the input is followed in the layer's own
    space, and only the layers after it run. Where a model's structure does not let it be cut, the whole model
    runs, and the result is the same. The model is frozen meanwhile, and left as it is. It is a Captum
    ``Attribution``, which ``captum.attr.NoiseTunnel`` and ``captum.metrics`` take.

    Of one input ``(N, *S)`` and class scores ``(N, K)``, a model with a single logit has two classes, as everywhere
    in xlens: class 1 is the logit. With inputs in a tuple, whole numbers, further arguments, a target of several
    indices, a layer that puts out a tuple, or the layer's own inputs, the model's output is taken as Captum takes
    it.

    Args:
        model: a module that returns class scores, or a :class:`xlens.Classifier`.
        layer: the hidden layer, by dotted name or as the module; None takes the Classifier's own.

    Raises:
        ModelError: there is no such layer.

    >>> import torch
    >>> from captum.attr import NoiseTunnel
    >>> from xlens.attr import LayerIntegratedGradients
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> layer_ig = LayerIntegratedGradients(model, "1")
    >>> layer_ig.attribute(images[:4], target=1).shape
    torch.Size([4, 8])
    >>> NoiseTunnel(layer_ig).attribute(images[:4], nt_samples=3, target=1).shape
    torch.Size([4, 8])
    """

    def __init__(self, model: nn.Module | Classifier, layer: str | nn.Module | None = None) -> None:
        if layer is not None:
            model = as_classifier(model).replaced(layer=layer)
        self.classifier = as_classifier(model)
        name = self.classifier.layer or ""
        super().__init__(self.classifier.model)
        # Captum sets these where one of its own classes of layers is made.
        self.layer, self.device_ids = dict(self.classifier.model.named_modules()).get(name), None

    @wrappable
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Tensor | float | tuple[Tensor | float, ...] | None = None,
        target: Target = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: Method = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        *,
        tolerance: float | None = None,
        memory_budget: int | None = None,
    ) -> Any:
        """Return attributions of the layer's shape ``(N, *A)``, and the delta ``(N,)`` if asked for.

        Args:
            inputs: ``(N, *S)``, or a tuple of them.
            baselines: as `inputs`, single rows, or numbers; zeros if None.
            target: class index or one per row, in Captum's forms. None for outputs of one number a row.
            additional_forward_args: passed on to the model; tensors have one row per input.
            n_steps, method, internal_batch_size, return_convergence_delta, tolerance, memory_budget: as for
                :meth:`LatentIntegratedGradients.attribute`; the defaults are Captum's.
            attribute_to_layer_input: of what the layer takes, and not of what it puts out.

        Returns:
            a tuple where the layer's values are one.

        Raises:
            DataError: inputs, baselines or target do not fit, or class 0 of a single logit is asked for.
            ModelError: the layer does not run.
        """
        parts = as_tuple(inputs, _WHO)
        starts = baselines_like(baselines, parts, _WHO)
        arguments = row_arguments(additional_forward_args, len(parts[0]), _WHO)
        given = (n_steps, method, plain(internal_batch_size), return_convergence_delta)
        more = {"tolerance": tolerance, "memory_budget": memory_budget}
        model = self.classifier.model
        with Turn(), torch.enable_grad(), frozen(None, model, seed=0, copy_parameters=False):
            # One batch of inputs and class scores: what a Classifier is made for.
            whole = arguments or attribute_to_layer_input or _several(target)
            if isinstance(inputs, Tensor) and inputs.is_floating_point() and not whole and self._is_plain(inputs):
                return self._of_classes(inputs, starts[0], target, given, more)
            return self._of_outputs(parts, starts, target, arguments, attribute_to_layer_input, given, more)

    def outputs(self, count: int) -> Callable[..., Any]:
        """Return the model, and for one input without further arguments its class scores."""

        def scores(*arguments: Any) -> Any:
            if len(arguments) == 1 and arguments[0].is_floating_point():
                return self.classifier(arguments[0])
            return self.classifier.model(*arguments)

        return scores

    def _of_classes(self, inputs: Tensor, starts: Tensor, target: Target, given: Any, more: Any) -> Any:
        """Return attributions of class scores, from the layers after the hidden one."""
        classifier, size = self.classifier, given[2]
        with torch.no_grad():
            size = size or (1 if len(inputs) == 1 else self._in_flight(inputs, more["memory_budget"]))
            end, start = (
                torch.cat([classifier.activations(part) for part in at.split(size)]) for at in (inputs, starts)
            )
            target = self._class(inputs[:1], target)
        tail = classifier.cut(inputs[:1])
        engine = LatentIntegratedGradients(tail or classifier.tail, _same)
        return engine.attribute(end, start, target, None if tail else inputs, *given, **more)

    def _is_plain(self, inputs: Tensor) -> bool:
        """Whether the layer puts out a tensor; of a tuple Captum attributes every member."""
        # Where the model is cut, that was seen to.
        if self.layer is None or self.classifier.cut(inputs[:1]) is not None:
            return True
        seen: list[Any] = []
        handle = self.layer.register_forward_hook(
            of_this_thread(lambda _module, _args, output: seen.append(output))
        )
        try:
            with torch.no_grad():
                self.classifier(inputs[:1])
        finally:
            handle.remove()
        return not seen or not isinstance(seen[-1], tuple)

    def _in_flight(self, inputs: Tensor, memory_budget: int | None) -> int:
        return points_in_flight(lambda: self.classifier.activations(inputs[:1]), inputs.device, memory_budget)

    def _class(self, probe: Tensor, target: Target) -> Target:
        """Return the target; beside a single logit class 0, whose score is 0 by definition, is refused."""
        asked = target is None or (isinstance(target, int) and target == 0)
        if not asked or not self.classifier.reading.zero(self.classifier.columns(probe)):
            return target
        if target is None:
            return 1
        raise DataError(
            f"{_WHO}: the model has a single logit, and class 0 has no score of its own",
            given=f"target={target!r}",
            do="pass target=1, the class that the logit speaks for",
        )

    def _of_outputs(
        self,
        inputs: tuple[Tensor, ...],
        starts: tuple[Tensor, ...],
        target: Target,
        arguments: list[Any],
        before: bool,
        given: Any,
        more: Any,
    ) -> Any:
        """Return attributions of what the model puts out, which runs as a whole."""
        if self.layer is None:
            raise ModelError(
                f"{_WHO}: no hidden layer was named", do="pass it: LayerIntegratedGradients(model, 'name')"
            )
        hooked = HookedLayer(self.classifier.model, self.layer, before, _WHO)
        end, start = hooked.values((*inputs, *arguments)), hooked.values((*starts, *arguments))
        count = len(end) if isinstance(end, tuple) else 1

        def whole(*values: Any) -> Any:
            at = values[:count] if isinstance(end, tuple) else values[0]
            return hooked.replaced(at, values[count:])

        def same(*values: Tensor) -> Tensor | tuple[Tensor, ...]:
            return values if isinstance(end, tuple) else values[0]

        engine = LatentIntegratedGradients(whole, same)
        return engine.attribute(end, start, target, (*inputs, *arguments), *given, **more)


def _several(target: Target) -> bool:
    """Whether a target has several indices for each row."""
    return isinstance(target, tuple) or (isinstance(target, list) and isinstance(target[0], tuple))


def _same(activations: Tensor) -> Tensor:
    return activations
