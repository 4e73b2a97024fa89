"""Asking a classifier about many inputs in pieces that its machine is quick with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["in_pieces", "piece"]

#: Inputs that an accelerator is asked about at once.
_AT_ONCE = 256
#: On a CPU, what a network keeps of a batch of more values leaves the caches, and an image takes twice the time (64
#: of 224x224 in colour against 8): 13 of these, 170 of 64x64.
_VALUES = 1 << 21


def piece(inputs: Tensor) -> int:
    """Return how many of these inputs ``(N, *S)`` to ask about at once; at least one."""
    if inputs.device.type != "cpu":
        return _AT_ONCE
    return max(1, _VALUES // max(1, inputs[:1].numel()))


def in_pieces(classifier: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Return a classifier's logits of inputs ``(N, *S)``, ``(N, K)``, piece by piece."""
    return torch.cat([classifier(part) for part in inputs.split(piece(inputs))])
