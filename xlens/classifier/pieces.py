"""Asking a classifier about many inputs in pieces that its machine is quick with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["in_pieces", "piece"]

#: Inputs that an accelerator is asked about at once.
_AT_ONCE = 256
#: On a CPU, what a layer puts out for a batch of more values exceeds 32 MiB, which the allocator takes from the
#: system and gives back for every layer: an image of 224x224 in colour takes 26 ms in pieces of 4, 33 of 6, 38 of 8
#: and 42 of 12, beside other programs (EfficientNet-Lite0). So 4 of these, 53 of 64x64.
_VALUES = 5 << 17


def piece(inputs: Tensor) -> int:
    """Return how many of these inputs ``(N, *S)`` to ask about at once; at least one.

    >>> import torch
    >>> from xlens.nn import piece
    >>> piece(torch.zeros(100, 3, 224, 224))
    4
    """
    if inputs.device.type != "cpu":
        return _AT_ONCE
    return max(1, _VALUES // max(1, inputs[:1].numel()))


def in_pieces(classifier: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Return a classifier's logits of inputs ``(N, *S)``, ``(N, K)``, piece by piece."""
    return torch.cat([classifier(part) for part in inputs.split(piece(inputs))])
