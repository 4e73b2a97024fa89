"""What may be asked of samples: a class, attributes, and whether a drawing has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.contracts import whole
from xlens.errors import OptionError

__all__ = ["Draw", "check_draw", "holds", "log_likelihood"]


@dataclass(frozen=True)
class Draw:
    """New inputs of one class, and how they were found.

    Args:
        inputs: ``(n, *S)``.
        codes: ``(n, d)``.
        accepted_by_classifier: share of all decodings drawn that it puts in the class; the others are rejected.
        accepted_by_head: the same share among those that the head itself puts in the class (calibrated, where
            that was asked for).
        acceptance: share of Langevin proposals that the Metropolis test accepted, once steps were adapted.
        r_hat: how well the chains mixed; near 1 when they did.
        kept: ``(n,)`` bool, False where so few were accepted that the best of the others fill the gap.
        read: ``(n, A)`` what the head reads of each attribute off the input, encoded again: a logit, or a number in
            its standard deviations.
    """

    inputs: Tensor
    codes: Tensor
    accepted_by_classifier: float
    accepted_by_head: float
    acceptance: float
    r_hat: float
    kept: Tensor
    read: Tensor


def log_likelihood(read: Mapping[str, Tensor], attributes: Mapping[str, bool | float]) -> Tensor:
    """Return log p(attributes|z), ``(N,)`` or ``()``, up to a constant: they are independent of each other.

    Args:
        read: name -> ``(N,)`` logit, or number in its standard deviations, which has a deviation of 1.
        attributes: name -> True or False, for what is yes or no, or a number.
    """
    # Of no dimension, so that it goes with tensors of any device.
    total = torch.zeros((), device="cpu")
    for name, wanted in attributes.items():
        if isinstance(wanted, bool):
            total = total + F.logsigmoid(read[name] if wanted else -read[name])
        else:
            total = total - 0.5 * (read[name] - wanted).square()
    return total


def holds(read: Mapping[str, Tensor], attributes: Mapping[str, bool | float]) -> Tensor:
    """Return whether readings are what was wanted, ``(N,)``: on that side of 0, or within 1 of a number."""
    found = torch.ones((), dtype=torch.bool, device="cpu")
    for name, wanted in attributes.items():
        own = read[name]
        found = found & ((own > 0) == wanted if isinstance(wanted, bool) else (own - wanted).abs() <= 1)
    return found


def check_draw(
    n: int,
    target: int | None,
    num_classes: int,
    attributes: Mapping[str, bool | float],
    known: Sequence[str],
) -> None:
    """Refuse what cannot be drawn.

    Raises:
        OptionError: `n` is no whole number of at least 1, there is no such class or attribute, or nothing is asked.
    """
    asked: list[tuple[str, object, int, int | None]] = [("n", n, 1, None)]
    if target is not None:
        asked.append(("target", target, 0, num_classes - 1))
    for name, value, least, most in asked:
        number = whole(value)
        if number is None or number < least or (most is not None and number > most):
            allowed = f"an int of at least {least}" if most is None else f"an int from {least} to {most}"
            raise OptionError(f"draw: {name} is wrong", given=repr(value), allowed=allowed)
    wrong = [name for name, value in attributes.items() if name not in known or not _is_value(value)]
    if wrong:
        raise OptionError(
            "draw: attributes are wrong",
            given=", ".join(f"{name!r}: {attributes[name]!r}" for name in wrong),
            allowed=f"of {', '.join(map(repr, known)) or 'none'}, True, False or a finite number",
        )
    if target is None and not attributes:
        raise OptionError("draw: nothing is asked for", given="no target and no attributes", do="name one of them")


def _is_value(value: object) -> bool:
    return isinstance(value, bool | int | float) and math.isfinite(value)
