"""Everything of a model, and of the process around it, that a lens must leave as it is."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from xlens.classifier.whole import modules_of

__all__ = ["differing", "model_state", "process_state"]


def process_state() -> dict[str, Any]:
    """Return the state of the process in comparable form: random numbers, switches, the handler of Ctrl-C.

    >>> from xlens.testing.state import differing, process_state
    >>> before = process_state()
    >>> _ = torch.rand(3)
    >>> differing(before, process_state())
    ['rng.torch']
    """
    algorithm, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    return {
        "rng.torch": _bytes(torch.get_rng_state()),
        "rng.numpy": [algorithm, keys.tobytes(), *map(str, rest)],
        "rng.python": random.getstate(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "interrupt handler": signal.getsignal(signal.SIGINT),
    }


def model_state(model: nn.Module) -> dict[str, Any]:
    """Return every value, flag, gradient, hook and attribute of a model in comparable form."""
    found: dict[str, Any] = {}
    for name, module in modules_of(model):
        found[f"{name}: identity"] = id(module)
        found[f"{name}: training"] = module.training
        found[f"{name}: attributes"] = list(vars(module))
        for table, entries in vars(module).items():
            if "hooks" in table and isinstance(entries, dict):
                found[f"{name}: {table}"] = [(key, id(value)) for key, value in entries.items()]
        for key, parameter in module._parameters.items():
            if parameter is not None:
                grad = parameter.grad
                found[f"{name}.{key}: value"] = (id(parameter), parameter.data_ptr(), _bytes(parameter))
                found[f"{name}.{key}: requires_grad"] = parameter.requires_grad
                found[f"{name}.{key}: grad"] = None if grad is None else (id(grad), _bytes(grad))
        for key, buffer in module._buffers.items():
            if buffer is not None:
                found[f"{name}.{key}: buffer"] = (id(buffer), _bytes(buffer))
    return found


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs between two states."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
