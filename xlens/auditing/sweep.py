"""One pass over the data: the parts of every edit, within a time, and from where an earlier pass stopped."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from xlens.auditing.edits import KeptEdits
from xlens.auditing.evidence import evidence_of
from xlens.auditing.parts import Parts, parts_of
from xlens.auditing.windows import LARGE
from xlens.classifier.frozen import seeded
from xlens.classifier.margins import default_contrast
from xlens.classifier.pieces import in_pieces
from xlens.data import Data
from xlens.errors import DataError, StorageError
from xlens.files.limits import MOST_BYTES
from xlens.files.plain import parse
from xlens.files.writing import write_whole
from xlens.fitted import Fitted

__all__ = ["Reader", "Seen", "Sweep", "sweep", "true_classes"]

#: Inputs that are explained at once, and whose parts make one file: of large images fewer, as each takes seconds.
_BATCH, _LARGE_BATCH = 64, 8
#: Inputs that are kept of one pass over a stream.
_OF_A_STREAM = 512
#: Not a name that an audit is written by: those files may lie in the same folder.
_MANIFEST = "batches.json"


@dataclass(frozen=True)
class Seen:
    """Every input that was explained, as columns: position in the data, decision, contrast, true class or -1, and
    the number of its parts."""

    input: np.ndarray
    target: np.ndarray
    contrast: np.ndarray
    label: np.ndarray
    parts: np.ndarray


@dataclass(frozen=True)
class Sweep:
    """What one pass found; `total` is the number of inputs that should have been explained.

    `edits` are those of this pass; batches that an earlier one left have none.
    """

    seen: Seen
    parts: Parts
    total: int
    edits: KeptEdits


class Reader:
    """Inputs by their position, of data that are indexed or a stream; no more than are asked for are kept.

    Args:
        data: the user's.
        shape: of one input.
        n: so many inputs, drawn by `seed`; None for all.
        seed: draws them, and seeds what the user's data draw while they are read.
    """

    def __init__(self, data: Data, shape: tuple[int, ...], n: int | None, seed: int) -> None:
        self.data, self.shape, self.seed = data, shape, seed
        self.batch = _LARGE_BATCH if min(shape[1:]) >= LARGE else _BATCH
        with seeded(seed):
            self.total = len(data) if data.indexed else sum(len(batch) for batch in data.batches(_BATCH))
        generator = torch.Generator().manual_seed(seed)
        # A prefix of a shuffled order: with less time one sees a sample of the same inputs.
        self.order = torch.randperm(self.total, generator=generator)[: self.total if n is None else n]

    def batches(self, done: set[int]) -> Iterator[tuple[int, Tensor, Tensor, Tensor | None]]:
        """Yield number, positions, inputs and labels of each batch that is not done yet."""
        chunks = self.order.split(self.batch)
        todo = [number for number in range(len(chunks)) if number not in done]
        if self.data.indexed:
            for number in todo:
                index = chunks[number].sort().values
                yield number, index, *self.take(index)
            return
        at_once = _OF_A_STREAM // self.batch
        for start in range(0, len(todo), at_once):
            # A stream is gone through once for several batches.
            numbers = todo[start : start + at_once]
            index = torch.cat([chunks[number] for number in numbers]).sort().values
            inputs, labels = self.take(index)
            for number in numbers:
                rows = torch.isin(index, chunks[number])
                yield number, index[rows], inputs[rows], None if labels is None else labels[rows]

    def take(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the inputs at these positions, which ascend, and their labels where the data have any."""
        inputs: list[Tensor] = []
        labels: list[Tensor] = []
        known = False
        with seeded(self.seed):
            if self.data.indexed:
                batch = self.data.take(index)
                return self._checked(batch.inputs), batch.labels
            first = 0
            for batch in self.data.batches(_BATCH):
                rows = index[(index >= first) & (index < first + len(batch))] - first
                first += len(batch)
                inputs.append(batch.inputs[rows])
                known |= batch.labels is not None
                labels.append(batch.labels[rows] if batch.labels is not None else torch.full_like(rows, -1))
        return self._checked(torch.cat(inputs)), torch.cat(labels) if known else None

    def _checked(self, inputs: Tensor) -> Tensor:
        if tuple(inputs.shape[1:]) != self.shape:
            raise DataError(
                "audit: not the shape that the lens was fitted on",
                given=tuple(inputs.shape[1:]),
                allowed=self.shape,
                do="apply the preprocessing that the classifier was trained with",
            )
        return inputs.float()


def true_classes(labels: Tensor, classes: int, who: str, least: int = -1) -> Tensor:
    """Return labels ``(n,)`` as classes.

    Args:
        labels: as the data have them.
        classes: so many there are.
        who: named in the error.
        least: -1 where some may be unknown, else 0.

    Raises:
        DataError: some are no classes.
    """
    wrong = ~((labels >= least) & (labels < classes)) | (labels != labels.long())
    if bool(wrong.any()):
        raise DataError(
            f"{who}: labels that are no classes of the classifier",
            given=f"{labels[wrong][0].item():g}",
            allowed=f"whole numbers from 0 to {classes - 1}" + (", -1 for unknown" if least < 0 else ""),
            do="of numbers and grades pass which side of the threshold they are on; or the data without labels",
        )
    return labels.long()


