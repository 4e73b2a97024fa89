"""A lens as a folder: whole at every moment, also while it is written over, and checked before use.

``lens.safetensors`` holds everything: the tensors, and in its header the facts that the lens is built from.
``lens.json`` says the facts again, for people, and which tensors they belong to. In a folder in which the two do
not belong together, the first is right where its header says that it was to take the place of the lens that
``lens.json`` is of: a save was stopped there. Anything else is a mixture of two lenses, and is refused.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.classifier.fingerprint import IDENTITY
from xlens.classifier.normalization import normalization_in
from xlens.codec import Autoencoder
from xlens.contracts.backend import CONTRACT_VERSION, Spec
from xlens.contracts.lens import Lens
from xlens.contracts.options import make, to_dict
from xlens.counterfactual.mask import EditMask
from xlens.errors import OptionError, StorageError, XlensError
from xlens.files.building import Built
from xlens.files.limits import MOST_BYTES
from xlens.files.plain import said
from xlens.fitted import Fitted
from xlens.metrics.likeness import PatchBank
from xlens.registry.loading import load_backend
from xlens.stages.building import build_stage
from xlens.stages.lens import StagedLens, staged
from xlens.stages.own import known_again
from xlens.storage.explained import ASKED, classifier_for
from xlens.storage.kinds import spec_of
from xlens.storage.lens_files import FORMAT, PREPROCESSING, VERSION, read_files, write_files
from xlens.storage.maps import facts_of_maps, known_maps, without_maps
from xlens.training.processes import processes

__all__ = ["load_lens", "save_lens"]

#: How much more than the saved tensors a lens may make while it is built.
_ROOM = 4


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
    found = {f"lens.{key}": value for key, value in fitted.lens.state_dict().items()} | _masks(fitted)
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in found.items()}
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "contract": CONTRACT_VERSION,
        **_made_of(fitted),
        "layer": fitted.classifier.layer,
        **{name: getattr(fitted.classifier, name) for name in ("outputs", "class_names", *ASKED)},
        "fingerprint": fitted.bound.fingerprint,
        "identity": IDENTITY,
        "constants": fitted.bound.constants(),
        # Always there, so that a file beside the lens, of an earlier one, is never taken for this one's.
        PREPROCESSING: fitted.provenance.get(PREPROCESSING),
    }
    write_files(folder, facts, tensors)


def load_lens(
    path: str | Path,
    model: nn.Module | Classifier,
    *,
    strict: bool,
    device: torch.device | None,
    max_bytes: int = MOST_BYTES,
    codec: nn.Module | None = None,
) -> Fitted:
    """Read a folder that :func:`save_lens` wrote, and build the lens around the classifier.

    Args:
        path: the folder.
        model: the classifier that the lens was fitted around; of a bare module, layer, outputs and class names
            are taken from the file, of a Classifier the layer, the label and the names that it leaves open.
        strict: refuse a classifier with another fingerprint.
        device: where the lens goes; the classifier's device if None.
        max_bytes: what may be built as its options say, unless the file is a quarter of that itself.
        codec: the user's own autoencoder that the lens was fitted behind.

    Raises:
        StorageError: missing, truncated, edited, of another version, too large, or for another classifier.
        BackendNotFoundError: its backend is not installed.
    """
    folder = Path(path)
    facts, tensors = read_files(folder)
    classifier = classifier_for(model, facts)
    device = device or classifier.device
    own = classifier.identity()
    if strict and own.unread:
        raise StorageError(
            "load: whether this lens was fitted around this classifier cannot be told",
            given=f"a {type(classifier.model).__name__} with state that cannot be read: {_few(own.unread)}",
            do="return tensors, numbers or bytes from get_extra_state; or, if you are sure, pass strict=False",
        )
    saved = facts["fingerprint"], facts.get("identity")
    # Once more only where it is not, since it reads every weight.
    same = own.is_saved_as(*saved) or classifier.identity(as_shown=True).is_saved_as(*saved)
    if strict and not same:
        raise StorageError(
            "load: this lens was fitted around another classifier",
            given=f"a {type(classifier.model).__name__} with other weights, layers, hidden layer or outputs",
            do="pass the classifier that it was fitted around, or strict=False to use it all the same",
        )
    if strict and (others := own.other_constants(facts.get("constants") or {})):
        raise StorageError(
            "load: this lens was fitted around a classifier with other constants",
            given=f"other values of {_few(others)}, which are neither parameters nor buffers",
            do="pass the classifier that it was fitted around; or, where these decide nothing, strict=False",
        )
    if not same:
        facts = without_maps(facts)
    with classifier.frozen(seed=0):
        most = max(min(max_bytes, sys.maxsize), _ROOM * sum(t.nbytes for t in tensors.values()))
        with _bounds(facts, most):
            stored = _built(classifier, facts, _own(facts, classifier, codec, strict))
            lens = stored.lens.to(device)
            # The tensors of a lens below are among those of the lens that is over it.
            _fill(lens, tensors, "lens.")
            lens.eval()
            return _masked(stored, facts, classifier, tensors, device)


def _bounds(facts: dict[str, Any], most: int) -> Built:
    """Return the context in which what a lens's facts ask for is made, and refused where that is gigabytes."""
    building = Built(most, "this lens")
    facts_of: dict[str, Any] | None = facts
    while facts_of is not None:
        for spec in (facts_of["spec"], facts_of.get("stage", {}).get("spec", {})):
            building.take(4 * math.prod(spec.get("shape", ())))
        facts_of = facts_of.get("over")
    return building


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
        "backend": fitted.backend.name,
        "options": to_dict(fitted.backend),
        "spec": dataclasses.asdict(fitted.spec),
        "provenance": {key: value for key, value in fitted.provenance.items() if key != PREPROCESSING},
    }
    if fitted.mask is not None:
        facts |= facts_of_maps(fitted.mask.maps, fitted.spec)
    if fitted.real is not None:
        facts["real"] = fitted.real.scales
    if isinstance(fitted.lens, StagedLens):
        facts["stage"] = fitted.lens.stage.facts()
    return facts if fitted.over is None else {**facts, "over": _made_of(fitted.over)}


