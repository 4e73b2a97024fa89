"""What a fit begins with: an earlier lens, or another one to work over; and the identity of the run."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import Backend, Spec
from xlens.contracts.options import to_dict
from xlens.errors import DataError, OptionError
from xlens.fitted import Fitted, as_fitted
from xlens.storage.digest import digest_of_lens
from xlens.training.survey import Survey

__all__ = ["check_over", "check_start", "digest_of_start", "identity_of"]


def check_start(backend: Backend, start_from: Any, data: Any) -> Fitted | None:
    """Return the record to start from, and refuse what is no explainer, or one of another backend."""
    if start_from is None:
        return None
    fitted = as_fitted(start_from, "fit", "start_from", data)
    if fitted.backend.name != backend.name:
        raise OptionError(
            "fit: start_from is a lens of another backend",
            given=f"a {fitted.backend.name!r} lens to begin a {backend.name!r} fit with",
            do=f"pass backend={fitted.backend.name!r}, or leave start_from out",
        )
    return fitted


def check_over(over: Fitted | None, classifier: Classifier, spec: Spec) -> None:
    """Refuse as the lens below one that explains another classifier or inputs of another shape."""
    if over is None:
        return
    if over.classifier.fingerprint() != classifier.fingerprint():
        raise OptionError(
            "fit: over explains another classifier",
            do="pass the classifier that it was fitted around, with the same layer and outputs",
        )
    if over.spec.shape != spec.shape:
        raise DataError(
            "fit: over was fitted on inputs of another shape",
            given=f"data of shape {spec.shape}",
            allowed=over.spec.shape,
            do="bring the data to that shape, or fit a lens to go below on these",
        )


def digest_of_start(start_from: Fitted, spec: Spec) -> str:
    """Return a hash of the earlier lens and its mask, once its inputs and classes are known to be the new one's."""
    old = start_from.spec
    if (old.shape, old.num_classes) != (spec.shape, spec.num_classes):
        raise DataError(
            "fit: start_from does not fit these data and this classifier",
            given=f"a lens for inputs {old.shape} of {old.num_classes} classes",
            allowed=f"inputs {spec.shape} of {spec.num_classes} classes",
            do="leave start_from out",
        )
    return digest_of_lens(start_from.lens, start_from.mask)


def identity_of(
    backend: Backend,
    classifier: Classifier,
    found: Survey,
    table: Tensor | None,
    *,
    seed: int,
    supervision: str,
    over: Fitted | None,
    begun: str | None,
    mixed_precision: str,
    mask: dict[str, Any],
    decoder: dict[str, Any],
) -> str:
    """Return a hash of everything that decides the result of a fit."""
    facts: dict[str, Any] = {
        "backend": backend.name,
        "options": to_dict(backend),
        "fingerprint": classifier.fingerprint(),
        "data": found.digest or [list(found.spec.shape), found.spec.num_classes],
        "seed": seed,
        "supervision": supervision,
        "side_info": None if table is None else hashlib.sha256(table.numpy().tobytes()).hexdigest(),
    }
    if over is not None:
        facts["over"] = digest_of_lens(over.lens)
    if begun is not None:
        facts["start_from"] = begun
    if mixed_precision != "no":
        facts["mixed_precision"] = mixed_precision
    if mask:
        facts["mask"] = mask
    if decoder:
        facts["decoder"] = decoder
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
