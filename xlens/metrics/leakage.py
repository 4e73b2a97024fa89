"""How much an edit of one thing changes others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["leakage"]


def leakage(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    codes: Tensor,
    edits: Tensor,
    readouts: Tensor,
    amount: float,
) -> Tensor:
    """Leakage: change of each read-out per unit of each edit, ``(M, R)``, averaged over codes.

    An edit is decoded and encoded again, so that what counts is what happened in the input and not only in the
    code: E(G(z + a u)) against E(G(z)).

    Args:
        encode, decode: the lens's; ``(N, *S)`` to ``(N, d)`` and back.
        codes: ``(N, d)`` where edits begin.
        edits: ``(M, d)`` directions of the edits.
        readouts: ``(R, d)`` directions that are read.
        amount: length of the edits, not 0.

    >>> import torch
    >>> skewed = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    >>> leakage(lambda x: x, lambda z: z, torch.zeros(5, 2), skewed, skewed, 2.0)
    tensor([[1.0000, 0.6000],
            [0.6000, 1.0000]])
    """
    before = encode(decode(codes))
    rows = [(encode(decode(codes + amount * edit)) - before).mean(0) @ readouts.T / amount for edit in edits]
    return torch.stack(rows)
