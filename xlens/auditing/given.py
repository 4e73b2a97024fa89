"""What an audit is asked with, checked: numbers and words, masks of objects, facts about inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from xlens.auditing.evidence import SEARCHES
from xlens.auditing.writing import is_path
from xlens.contracts.numbers import is_number, plain, whole
from xlens.data.numbers import as_tensor
from xlens.errors import DataError
from xlens.files.plain import said

__all__ = ["faults_of", "masks_of", "metadata_of"]


def faults_of(
    n: Any, search: Any, seconds: Any, confidence: Any, seed: Any, folder: Any, progress: Any
) -> list[str]:
    """Return what is wrong with the options, all of it."""
    faults = []
    if n is not None and ((count := whole(n)) is None or count < 1):
        faults.append(f"n must be an int >= 1 or None, got {n!r}")
    if search not in SEARCHES:
        faults.append(f"search must be one of {', '.join(SEARCHES)}, got {search!r}")
    if seconds is not None and (not is_number(seconds) or not seconds > 0):
        faults.append(f"seconds must be above 0 or None, got {seconds!r}")
    if not is_number(confidence) or not 0 < confidence < 1:
        faults.append(f"confidence must be between 0 and 1, got {confidence!r}")
    if (number := whole(seed)) is None or not 0 <= number < 2**63:
        faults.append(f"seed must be an int >= 0 and < 2**63, got {seed!r}")
    if folder is not None and not is_path(folder):
        faults.append(f"output_dir must be a path or None, got {folder!r}")
    if progress is not None and not isinstance(plain(progress), bool):
        faults.append(f"progress must be True, False or None, got {progress!r}")
    return faults


def masks_of(masks: Any, total: int, shape: tuple[int, ...]) -> Tensor:
    """Return where the object is in each input, ``(N, 1, H, W)`` bool."""
    try:
        found = as_tensor(masks)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(
            "audit: masks are no table of numbers",
            given=said(fault),
            allowed=f"({total}, 1, {shape[1]}, {shape[2]})",
            do="pass a tensor or an array",
        ) from None
    if tuple(found.shape) != (total, 1, *shape[1:]):
        raise DataError(
            "audit: masks do not fit the data",
            given=tuple(found.shape),
            allowed=f"({total}, 1, {shape[1]}, {shape[2]})",
            do="pass a mask for each input of the data, explained or not, of the inputs' height and width",
        )
    if found.is_floating_point() and not bool((found == found.round()).all()):
        # Of a map of shades nearly all is above 0.
        raise DataError(
            "audit: masks say yes or no",
            given="shades between, or NaN",
            allowed="bool, or 0 and 1",
            do="say from where on it is the object: masks=saliency > 0.5",
        )
    return found.bool().cpu()


def metadata_of(metadata: Any, total: int) -> dict[str, np.ndarray]:
    """Return facts by name, ``(N,)`` values each."""
    if metadata is None:
        return {}
    if not hasattr(metadata, "items"):
        raise DataError(
            "audit: metadata is no table",
            given=type(metadata).__name__,
            allowed="name -> values, or a DataFrame",
            do="name each column: metadata={'camera': cameras}",
        )
    facts = {}
    for name, values in metadata.items():
        try:
            facts[str(name)] = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
        except (TypeError, ValueError, RuntimeError) as fault:
            raise DataError(
                "audit: a column of the metadata is no list of values",
                given=f"{str(name)!r}: {said(fault)}",
                allowed="one value for each input",
                do="pass a list or an array of numbers or words",
            ) from None
    wrong = [name for name, values in facts.items() if values.shape != (total,)]
    if wrong:
        raise DataError(
            "audit: metadata do not fit the data",
            given=f"{wrong[0]!r} of shape {facts[wrong[0]].shape}",
            allowed=f"a value for each of the {total} inputs in the data, explained or not",
            do=f"pass {total} values of {wrong[0]!r} in the order of the data, or leave it out",
        )
    return facts
