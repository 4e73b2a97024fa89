"""Integrated gradients of a hidden layer, computed on the part of the model that follows it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xlens.attr.latent_ig import LatentIntegratedGradients
from xlens.attr.memory import points_in_flight
from xlens.attr.quadrature import Method
from xlens.attr.targets import Target, as_tuple, baselines_like
from xlens.classifier.classifier import Classifier, as_classifier
from xlens.classifier.frozen import frozen
from xlens.classifier.turns import Turn
from xlens.contracts.numbers import plain
from xlens.errors import DataError

__all__ = ["LayerIntegratedGradients"]

_WHO = "LayerIntegratedGradients"


class LayerIntegratedGradients:
    """Layer integrated gradients ``(N, *A)``: what each activation contributes, as Captum's class of that name.

    The line between the layer's activations on the baseline and on the input is followed in the layer's own
    space, and only the layers after it run. Where a model's structure does not let it be cut, the whole model
    runs, and the result is the same. The model is frozen meanwhile, and left as it is. A model with a single
    logit has two classes here as everywhere in xlens: class 1 is the logit.

    Args:
        model: a module that returns class scores, or a :class:`xlens.Classifier`.
        layer: the hidden layer, by dotted name or as the module; None takes the Classifier's own.

    Raises:
        ModelError: there is no such layer.

    >>> import torch
    >>> from xlens.attr import LayerIntegratedGradients
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> LayerIntegratedGradients(model, "1").attribute(images[:4], target=1).shape
    torch.Size([4, 8])
    """

    def __init__(self, model: nn.Module | Classifier, layer: str | nn.Module | None = None) -> None:
        if layer is not None:
            model = as_classifier(model).replaced(layer=layer)
        self.classifier = as_classifier(model)

    def attribute(
        self,
        inputs: Tensor,
        baselines: Tensor | float | None = None,
        target: Target = None,
        *,
        n_steps: int = 50,
        method: Method = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        tolerance: float | None = None,
        memory_budget: int | None = None,
    ) -> Any:
        """Return attributions of the layer's shape ``(N, *A)``, and the delta ``(N,)`` if asked for.

        Args:
            inputs: ``(N, *S)``.
            baselines: ``(N, *S)``, one row, or a number; zeros if None.
            target: class index or one per row, in Captum's forms.
            n_steps, method, internal_batch_size, return_convergence_delta, tolerance, memory_budget: as for
                :meth:`LatentIntegratedGradients.attribute`; the defaults are Captum's.

        Raises:
            DataError: inputs, baselines or target do not fit, or class 0 of a single logit is asked for.
            ModelError: the layer does not run.
        """
        if not isinstance(inputs, Tensor):
            raise DataError(f"{_WHO}: inputs are {type(inputs).__name__}", allowed="a tensor (N, ...)")
        as_tuple(inputs, _WHO)
        (starts,) = baselines_like(baselines, (inputs,), _WHO)
        classifier, internal_batch_size = self.classifier, plain(internal_batch_size)
        with Turn(), torch.enable_grad(), frozen(None, classifier.model, seed=0, copy_parameters=False):
            with torch.no_grad():
                size = internal_batch_size or (1 if len(inputs) == 1 else self._in_flight(inputs, memory_budget))
                end, start = (
                    torch.cat([classifier.activations(part) for part in at.split(size)]) for at in (inputs, starts)
                )
                self._refuse_nothing(inputs[:1], target)
            tail = classifier.cut(inputs[:1])
            engine = LatentIntegratedGradients(tail or classifier.tail, _same)
            return engine.attribute(
                end,
                start,
                target,
                None if tail else inputs,
                n_steps,
                method,
                internal_batch_size,
                return_convergence_delta,
                tolerance=tolerance,
                memory_budget=memory_budget,
            )

    def _in_flight(self, inputs: Tensor, memory_budget: int | None) -> int:
        return points_in_flight(lambda: self.classifier.activations(inputs[:1]), inputs.device, memory_budget)

    def _refuse_nothing(self, probe: Tensor, target: Target) -> None:
        """Refuse class 0 where its score is 0 by definition, as beside a single logit."""
        asked = target is None or (isinstance(target, int) and target == 0)
        if asked and self.classifier.reading.zero(self.classifier.columns(probe)):
            raise DataError(
                f"{_WHO}: the model has a single logit, and class 0 has no score of its own",
                given=f"target={target!r}",
                do="pass target=1, the class that the logit speaks for",
            )


def _same(activations: Tensor) -> Tensor:
    return activations
