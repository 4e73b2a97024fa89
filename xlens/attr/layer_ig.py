"""Integrated gradients of a hidden layer, computed on the part of the model that follows it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xlens.attr.latent_ig import LatentIntegratedGradients
from xlens.attr.quadrature import Method
from xlens.attr.targets import Target, as_tuple, baselines_like
from xlens.classifier import Classifier, as_classifier
from xlens.errors import DataError

__all__ = ["LayerIntegratedGradients"]

_WHO = "LayerIntegratedGradients"


class LayerIntegratedGradients:
    """What each activation of a hidden layer contributes, as Captum's class of the same name.

    The line between the layer's activations on the baseline and on the input is followed in the layer's own
    space, and only the layers after it run. Where a model's structure does not let it be cut, the whole model
    runs, and the result is the same. The model is frozen meanwhile, and left as it is.

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
            given = as_classifier(model)
            model = Classifier(given.model, layer=layer, outputs=given.outputs, class_names=given.class_names)
        self.classifier = as_classifier(model)

    def attribute(
        self,
        inputs: Tensor,
        baselines: Tensor | float | None = None,
        target: Target = None,
        n_steps: int = 50,
        method: Method = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
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
            DataError: inputs, baselines or target do not fit.
            ModelError: the layer does not run.
        """
        if not isinstance(inputs, Tensor):
            raise DataError(f"{_WHO}: inputs are {type(inputs).__name__}", allowed="a tensor (N, ...)")
        as_tuple(inputs, _WHO)
        (starts,) = baselines_like(baselines, (inputs,), _WHO)
        classifier = self.classifier
        with classifier.frozen(seed=0):
            with torch.no_grad():
                ends = classifier.activations(inputs), classifier.activations(starts)
            engine = LatentIntegratedGradients(
                lambda activations, given: classifier.tail(activations, given), lambda activations: activations
            )
            return engine.attribute(
                *ends,
                target,
                inputs,
                n_steps,
                method,
                internal_batch_size,
                return_convergence_delta,
                tolerance=tolerance,
                memory_budget=memory_budget,
            )
