"""The proof that a model, and the process around it, are exactly as they were."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Fail if anything of the model or of the global state differs afterwards, on exceptions too."""
    before = state(model)
    try:
        yield
    finally:
        after = state(model)
        differing = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        assert not differing, f"changed: {sorted(differing)}"


def state(model: nn.Module) -> dict[str, Any]:
    """Return everything that has to stay, in comparable form."""
    found: dict[str, Any] = {
        "rng.torch": _bytes(torch.get_rng_state()),
        "rng.numpy": [str(part) for part in np.random.get_state()] + [np.random.get_state()[1].tobytes()],
        "rng.python": random.getstate(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "interrupt handler": signal.getsignal(signal.SIGINT),
    }
    for name, module in model.named_modules():
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


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