def sweep(
    fitted: Fitted,
    reader: Reader,
    *,
    masks: Any,
    search: str,
    seconds: float | None,
    folder: Path | None,
    identity: dict[str, Any],
    progress: bool | None,
) -> Sweep:
    """Explain the data in batches.

    Args:
        fitted: classifier and lens.
        reader: the data.
        masks: a row ``(1, H, W)`` for each input of the data, where its object is; or None.
        search: how evidence is found.
        seconds: when to stop; at least one batch is explained.
        folder: where batches are kept, and taken from when they are there; None for nowhere.
        identity: what has to be the same for them to be taken.
        progress: show a progress bar; None shows it on a terminal.

    Raises:
        StorageError: the folder holds batches of another audit, or cannot be read or written.
    """
    batches = -(-len(reader.order) // reader.batch)
    kept = {} if folder is None else _resumed(folder, identity, batches)
    began, edits = time.monotonic(), KeptEdits()
    hide = None if progress is None else not progress
    with tqdm(total=batches, initial=len(kept), desc="audit", unit="batch", disable=hide) as bar:
        for number, index, inputs, labels in reader.batches(set(kept)):
            objects = None if masks is None else masks[index].bool().flatten(1, -3).any(1)
            kept[number] = _batch(fitted, inputs, index, labels, objects, search, edits)
            if folder is not None:
                _write(folder / f"batch-{number:06d}.npz", kept[number])
            bar.update()
            if seconds is not None and time.monotonic() - began > seconds:
                break
    ordered = [kept[number] for number in sorted(kept)]
    seen = {f.name: np.concatenate([one[0][f.name] for one in ordered]) for f in fields(Seen)}
    return Sweep(Seen(**seen), Parts.joined([one[1] for one in ordered]), len(reader.order), edits)


def _batch(
    fitted: Fitted,
    inputs: Tensor,
    index: Tensor,
    labels: Tensor | None,
    objects: Tensor | None,
    search: str,
    edits: KeptEdits,
) -> tuple[dict[str, np.ndarray], Parts]:
    labels = None if labels is None else true_classes(labels, fitted.spec.num_classes, "audit")
    with fitted.asking():
        moved = inputs.to(fitted.device)
        logits = in_pieces(fitted.classifier, moved)
        target = logits.argmax(1)
        contrast = default_contrast(logits, target, fitted.lens.reference_class)
        found = evidence_of(fitted, moved, target, contrast, search, logits)
        objects = None if objects is None else objects.to(fitted.device)
        facts = {"labels": labels, "objects": objects}
        parts = parts_of(fitted, moved, target, contrast, found, logits=logits, index=index, **facts)
        fall = torch.full((len(index),), -torch.inf)
        for i, drop in zip(np.searchsorted(index.numpy(), parts.input).tolist(), parts.drop.tolist(), strict=True):
            fall[i] = max(float(fall[i]), drop)
        held = fall > -torch.inf
        edits.add(index[held], moved[held], found.filled[held], fall[held])
    label = torch.full_like(index, -1) if labels is None else labels
    columns = {"input": index, "target": target, "contrast": contrast, "label": label}
    seen = {name: value.cpu().numpy() for name, value in columns.items()}
    return seen | {"parts": np.array([int((parts.input == i).sum()) for i in index.tolist()])}, parts


def _resumed(
    folder: Path, identity: dict[str, Any], batches: int
) -> dict[int, tuple[dict[str, np.ndarray], Parts]]:
    """Return the batches that an earlier pass of the same audit left."""
    said = json.dumps(identity, sort_keys=True).encode()
    digest = hashlib.sha256(said).hexdigest()
    manifest = folder / _MANIFEST
    try:
        if not manifest.exists():
            if any(folder.glob("batch-*.npz")):
                raise ValueError(f"{folder} holds batches of another audit, and no {_MANIFEST}")
            write_whole(manifest, json.dumps({"identity": digest}).encode())
            return {}
        before = parse(manifest.read_bytes())
    except (OSError, ValueError) as fault:
        raise StorageError("audit: the folder cannot be used", given=fault, do="choose another folder") from None
    if not isinstance(before, dict) or before.get("identity") != digest:
        raise StorageError(
            "audit: the folder holds another audit",
            given=folder,
            allowed="one of the same classifier, lens, data, seed and options",
            do="choose another folder, or remove this one",
        )
    kept = {}
    for number in range(batches):
        path = folder / f"batch-{number:06d}.npz"
        if path.exists():
            kept[number] = _read(path)
    return kept


def _write(path: Path, batch: tuple[dict[str, np.ndarray], Parts]) -> None:
    seen, parts = batch
    buffer = io.BytesIO()
    columns = {f"seen.{name}": value for name, value in seen.items()}
    columns |= {f"parts.{f.name}": getattr(parts, f.name) for f in fields(Parts)}
    np.savez_compressed(buffer, **columns)  # type: ignore[arg-type]  # its stub takes the names for other options
    try:
        write_whole(path, buffer.getvalue())
    except OSError as fault:
        raise StorageError("audit: cannot write", given=fault, do="choose a folder that can be written") from None


def _read(path: Path) -> tuple[dict[str, np.ndarray], Parts]:
    try:
        # What an archive says that an entry holds is the most that is read of it.
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > max(MOST_BYTES, path.stat().st_size):
            raise ValueError(f"{size:,} bytes, more than a batch ever has")
        with np.load(path, allow_pickle=False) as found:
            columns = {name: found[name] for name in found.files}
        seen = {f.name: columns[f"seen.{f.name}"] for f in fields(Seen)}
        return seen, Parts(**{f.name: columns[f"parts.{f.name}"] for f in fields(Parts)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as fault:
        raise StorageError(
            "audit: a batch cannot be read",
            given=f"{path.name}: {type(fault).__name__}, {fault}",
            do="remove that file",
        ) from None
