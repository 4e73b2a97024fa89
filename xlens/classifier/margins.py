"""The explained score of the classifier's logits, the classes that it compares, and the margin between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from xlens.errors import DataError, did_you_mean

__all__ = [
    "Classes",
    "class_tensor",
    "decision_margins",
    "default_contrast",
    "margin_over_rest",
    "named_classes",
    "score_margin",
]

#: A class for all inputs, or one for each: by index or by name.
Classes: TypeAlias = int | str | Sequence[int] | Sequence[str] | Tensor


def score_margin(logits: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
    """Score ``(N,)``: the logit of `target` minus the logit of `contrast`, called f_c in the papers."""
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows, target] - logits[rows, contrast]


def margin_over_rest(logits: Tensor, target: Tensor) -> Tensor:
    """Margin ``(N,)``: the logit of `target` minus the largest of the others."""
    own = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    return own - logits.scatter(1, target.unsqueeze(1), -torch.inf).amax(1)


def default_contrast(logits: Tensor, target: Tensor, reference: int | None) -> Tensor:
    """Contrast class ``(N,)``: the one to explain against, the lens's reference class or else the runner-up."""
    others = logits.scatter(1, target.unsqueeze(1), -torch.inf)
    runner_up = others.argmax(1)
    if reference is None:
        return runner_up
    return torch.where(target == reference, runner_up, torch.full_like(target, reference))


def named_classes(method: str, name: str, value: Any, known: Sequence[str]) -> Any:
    """Return indices in place of class names; other classes as they are, those of an array or a column as a list.

    Raises:
        DataError: there is no such name, or several classes have it.

    >>> from xlens.classifier.margins import named_classes
    >>> named_classes("explain", "target", ["rust", "leaf"], ("leaf", "rust"))
    [1, 0]
    """
    if isinstance(value, str):
        return _index_of(method, name, value, known)
    # An array or a column of names has tolist; a tensor has none in it.
    # As a list it is also free of what torch does not take: another byte order, mirrored strides, other numbers.
    several = value.tolist() if hasattr(value, "tolist") and not isinstance(value, Tensor) else value
    if not isinstance(several, list | tuple) or not any(isinstance(one, str) for one in several):
        return several
    return [_index_of(method, name, one, known) for one in several]


def _index_of(method: str, name: str, value: Any, known: Sequence[str]) -> int:
    found = [index for index, one in enumerate(known) if isinstance(value, str) and one == value]
    if len(found) == 1:
        return found[0]
    # A classifier tells classes of one name apart by their numbers, in the name that is shown.
    found = found or [index for index, one in enumerate(known) if one == f"{value} (class {index})"]
    if found:
        raise DataError(
            f"{method}: {name} is the name of several classes",
            given=f"{value!r}, which is class {' and class '.join(map(str, found))}",
            do="use the class's index",
        )
    raise DataError(
        f"{method}: {name} is not a class.{did_you_mean(value, known) if isinstance(value, str) else ''}",
        given=ascii(value)[:80],
        allowed=", ".join(list(known)[:20]) + (", ..." if len(known) > 20 else ""),
        do="use the classes' names alone, or their indices alone",
    )


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


def decision_margins(logits: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the margins of decisions over their runners-up, ``(N,)``, and what `others` give for the same.

    >>> import torch
    >>> decision_margins(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
    (tensor([2.]), tensor([-1.]))
    """
    top = logits.topk(2, 1).indices
    own, other = (-values.gather(1, top).diff(dim=1)[:, 0] for values in (logits, others))
    return own, other
