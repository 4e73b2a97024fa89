"""How often each answer was given, for checking and to learn from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

__all__ = ["counts"]


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
