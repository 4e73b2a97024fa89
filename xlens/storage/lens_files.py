"""The two files of a saved lens: facts as JSON and tensors, bound together by checksums."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from xlens.contracts.backend import CONTRACT_VERSION
from xlens.errors import StorageError
from xlens.files.plain import parse, said
from xlens.files.writing import check_name, write_all
from xlens.storage.kinds import facts_faults
from xlens.storage.older import OLD_PREPROCESSING, old_preprocessing
from xlens.training.checkpoint import decode, encode, tensors_in

__all__ = ["FILES", "FORMAT", "PREPROCESSING", "VERSION", "checksum", "read_files", "write_files"]

FORMAT = "xlens lens"
VERSION = 1
#: Among the facts: how files become inputs.
PREPROCESSING = "preprocessing"
_JSON, _TENSORS = "lens.json", "lens.safetensors"
#: Everything that a lens is read from.
FILES = (_JSON, _TENSORS)
_KIND = "an xlens lens"
#: What versions before 0.2 had ready while a lens was being written.
_OLD_READY = "lens.json.partial"


def write_files(folder: Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a lens's facts and tensors whole, whatever stops it.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        check_name(folder)
        content = encode(_KIND, tensors, {"facts": facts, "replaces": _digest(_bytes_of(folder / _JSON))})
        # Through JSON and back, so that the checksum is that of what a reader will see.
        facts = json.loads(json.dumps({**facts, "tensors": _digest(content)}))
        facts["checksum"] = checksum(facts)
        write_all(((folder / _TENSORS, content), (folder / _JSON, json.dumps(facts, indent=2).encode())))
        for left in (_OLD_READY, f"{_TENSORS}.partial", OLD_PREPROCESSING):
            (folder / left).unlink(missing_ok=True)
    except (OSError, SafetensorError) as fault:
        raise StorageError("save: cannot write", given=fault, do="choose a folder that can be written") from None


def read_files(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the facts and the tensors of a lens: of a folder that was being written, those that are whole."""
    try:
        text, content = _bytes_of(folder / _JSON), _bytes_of(folder / _TENSORS)
        found = _stopped(text, content)
        if found is None:
            facts = _facts_for(content, text, _bytes_of(folder / _OLD_READY), folder)
            found = facts, _read_tensors(content, facts["tensors"])
        facts, tensors = found
        if PREPROCESSING not in facts:
            facts[PREPROCESSING] = old_preprocessing(_bytes_of(folder / OLD_PREPROCESSING))
    except OSError as fault:
        raise StorageError("load: cannot read the lens", given=fault, do="check the path and its rights") from None
    if faults := facts_faults(facts):
        raise StorageError(
            f"load: {_JSON!r} has facts of the wrong kind", given="; ".join(faults[:5]), do="save the lens again"
        )
    return facts, tensors


def _stopped(text: bytes | None, content: bytes | None) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return the lens of a save that was stopped before its second file; None where none was."""
    try:
        tensors, plain = decode(content or b"", _KIND)
        facts, replaces = plain["facts"], plain["replaces"]
    except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError):
        return None
    if replaces != _digest(text) or not isinstance(facts, dict):
        return None
    _refuse_version(facts)
    return facts, tensors


def _facts_for(content: bytes | None, text: bytes | None, ready: bytes | None, folder: Path) -> dict[str, Any]:
    """Return the facts in ``lens.json``, or those that a version before 0.2 had ready for these tensors."""
    if ready is not None and content is not None:
        with suppress(StorageError):
            facts = _parsed(ready)
            if facts["tensors"] == _digest(content):
                return facts
    if text is None:
        raise StorageError(
            "load: there is no saved lens here", given=folder, do="pass the folder that save() wrote"
        )
    return _parsed(text)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        facts = parse(text)
        saved = facts.pop("checksum")
        known = [facts[key] for key in ("format", "version", "contract", "tensors")]
    except (ValueError, LookupError, AttributeError, TypeError):
        known = None
    if known is None:
        raise StorageError(f"load: {_JSON!r} is truncated or was not written by xlens", do="save the lens again")
    _refuse_version(facts)
    if saved != checksum(facts):
        raise StorageError(f"load: {_JSON!r} was edited after it was saved", do="save the lens again")
    return facts


def _refuse_version(facts: dict[str, Any]) -> None:
    known = [facts.get(key) for key in ("format", "version", "contract")]
    if known != [FORMAT, VERSION, CONTRACT_VERSION]:
        raise StorageError(
            "load: this lens is of another format or version",
            given=f"{known[0]!r}, version {known[1]}, contract {known[2]}",
            allowed=f"{FORMAT!r}, version {VERSION}, contract {CONTRACT_VERSION}",
            do="fit and save it again with this version of xlens",
        )


def _read_tensors(content: bytes | None, digest: str) -> dict[str, Tensor]:
    if _digest(content or b"") != digest:
        raise StorageError(
            f"load: {_TENSORS!r} is missing, truncated, or belongs to another lens",
            given=f"{len(content or b'')} bytes with another checksum",
            do="copy the whole folder, or save the lens again",
        )
    try:
        return tensors_in(content or b"")
    except (SafetensorError, ValueError, LookupError, RuntimeError) as fault:
        raise StorageError(f"load: {_TENSORS!r} is damaged", given=said(fault), do="save the lens again") from None


def _bytes_of(path: Path) -> bytes | None:
    """Return a file's content, or None where there is none."""
    return path.read_bytes() if path.is_file() else None


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def checksum(facts: dict[str, Any]) -> str:
    """Return what facts are known again by, in hexadecimal."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
