"""Explanations of several batches and several processes, put together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from xlens.explanation import Explanation, Fidelity
from xlens.storage import explanation_from_tree, explanation_to_tree
from xlens.training.checkpoint import pack, unpack
from xlens.training.processes import Processes

__all__ = ["gathered", "join", "rows_of"]

#: Under which what is no tensor travels among the tensors.
_PLAIN = "plain"


def join(parts: Sequence[Explanation]) -> Explanation:
    """Join explanations of consecutive batches into one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    joined: dict[str, Any] = {}
    for field in dataclasses.fields(Explanation):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], Tensor):
            joined[field.name] = torch.cat(values)
        elif isinstance(values[0], Fidelity):
            names = [f.name for f in dataclasses.fields(Fidelity)]
            joined[field.name] = Fidelity(**{k: torch.cat([getattr(v, k) for v in values]) for k in names})
        elif isinstance(values[0], dict):
            joined[field.name] = {
                k: None if values[0][k] is None else torch.cat([value[k] for value in values]) for k in values[0]
            }
        elif field.name == "problems":
            joined[field.name] = tuple(row for value in values for row in value)
        else:
            joined[field.name] = getattr(first, field.name)
    return Explanation(**joined)


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
