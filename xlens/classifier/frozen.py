"""Temporary freezing of somebody else's model, with restoration that survives anything."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["bits", "frozen", "seeded"]

T = TypeVar("T")


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Within this context the global RNGs are seeded (unless None); afterwards they are as before.

    >>> import torch
    >>> before = torch.get_rng_state()
    >>> with seeded(0):
    ...     _ = torch.rand(3)
    >>> bool((before == torch.get_rng_state()).all())
    True
    """
    python, numpy_state, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # Asking for CUDA's state would initialise CUDA; where it is not in use there is none to keep.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextmanager
def frozen(value: T, model: nn.Module, seed: int | None, copy_parameters: bool = True) -> Iterator[T]:
    """Freeze `model`, yield `value`, restore the model and the global RNGs bit for bit.

    Args:
        value: what the context yields.
        model: the module to freeze.
        seed: seeds the global RNGs meanwhile, unless None.
        copy_parameters: guard against a forward pass that writes to its own parameters, which takes a copy of
            them. Buffers are copied always.
    """
    flags = [(module, module.training) for module in model.modules()]
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    copies: list[tuple[Tensor, Tensor]] = (
        [(p, p.detach().clone()) for p, *_ in parameters] if copy_parameters else []
    )
    gradients = [(grad, grad.detach().clone()) for *_, grad in parameters if grad is not None]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    # A TorchScript module keeps its slots where Python cannot replace them.
    replaceable = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
    tables: list[dict[str, Any]] = [t for m in replaceable for t in (m._buffers, m._parameters, m._modules)]
    slots = [(table, dict(table)) for table in tables]
    hooks = [(m, name, dict(table)) for m in model.modules() for name, table in _hook_tables(m)]
    # What others leave on modules, as some of Captum's methods do, and what a forward pass keeps there.
    attributes = [(module, dict(vars(module))) for module in replaceable]
    with seeded(seed):
        try:
            model.eval()
            for parameter, *_ in parameters:
                parameter.requires_grad_(False)
            yield value
        finally:
            for table, entries in slots:
                table.clear()
                table.update(entries)
            for module, entries in attributes:
                live = vars(module)
                for name in set(live) - set(entries):
                    del live[name]
                live.update(entries)
            for module, training in flags:
                module.training = training
            with torch.no_grad():
                _restore(copies)
                _restore(buffers)
                _restore(gradients)
            for parameter, requires_grad, grad in parameters:
                parameter.requires_grad_(requires_grad)
                parameter.grad = grad
            for module, name, table in hooks:
                live = getattr(module, name)
                live.clear()
                live.update(table)


def _restore(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for live, kept in pairs:
        # Writing only what changed leaves version counters, which autograd checks, alone.
        if live.shape != kept.shape or not torch.equal(bits(live), bits(kept)):
            # torch's stub leaves out the form of set_ that takes a tensor.
            live.set_(kept) if live.shape != kept.shape else live.copy_(kept)  # type: ignore[call-overload]


def bits(tensor: Tensor) -> Tensor:
    """Return the values as bytes ``(n,)``, so that NaN equals NaN and -0 differs from 0."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _hook_tables(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, table in vars(module).items():
        if name.endswith("_hooks") and isinstance(table, dict):
            yield name, table
