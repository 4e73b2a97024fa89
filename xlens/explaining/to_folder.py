"""Explaining a whole data set to disk: in parts, each written whole as it is made, and taken up again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlens.classifier.quiet import quiet
from xlens.contracts.numbers import is_count
from xlens.data import Batch, Data, as_data
from xlens.errors import OptionError, StorageError, UntrustworthyWarning, warn
from xlens.explaining.explain import explain
from xlens.files.writing import write_whole
from xlens.fitted import Fitted
from xlens.stages import StagedLens
from xlens.storage import ExplanationFolder, load_explanation, save_explanation
from xlens.storage.digest import digest_of_lens
from xlens.storage.explanation_folder import FACTS, KIND, PARTS
from xlens.training.bar import Bar
from xlens.training.processes import alone, processes

__all__ = ["explain_to"]


def explain_to(
    fitted: Fitted,
    folder: str | Path,
    data: Any,
    *,
    rows: int = 16,
    progress: bool | None = None,
    **asked: Any,
) -> ExplanationFolder:
    """Explain a data set part by part; arguments as for ``explainer.explain_to``."""
    if not is_count(rows):
        raise OptionError(f"explain_to: rows must be an int >= 1, got {rows!r}")
    for name in ("target", "contrast"):
        if not isinstance(asked.get(name), int | str | None):
            raise OptionError(
                f"explain_to: {name} must be one class, by index or name, or None, got {type(asked[name]).__name__}"
            )
    folder, source = Path(folder), as_data(data)
    together = processes(fitted.device)
    facts = _facts(fitted, source, rows, asked)
    with together.jointly("explain_to", StorageError):
        _begin(folder, facts, source)
    count = facts["parts"]
    hidden = None if progress is None else not progress
    held, explained, seen = 0, 0, 0
    # Each process explains other parts, and exchanges nothing meanwhile.
    with alone(), Bar(desc="explain", unit="part", total=count, disable=hidden) as bar:
        for number, part in _parts(source, rows):
            seen = number + 1
            path = folder / f"part-{number:08d}.safetensors"
            if number % together.count == together.index and not path.exists():
                with quiet():
                    found = explain(fitted, part().inputs, **asked)
                save_explanation(found, path)
                held, explained = held + int(found.trustworthy.sum()), explained + len(found)
            bar.update(1)
    if count is None and together.writes:
        _write(folder, {**facts, "parts": seen})
    if held < explained:
        warn(
            f"explain_to: {explained - held} of {explained} explanations do not hold. Each part has .problems: "
            f"for part in xlens.storage.ExplanationFolder({str(folder)!r})",
            UntrustworthyWarning,
        )
    # Whoever goes on has all of them.
    together.gather(torch.zeros(1))
    return ExplanationFolder(folder)


def _parts(data: Data, rows: int) -> Iterator[tuple[int, Any]]:
    """Yield the number of each part, and what reads it; of a stream every batch is a part, and read in any case."""
    if not data.indexed:
        for number, batch in enumerate(data.batches()):
            yield number, lambda batch=batch: batch
        return
    for number, index in enumerate(torch.arange(len(data)).split(rows)):
        yield number, lambda index=index: data.take(index)


def _facts(fitted: Fitted, data: Data, rows: int, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the explanations, but for the inputs themselves."""
    digest = hashlib.sha256(fitted.fitted_around.fingerprint().encode())
    digest.update(fitted.classifier.fingerprint().encode())
    if isinstance(fitted.lens, StagedLens):
        # Somebody's own autoencoder is no part of its state.
        digest.update(json.dumps(fitted.lens.stage.facts(), sort_keys=True).encode())
    digest.update(digest_of_lens(fitted.lens, fitted.mask).encode())
    count = -(-len(data) // rows) if data.indexed else None
    known = {name: _plain(value) for name, value in sorted(asked.items()) if value is not None}
    return {"kind": KIND, "rows": rows, "parts": count, "lens": digest.hexdigest(), "asked": known}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor | np.ndarray):
        content = torch.as_tensor(value).detach().cpu().contiguous().numpy().tobytes()
        return f"{tuple(value.shape)} {hashlib.sha256(content).hexdigest()}"
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _begin(folder: Path, facts: dict[str, Any], data: Data) -> None:
    """Take up what an earlier call began, or begin anew.

    Raises:
        StorageError: what is in the folder is of another lens, of other data, or was asked otherwise.
    """
    if not (folder / FACTS).exists():
        if any(folder.glob(PARTS)):
            raise _otherwise(folder, "parts of which nothing says what they are")
        _write(folder, facts)
        return
    earlier = ExplanationFolder(folder)
    own = {**json.loads(json.dumps(facts)), "parts": None}
    wrong = [name for name, value in {**earlier.facts, "parts": None}.items() if own.get(name) != value]
    if wrong or (facts["parts"] is not None and earlier.facts["parts"] != facts["parts"]):
        raise _otherwise(folder, f"explanations of another {', '.join(wrong) or 'number of inputs'}")
    if earlier.parts and data.indexed:
        first = earlier.parts[0]
        number = int(first.stem.split("-")[1])
        known = load_explanation(first).inputs
        start = number * facts["rows"]
        again: Batch = data.take(torch.arange(start, start + len(known)))
        if not torch.equal(again.inputs, known.cpu()):
            raise _otherwise(folder, "explanations of other inputs")


def _write(folder: Path, facts: dict[str, Any]) -> None:
    try:
        write_whole(folder / FACTS, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
    except OSError as fault:
        raise StorageError("explain_to: the folder cannot be written", given=f"{folder}: {fault}") from fault


def _otherwise(folder: Path, what: str) -> StorageError:
    return StorageError(
        "explain_to: the folder holds something else",
        given=f"{folder} with {what}",
        allowed="an empty folder, or one of the same lens, data and options, which is taken up where it was left",
        do="name another folder",
    )