def _own(facts: dict[str, Any], classifier: Classifier, codec: Any, strict: bool) -> Autoencoder | None:
    """Return the user's own autoencoder that the lens was fitted behind, or None."""
    normalization = normalization_in(facts["provenance"].get("normalization")) or classifier.normalization
    return known_again(facts.get("stage"), codec, spec_of(facts["spec"]), normalization, strict)


def _built(classifier: Classifier, facts: dict[str, Any], own: Autoencoder | None = None) -> Fitted:
    """Return the untrained lens that these facts describe, built over the one below where there is one."""
    backend_class = load_backend(facts["backend"])
    try:
        backend, spec = make(backend_class, facts["options"]), spec_of(facts["spec"])
    except (OptionError, TypeError) as fault:
        raise StorageError(
            f"load: the installed {facts['backend']!r} backend does not know this lens's options",
            given=fault,
            do="install the version of the backend that saved it, or fit again",
        ) from None
    below = _built(classifier, facts["over"]) if "over" in facts else None
    try:
        if "stage" in facts:
            stage = build_stage(classifier, spec, spec_of(facts["stage"]["spec"]), facts["stage"], own)
            lens: Lens = staged(stage, backend.build(stage.classifier, stage.spec), spec.shape)
        else:
            lens = backend.build(classifier, spec, **({} if below is None else {"over": below.lens}))
    except XlensError:
        # A plugin that says what to do is not talked over.
        raise
    except Exception as fault:  # a plugin's own code, on what the file says
        raise StorageError(
            f"load: the installed {facts['backend']!r} backend cannot build this lens",
            given=said(fault),
            do="pass the classifier that it was fitted around, install the version of the backend that saved it, "
            "or fit again",
        ) from fault
    provenance = facts["provenance"]
    if facts.get(PREPROCESSING) is not None:
        provenance = {**provenance, PREPROCESSING: facts[PREPROCESSING]}
    return Fitted(classifier, lens, spec, None, backend, provenance, below)


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
        probe = spec.per_channel("mean").expand(1, *spec.shape)
        known = known_maps(facts, spec, classifier.model)
        try:
            mask = EditMask(classifier, spec.shape[0], spec.num_classes, probe, measured=False, known=known).to(
                device
            )
        except (RuntimeError, ValueError, TypeError, LookupError) as fault:
            raise StorageError(
                "load: the classifier does not take inputs of the saved shape",
                given=said(fault),
                allowed=spec.shape,
                do="pass the classifier that it was fitted around",
            ) from fault
        _fill(mask, tensors, f"{prefix}mask.")
    real = _bank(facts.get("real"), spec, tensors, device, f"{prefix}real.")
    if below is not None:
        below = _masked(below, facts["over"], classifier, tensors, device, f"{prefix}over.")
    for part in (stored.lens, mask):
        if part is not None:
            part.requires_grad_(False)
    return dataclasses.replace(stored, mask=mask, over=below, real=real)


def _bank(
    scales: Any, spec: Spec, tensors: dict[str, Tensor], device: torch.device, prefix: str
) -> PatchBank | None:
    """Return the bank of real patches that a lens was saved with; earlier versions kept none."""
    if scales is None:
        return None
    if scales not in (1, 2, 3):
        raise StorageError("load: the lens's bank of real patches is damaged", given=scales, do="save it again")
    bank = PatchBank(spec.shape[0], scales).to(device)
    # Banks of earlier versions do not know how far real images are apart.
    _fill(bank, {f"{prefix}neighbour": bank.neighbour} | tensors, prefix)
    return bank


def _fill(module: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError, LookupError) as fault:
        raise StorageError(
            "load: the saved tensors do not fit the lens that the installed backend builds",
            given=(str(fault).splitlines() or [type(fault).__name__])[-1].strip(),
            do="install the version of the backend that saved it, pass a classifier of the same "
            "architecture, or fit again",
        ) from None
