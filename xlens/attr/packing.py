"""Several tensors as one, so that curves and integrals deal with single tensors only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Packing"]


@dataclass(frozen=True)
class Packing:
    """How a tuple of tensors ``(N, ...)`` becomes one; a single tensor keeps its shape.

    Args:
        shapes: of the tensors, without the batch.
        dtypes: of the tensors.
        is_tuple: whether a tuple was given, which may have one member.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    is_tuple: bool

    @classmethod
    def like(cls, values: Tensor | tuple[Tensor, ...]) -> Packing:
        """Return the packing of such values."""
        parts = values if isinstance(values, tuple) else (values,)
        shapes = tuple(tuple(part.shape[1:]) for part in parts)
        return cls(shapes, tuple(part.dtype for part in parts), isinstance(values, tuple))

    def pack(self, values: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return one tensor: the only one as it is, or ``(N, sum of sizes)`` in the widest dtype."""
        parts = values if isinstance(values, tuple) else (values,)
        if len(parts) == 1:
            return parts[0]
        widest = parts[0].dtype
        for part in parts[1:]:
            widest = torch.promote_types(widest, part.dtype)
        return torch.cat([part.reshape(len(part), -1).to(widest) for part in parts], 1)

    def unpack(self, packed: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors; gradients flow."""
        if len(self.shapes) == 1:
            return (packed.to(self.dtypes[0]),)
        sizes = [int(torch.Size(shape).numel()) for shape in self.shapes]
        pieces = packed.split(sizes, 1)
        kinds = zip(pieces, self.shapes, self.dtypes, strict=True)
        return tuple(piece.reshape(len(packed), *shape).to(dtype) for piece, shape, dtype in kinds)

    def unpack_as_given(self, packed: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return a tuple where one was given, else the single tensor."""
        parts = self.unpack(packed)
        return parts if self.is_tuple else parts[0]
