"""Answers: what may be one, and how often each was given, for checking and to learn from."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

__all__ = ["LARGEST", "counts", "in_a_line", "is_answer"]

#: What torch can learn from.
LARGEST = torch.finfo(torch.float32).max


def counts(
    questions: Sequence[Any], answers: Mapping[str, Sequence[float | None]], check: Collection[int]
) -> list[dict[str, Any]]:
    """Return, per question, how many inputs were answered so, as ``[for checking, to learn from]``.

    Args:
        questions: with their `choices`; none of a question whose answer is a number.
        answers: position of an input -> an answer to each question, None where it cannot be told.
        check: the positions that are for checking.

    Returns:
        ``told``, a pair for each choice (one for all numbers), and ``untold``, a pair.
    """
    own = [[(row[a], int(key) in check) for key, row in answers.items()] for a in range(len(questions))]

    def pair(kept: list[bool]) -> list[int]:
        return [sum(kept), len(kept) - sum(kept)]

    return [
        {
            "told": [pair([held for value, held in given if value == choice]) for choice in question.choices]
            or [pair([held for value, held in given if value is not None])],
            "untold": pair([held for value, held in given if value is None]),
        }
        for question, given in zip(questions, own, strict=True)
    ]


def is_answer(value: Any) -> bool:
    """Whether this is an answer as one is kept: a number that torch can learn from, or None."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and abs(value) <= LARGEST and math.isfinite(value))


def in_a_line(value: Any) -> str:
    """Return what was given in words that fit a line; a number may have more digits than Python prints."""
    try:
        said = ascii(value)
    except ValueError:
        said = f"a {type(value).__name__} too long to be said"
    return said if len(said) <= 80 else f"{said[:77]}..."
