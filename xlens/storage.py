"""Saved lenses and explanations: safetensors and JSON, checked before use, never any code."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import CONTRACT_VERSION, Spec
from xlens.contracts.options import make, to_dict
from xlens.counterfactual.mask import EditMask
from xlens.errors import OptionError, StorageError
from xlens.explanation import Explanation, Fidelity
from xlens.fitted import Fitted
from xlens.metrics.likeness import PatchBank
from xlens.registry.loading import load_backend
from xlens.training.checkpoint import read_file, write_file
from xlens.training.processes import processes

__all__ = [
    "explanation_from_tree",
    "explanation_to_tree",
    "load_explanation",
    "load_lens",
    "save_explanation",
    "save_lens",
]

_FORMAT = "xlens lens"
_VERSION = 1
_JSON, _TENSORS = "lens.json", "lens.safetensors"
_EXPLANATION = "an xlens explanation"


def save_lens(fitted: Fitted, path: str | Path) -> None:
    """Write a lens to a folder, each file whole or not at all; of several processes the first writes.

    Args:
        fitted: what was fitted.
        path: the folder; made where it does not exist.

    Raises:
        StorageError: the folder cannot be written; raised in every process.
    """
    together = processes(fitted.device)
    with together.jointly("save", StorageError):
        if together.writes:
            _write_lens(fitted, Path(path))


def _write_lens(fitted: Fitted, folder: Path) -> None:
    tensors = {f"lens.{key}": value for key, value in fitted.lens.state_dict().items()} | _masks(fitted)
    content = dump_tensors({key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()})
    facts = {
        "format": _FORMAT,
        "version": _VERSION,
        "contract": CONTRACT_VERSION,
        **_made_of(fitted),
        "layer": fitted.classifier.layer,
        "outputs": fitted.classifier.outputs,
        "class_names": fitted.classifier.class_names,
        "fingerprint": fitted.bound.fingerprint,
        "tensors": hashlib.sha256(content).hexdigest(),
    }
    # Through JSON and back, so that the checksum is that of what a reader will see.
    facts = json.loads(json.dumps(facts))
    facts["checksum"] = _checksum(facts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Both are written before either takes its place: stopped in between, `_facts_of` finds the pair.
        written = [
            (_write_partial(folder / name, part), folder / name)
            for name, part in ((_TENSORS, content), (_JSON, json.dumps(facts, indent=2).encode()))
        ]
        for partial, path in written:
            os.replace(partial, path)
    except OSError as fault:
        raise StorageError("save: cannot write", given=fault, do="choose a folder that can be written") from None


def load_lens(
    path: str | Path, model: nn.Module | Classifier, *, strict: bool, device: torch.device | None
) -> Fitted:
    """Read a folder that :func:`save_lens` wrote, and build the lens around the classifier.

    Args:
        path: the folder.
        model: the classifier that the lens was fitted around; of a bare module, layer, outputs and class names
            are taken from the file, of a Classifier the layer and the class names that it leaves open.
        strict: refuse a classifier with another fingerprint.
        device: where the lens goes; the classifier's device if None.

    Raises:
        StorageError: missing, truncated, edited, of another version, or for another classifier.
        BackendNotFoundError: its backend is not installed.
    """
    folder = Path(path)
    facts = _facts_of(folder)
    classifier = _classifier(model, facts)
    device = device or classifier.device
    if strict and facts["fingerprint"] != classifier.fingerprint():
        raise StorageError(
            "load: this lens was fitted around another classifier",
            given=f"a {type(classifier.model).__name__} with other weights, layers, hidden layer or outputs",
            do="pass the classifier that it was fitted around, or strict=False to use it all the same",
        )
    tensors = _read_tensors(folder / _TENSORS, facts["tensors"])
    with classifier.frozen(seed=0):
        stored = _built(classifier, facts)
        lens = stored.lens.to(device)
        # The tensors of a lens below are among those of the lens that is over it.
        _fill(lens, tensors, "lens.")
        lens.eval()
        return _masked(stored, facts, classifier, tensors, device)


def _masks(fitted: Fitted, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of its mask, and of the masks of explainers below it."""
    own = {} if fitted.mask is None else fitted.mask.state_dict()
    found = {f"{prefix}mask.{key}": value for key, value in own.items()}
    if fitted.real is not None:
        found |= {f"{prefix}real.{key}": value for key, value in fitted.real.state_dict().items()}
    return found if fitted.over is None else found | _masks(fitted.over, f"{prefix}over.")


def _made_of(fitted: Fitted) -> dict[str, Any]:
    """Return what a lens is built from; of one over another, of both."""
    facts = {
        "masked": fitted.mask is not None,
        "real": 0 if fitted.real is None else fitted.real.scales,
        "backend": fitted.backend.name,
        "options": to_dict(fitted.backend),
        "spec": dataclasses.asdict(fitted.spec),
        "provenance": fitted.provenance,
    }
    return facts if fitted.over is None else {**facts, "over": _made_of(fitted.over)}


def _built(classifier: Classifier, facts: dict[str, Any]) -> Fitted:
    """Return the untrained lens that these facts describe, built over the one below where there is one."""
    backend_class = load_backend(facts["backend"])
    try:
        backend = make(backend_class, facts["options"])
        spec = Spec(**{key: _tuples(value) for key, value in facts["spec"].items()})
    except (OptionError, TypeError) as fault:
        raise StorageError(
            f"load: the installed {facts['backend']!r} backend does not know this lens's options",
            given=fault,
            do="install the version of the backend that saved it, or fit again",
        ) from None
    below = _built(classifier, facts["over"]) if "over" in facts else None
    lens = backend.build(classifier, spec, **({} if below is None else {"over": below.lens}))
    return Fitted(classifier, lens, spec, None, backend, facts["provenance"], below)


