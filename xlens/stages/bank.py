"""Real inputs that a lens on a hidden layer keeps, to be shown for points of the layer."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.nn import Kept, nearest_kept

__all__ = ["Bank", "most_kept"]

#: Inputs that are kept at most and at least, and values of all of them together: 16 MB.
_MOST, _LEAST, _VALUES = 512, 64, 2**22


class Bank(Kept):
    """Real inputs with their codes, their values in the layer, and what the classifier says of them.

    Args:
        shape: of one input.
        width: dimensions of a code.
        size: values of one input in the layer.
        num_classes: number of classes K.
    """

    inputs: Tensor
    codes: Tensor
    values: Tensor
    logits: Tensor

    def __init__(self, shape: tuple[int, ...], width: int, size: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("inputs", torch.zeros(0, *shape))
        self.register_buffer("codes", torch.zeros(0, width))
        self.register_buffer("values", torch.zeros(0, size))
        self.register_buffer("logits", torch.zeros(0, num_classes))

    def keep(self, inputs: Tensor, codes: Tensor, values: Tensor, logits: Tensor) -> None:
        """Keep these, and no others."""
        self.inputs, self.codes = inputs.to(self.inputs), codes.to(self.codes)
        self.values, self.logits = values.flatten(1).to(self.values), logits.to(self.logits)

    def nearest(self, values: Tensor, classes: Tensor | None, codes: Tensor, first: Tensor) -> Tensor:
        """Return positions ``(N,)`` of the kept inputs that are nearest to points of the layer.

        Args:
            values: ``(N, P)``.
            classes: ``(N,)`` the class that the classifier must put each in; where there is none, its surest of it.
            codes: ``(N, d)`` of the same points.
            first: dimensions in which only the nearest tenth of what is kept is looked at; may be empty.
        """
        distance, before = torch.cdist(values.double(), self.values.double()), None
        if len(first):
            unit = self.codes[:, first].double().std(0).clamp_min(1e-9)
            before = torch.cdist(codes[:, first].double() / unit, self.codes[:, first].double() / unit)
        return nearest_kept(distance, before, self.logits, classes)


def most_kept(size: int) -> int:
    """Return how many inputs are kept that have so many values in the layer.

    >>> most_kept(100), most_kept(10**6)
    (512, 64)
    """
    return max(_LEAST, min(_MOST, _VALUES // size))
