"""The tensor that what a hidden layer puts out stands for, where that is a tuple or a dict."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["tensor_in", "with_tensor"]

#: What the models of transformers call a layer's activations among other things.
_HIDDEN = "last_hidden_state"


def tensor_in(output: Any) -> Tensor | None:
    """Return what a layer's output stands for, or None where nothing in it is sure to be that.

    It is the tensor itself; of a tuple or a list the first, as of attention, of an LSTM and of blocks of
    transformers; of a dict its one tensor, or ``"last_hidden_state"``.

    >>> import torch
    >>> tensor_in((torch.zeros(2, 3), None)).shape, tensor_in({"a": torch.zeros(1), "b": torch.zeros(1)})
    (torch.Size([2, 3]), None)
    """
    found = output if isinstance(output, Tensor) else _parts(output).get(_place(output))
    return found if isinstance(found, Tensor) else None


def with_tensor(output: Any, tensor: Tensor) -> Any:
    """Return the output with another tensor in that place; nothing that was put out is changed.

    >>> with_tensor(("old", 1), "new")
    ('new', 1)
    """
    if isinstance(output, tuple):
        rest = (tensor, *output[1:])
        return type(output)(*rest) if hasattr(output, "_fields") else rest
    if not isinstance(output, list | Mapping):
        return tensor
    other: Any = copy.copy(output)
    other[_place(output)] = tensor
    return other


def _parts(output: Any) -> dict[Any, Any]:
    if isinstance(output, Mapping):
        return dict(output)
    return dict(enumerate(output)) if isinstance(output, list | tuple) else {}


def _place(output: Any) -> Any:
    if not isinstance(output, Mapping):
        return 0
    tensors = [key for key, part in output.items() if isinstance(part, Tensor)]
    return tensors[0] if len(tensors) == 1 else _HIDDEN
