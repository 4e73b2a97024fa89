"""What a DIF lens can be asked beside an explainer's methods."""

from __future__ import annotations

from typing import Any

import xlens
from xlens_dif.lens import Agreement, DIFLens, Traversal

__all__ = ["agreement", "traversal"]


def traversal(explainer: xlens.Explainer, inputs: Any, feature: str | int, count: int = 9) -> Traversal:
    """Traversal of one feature from -C to C, with the classifier's margin under every frame.

    Args:
        explainer: of a DIF lens.
        inputs: ``(N, *S)``.
        feature: name or position of a feature that belongs to a class.
        count: number T of frames.

    Raises:
        UnsupportedError: its lens is of another backend.
        OptionError: no such feature, or fewer than two frames.
        DataError: inputs of another shape, none, or values that are not finite.
    """
    with xlens.asking(explainer, DIFLens, "traversal") as lens:
        return lens.traversal(inputs, feature, count)


def agreement(explainer: xlens.Explainer, inputs: Any) -> Agreement:
    """Agreement of the sparse models with the classifier, and of the classifier with edits toward its runner-up.

    Args:
        explainer: of a DIF lens.
        inputs: ``(N, *S)``.

    Raises:
        UnsupportedError: its lens is of another backend.
        DataError: inputs of another shape, none, or values that are not finite.
    """
    with xlens.asking(explainer, DIFLens, "agreement") as lens:
        return lens.agreement(inputs)
