"""Explanations of several processes, put together in each of them."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load, save
from torch import Tensor

from xlens._explain import join
from xlens.explanation import Explanation
from xlens.storage import explanation_from_tree, explanation_to_tree
from xlens.training.checkpoint import pack, unpack
from xlens.training.processes import Processes

__all__ = ["gathered", "rows_of"]

_PLAIN = "plain"


def rows_of(together: Processes, n: int) -> Tensor:
    """Return which of `n` inputs this process explains: consecutive ones, or all where there are too few."""
    rows = torch.arange(n)
    return rows if n < together.count else rows.tensor_split(together.count)[together.index]


def gathered(together: Processes, n: int, own: Explanation) -> Explanation:
    """Return the explanation of all `n` inputs.

    Args:
        together: the processes.
        n: inputs in all.
        own: the explanation of this process's :func:`rows_of`.
    """
    if together.count == 1 or n < together.count:
        return own
    tensors, plain = pack(explanation_to_tree(own))
    tensors[_PLAIN] = _bytes(json.dumps(plain).encode())
    parts = []
    for content in together.gather(_bytes(save(tensors))):
        found = load(content.numpy().tobytes())
        plain = json.loads(found.pop(_PLAIN).numpy().tobytes())
        parts.append(explanation_from_tree(unpack(found, plain)).to(own.inputs.device))
    return join(parts)


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
