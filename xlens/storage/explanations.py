"""Explanations as one file each, and as trees of plain values that processes send to each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from xlens.errors import DataError, StorageError
from xlens.explanation import Explanation, Fidelity
from xlens.files.plain import said
from xlens.storage.kinds import explanation_faults, kind_faults, tuples
from xlens.training.checkpoint import read_file, write_file
from xlens.training.processes import processes

__all__ = ["explanation_from_tree", "explanation_to_tree", "load_explanation", "save_explanation"]

_EXPLANATION = "an xlens explanation"
#: What JSON has as lists.
_ROWS = ("problems", "feature_names", "class_names", "data_range")


def save_explanation(explanation: Explanation, path: str | Path) -> None:
    """Write an explanation to one file; of several processes the first writes."""
    if processes(explanation.inputs.device).writes:
        write_file(Path(path), _EXPLANATION, explanation_to_tree(explanation))


def explanation_to_tree(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as nested dicts of tensors and plain values."""
    tree = {field.name: getattr(explanation, field.name) for field in dataclasses.fields(explanation)}
    fidelity = explanation.fidelity
    tree["fidelity"] = {f.name: getattr(fidelity, f.name) for f in dataclasses.fields(fidelity)}
    return tree | {
        name: dict(tree[name]) for name in ("attributions", "convergence_delta", "verdicts", "other_labels")
    }


def load_explanation(path: str | Path) -> Explanation:
    """Read an explanation that :func:`save_explanation` wrote.

    Raises:
        StorageError: missing, truncated, or not an explanation, or one of its fields is of the wrong kind.
    """
    return explanation_from_tree(read_file(Path(path), _EXPLANATION))


def explanation_from_tree(tree: dict[str, Any]) -> Explanation:
    """Return the explanation that :func:`explanation_to_tree` took apart.

    Raises:
        StorageError: its parts are those of another version, or of the wrong kind.
    """
    try:
        parts = dict(tree)
        _refuse(kind_faults(parts["fidelity"], Fidelity))
        parts["fidelity"] = Fidelity(**parts["fidelity"])
        parts |= {name: tuples(parts[name]) for name in _ROWS}
        parts |= {name: tuples(parts.get(name, ())) for name in ("channel_ranges", "display_ranges", "not_taught")}
        _refuse(kind_faults(parts, Explanation))
        explanation = Explanation(**parts)
    except (TypeError, ValueError, LookupError, AttributeError) as fault:
        if isinstance(fault, DataError):
            _refuse([said(fault)])
        raise StorageError(
            "load: this explanation was written by another version of xlens",
            given=said(fault),
            do="explain again and save anew",
        ) from None
    _refuse(explanation_faults(explanation))
    return explanation


def _refuse(faults: list[str]) -> None:
    if faults:
        raise StorageError(
            "load: this explanation has parts of the wrong kind",
            given="; ".join(faults[:5]),
            do="explain again and save anew",
        )
