"""Asking a classifier about many images in pieces that its machine is quick with."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.fitted import Fitted

__all__ = ["logits", "piece"]

#: Inputs that the classifier is asked about at once, at most.
_MOST = 256
#: On a CPU a batch of more values leaves its caches, and an image then takes twice the time (64 of 224 against 8).
_VALUES = 2**21


def piece(inputs: Tensor) -> int:
    """Return how many of these inputs ``(N, *S)`` to ask about at once."""
    if inputs.device.type != "cpu":
        return _MOST
    return max(1, min(_MOST, _VALUES // max(1, inputs[:1].numel())))


def logits(fitted: Fitted, inputs: Tensor) -> Tensor:
    """Return the classifier's logits of inputs ``(N, *S)``, ``(N, K)``, piece by piece."""
    return torch.cat([fitted.classifier(part) for part in inputs.split(piece(inputs))])
