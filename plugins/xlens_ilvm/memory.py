"""What a lens keeps of the data: rows to go on learning from, and real inputs to show."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.nn import Kept, nearest_kept

__all__ = ["Bank", "Memory"]


class Memory(Kept):
    """Rows y with what is known of them, so that learning can go on: numbers of the layer, and no inputs.

    Args:
        width: dimensions of y.
    """

    y: Tensor
    targets: Tensor
    held_out: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("y", torch.zeros(0, width))
        self.register_buffer("targets", torch.zeros(0, 0))
        self.register_buffer("held_out", torch.zeros(0, dtype=torch.bool))

    def keep(self, y: Tensor, targets: Tensor, held_out: Tensor) -> None:
        """Keep these rows, ``(n, width)``, ``(n, C)`` and ``(n,)``, and no others."""
        self.y, self.targets = y.to(self.y), targets.to(self.targets)
        self.held_out = held_out.to(self.held_out)

    def add(self, y: Tensor, targets: Tensor, held_out: Tensor) -> None:
        """Keep these rows as well."""
        self.keep(
            torch.cat([self.y, y.to(self.y)]),
            torch.cat([self.targets, targets.to(self.targets)]),
            torch.cat([self.held_out, held_out.to(self.held_out)]),
        )


class Bank(Kept):
    """Real inputs with their codes and what the classifier says of them.

    Args:
        shape: of one input.
        width: dimensions of a code.
        num_classes: number of classes K.
    """

    inputs: Tensor
    codes: Tensor
    logits: Tensor

    def __init__(self, shape: tuple[int, ...], width: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("inputs", torch.zeros(0, *shape))
        self.register_buffer("codes", torch.zeros(0, width))
        self.register_buffer("logits", torch.zeros(0, num_classes))

    def keep(self, inputs: Tensor, codes: Tensor, logits: Tensor) -> None:
        """Keep these, and no others."""
        self.inputs, self.codes, self.logits = inputs.to(self.inputs), codes.to(self.codes), logits.to(self.logits)

    def nearest(self, codes: Tensor, dims: Tensor, classes: Tensor | None, first: Tensor, units: Tensor) -> Tensor:
        """Return the kept inputs ``(N, *S)`` whose codes are nearest in these dimensions.

        Args:
            codes: ``(N, d)``.
            dims: dimensions in which distances are taken.
            classes: ``(N,)`` the class that the classifier must put each in; where there is none, its surest of it.
            first: dimensions in which only the nearest tenth of what is kept is looked at; may be empty.
            units: ``(d,)`` what counts as a distance of one in each dimension.
        """
        wanted, kept = codes.double() / units, self.codes.double() / units
        distance, before = torch.cdist(wanted[:, dims], kept[:, dims]), None
        if len(first):
            before = torch.cdist(wanted[:, first], kept[:, first])
        return self.inputs[nearest_kept(distance, before, self.logits, classes)]