def _masked(
    stored: Fitted,
    facts: dict[str, Any],
    classifier: Classifier,
    tensors: dict[str, Tensor],
    device: torch.device,
    prefix: str = "",
) -> Fitted:
    """Return it with its mask, and with those of the lenses below it."""
    mask, below, spec = None, stored.over, stored.spec
    # Of a lens below, earlier versions kept none.
    if facts.get("masked", False):
        probe = spec.per_channel("mean").expand(2, *spec.shape)
        mask = EditMask(classifier, spec.shape[0], spec.num_classes, probe).to(device)
        _fill(mask, tensors, f"{prefix}mask.")
    bank = None
    if facts.get("real", 0):
        bank = PatchBank(spec.shape[0], facts["real"]).to(device)
        _fill(bank, tensors, f"{prefix}real.")
    if below is not None:
        below = _masked(below, facts["over"], classifier, tensors, device, f"{prefix}over.")
    for part in (stored.lens, mask):
        if part is not None:
            part.requires_grad_(False)
    return dataclasses.replace(stored, mask=mask, over=below, real=bank)


def _classifier(model: nn.Module | Classifier, facts: dict[str, Any]) -> Classifier:
    own = model if isinstance(model, Classifier) else Classifier(model, outputs=facts["outputs"])
    # Another model need not have the layer; the fingerprint then says so.
    known = facts["layer"] if facts["layer"] in dict(own.model.named_modules()) else None
    layer, names = own.layer or known, own.class_names or facts["class_names"]
    if (layer, names) == (own.layer, own.class_names):
        return own
    return Classifier(own.model, layer=layer, outputs=own.outputs, class_names=names)


def save_explanation(explanation: Explanation, path: str | Path) -> None:
    """Write an explanation to one file; of several processes the first writes."""
    if processes(explanation.inputs.device).writes:
        write_file(Path(path), _EXPLANATION, explanation_to_tree(explanation))


def explanation_to_tree(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as nested dicts of tensors and plain values."""
    tree = {field.name: getattr(explanation, field.name) for field in dataclasses.fields(explanation)}
    fidelity = explanation.fidelity
    tree["fidelity"] = {f.name: getattr(fidelity, f.name) for f in dataclasses.fields(fidelity)}
    return tree | {name: dict(tree[name]) for name in ("attributions", "convergence_delta", "verdicts")}


def load_explanation(path: str | Path) -> Explanation:
    """Read an explanation that :func:`save_explanation` wrote.

    Raises:
        StorageError: missing, truncated, or not an explanation.
    """
    return explanation_from_tree(read_file(Path(path), _EXPLANATION))


def explanation_from_tree(tree: dict[str, Any]) -> Explanation:
    """Return the explanation that :func:`explanation_to_tree` took apart.

    Raises:
        StorageError: its parts are those of another version.
    """
    try:
        tree["fidelity"] = Fidelity(**tree["fidelity"])
        tree["problems"] = tuple(tuple(row) for row in tree["problems"])
        for name in ("feature_names", "class_names", "data_range"):
            tree[name] = tuple(tree[name])
        tree["channel_ranges"] = tuple(tuple(pair) for pair in tree.get("channel_ranges", ()))
        return Explanation(**tree)
    except (TypeError, KeyError) as fault:
        raise StorageError(
            "load: this explanation was written by another version of xlens",
            given=fault,
            do="explain again and save anew",
        ) from None


def _facts_of(folder: Path) -> dict[str, Any]:
    """Return the facts that belong to the tensors: of a folder that was being written, those that were ready."""
    ready, tensors = _partial(folder / _JSON), folder / _TENSORS
    if ready.is_file() and tensors.is_file():
        with suppress(StorageError):
            facts = _read_facts(ready)
            if facts["tensors"] == hashlib.sha256(tensors.read_bytes()).hexdigest():
                return facts
    return _read_facts(folder / _JSON)


def _read_facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise StorageError(
            "load: there is no saved lens here", given=path.parent, do="pass the folder that save() wrote"
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        checksum = facts.pop("checksum")
        known = facts["format"], facts["version"], facts["contract"]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise StorageError(
            f"load: {path.name!r} is truncated or was not written by xlens", do="save the lens again"
        ) from None
    if known != (_FORMAT, _VERSION, CONTRACT_VERSION):
        raise StorageError(
            "load: this lens is of another format or version",
            given=f"{known[0]!r}, version {known[1]}, contract {known[2]}",
            allowed=f"{_FORMAT!r}, version {_VERSION}, contract {CONTRACT_VERSION}",
            do="fit and save it again with this version of xlens",
        )
    if checksum != _checksum(facts):
        raise StorageError(f"load: {path.name!r} was edited after it was saved", do="save the lens again")
    return facts


def _read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise StorageError(
            f"load: {path.name!r} is missing, truncated, or belongs to another lens",
            given=f"{len(content)} bytes with another checksum",
            do="copy the whole folder, or save the lens again",
        )
    try:
        return load_tensors(content)
    except SafetensorError as fault:
        raise StorageError(f"load: {path.name!r} is damaged", given=fault, do="save the lens again") from None


def _fill(module: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    try:
        module.load_state_dict(state)
    except RuntimeError as fault:
        raise StorageError(
            "load: the saved tensors do not fit the lens that the installed backend builds",
            given=str(fault).splitlines()[-1].strip(),
            do="install the version of the backend that saved it, pass a classifier of the same "
            "architecture, or fit again",
        ) from None


def _write_partial(path: Path, content: bytes) -> Path:
    partial = _partial(path)
    partial.write_bytes(content)
    return partial


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _checksum(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
