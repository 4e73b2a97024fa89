"""What versions before 0.2 wrote beside a lens."""

from __future__ import annotations

from typing import Any

from xlens.errors import StorageError
from xlens.files.plain import parse, said

__all__ = ["OLD_PREPROCESSING", "old_preprocessing"]

#: Where they wrote how files become inputs.
OLD_PREPROCESSING = "inputs.json"


def old_preprocessing(content: bytes | None) -> Any:
    """Return what a version before 0.2 wrote beside a lens.

    Raises:
        StorageError: it was damaged.
    """
    if content is None:
        return None
    try:
        found = parse(content)
        if isinstance(found, dict):
            return found
        fault: object = type(found).__name__
    except ValueError as raised:
        fault = said(raised)
    raise StorageError(
        f"load: {OLD_PREPROCESSING!r} is damaged",
        given=fault,
        do="remove it, and say size, mode, mean and std again",
    )
