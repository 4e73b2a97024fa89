"""What a classifier says of inputs, asked a few at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xlens.errors import ModelError

__all__ = ["Classify", "logits_of", "probabilities_of"]

#: Maps inputs ``(M, *S)`` to logits ``(M, K)``.
Classify = Callable[[Tensor], Tensor]

_BATCH = 256


def logits_of(classify: Classify, inputs: Tensor) -> Tensor:
    """Return logits ``(M, K)``, without gradients.

    Raises:
        ModelError: there are not two columns or more; of a single one, every class would be the largest.

    >>> import torch
    >>> logits_of(lambda x: x, torch.tensor([[1.0, 2.0]]))
    tensor([[1., 2.]])
    """
    with torch.no_grad():
        logits = torch.cat([classify(part) for part in inputs.split(_BATCH)])
    if logits.dim() != 2 or len(logits) != len(inputs) or logits.shape[1] < 2:
        raise ModelError(
            "metrics: the classifier does not return logits of two classes or more",
            given=f"{tuple(logits.shape)} for {len(inputs)} inputs",
            allowed="(M, K), K >= 2",
            do="pass xlens.Classifier(model), which takes a single logit and what holds logits, too",
        )
    return logits


def probabilities_of(classify: Classify, inputs: Tensor) -> Tensor:
    """Return class probabilities ``(M, K)``, likewise."""
    return logits_of(classify, inputs).softmax(1)
