"""The explained score of the classifier's logits, the classes that it compares, and the margin between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlens.errors import DataError

__all__ = ["class_tensor", "default_contrast", "margin_over_rest", "score_margin"]


def score_margin(logits: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
    """Return f_c, the logit of `target` minus the logit of `contrast`, ``(N,)``."""
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows, target] - logits[rows, contrast]


def margin_over_rest(logits: Tensor, target: Tensor) -> Tensor:
    """Return the logit of `target` minus the largest of the others, ``(N,)``."""
    own = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    return own - logits.scatter(1, target.unsqueeze(1), -torch.inf).amax(1)


def default_contrast(logits: Tensor, target: Tensor, reference: int | None) -> Tensor:
    """Return the class to explain against: the lens's reference class, else the classifier's runner-up,
    ``(N,)``."""
    others = logits.scatter(1, target.unsqueeze(1), -torch.inf)
    runner_up = others.argmax(1)
    if reference is None:
        return runner_up
    return torch.where(target == reference, runner_up, torch.full_like(target, reference))


def class_tensor(method: str, name: str, value: Any, n: int, num_classes: int, device: torch.device) -> Tensor:
    """Return classes ``(n,)`` from an int or a tensor.

    Raises:
        DataError: not whole numbers, another shape, or a class that does not exist.
    """
    try:
        classes = torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError):
        classes = torch.empty(0)  # refused below, as any other value that is no class
    whole = not classes.is_floating_point() and classes.dtype != torch.bool
    fits = whole and tuple(classes.shape) in ((), (n,))
    if not fits or not bool(((classes >= 0) & (classes < num_classes)).all()):
        raise DataError(
            f"{method}: {name} is not a class",
            given=repr(value),
            allowed=f"an int from 0 to {num_classes - 1}, or {n} of them as a tensor ({n},)",
            do="use the classifier's class indices",
        )
    return classes.long().clone().expand(n)
