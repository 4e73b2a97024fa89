"""The proof that a model, and the process around it, are exactly as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from xlens.testing.state import differing, model_state, process_state


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Fail if anything of the model or of the global state differs afterwards, on exceptions too."""
    before = state(model)
    try:
        yield
    finally:
        changed = differing(before, state(model))
        assert not changed, f"changed: {changed}"


def state(model: nn.Module) -> dict[str, Any]:
    """Return everything that has to stay, in comparable form."""
    return {**process_state(), **model_state(model)}
