"""What has to be in agreement before a fit begins: with an earlier lens, and with the other processes."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from xlens.classifier import Classifier
from xlens.contracts import Backend, Lens, Spec
from xlens.errors import DataError, OptionError
from xlens.explainer import LensExplainer
from xlens.training.processes import Processes
from xlens.training.survey import Survey

__all__ = ["check_agreement", "check_over", "check_start", "digest_of_lens", "digest_of_start"]


def check_start(backend: Backend, start_from: Any) -> None:
    """Refuse what is no explainer, or one of another backend."""
    if start_from is None:
        return
    if not isinstance(start_from, LensExplainer):
        raise OptionError(
            "fit: start_from is no explainer",
            given=type(start_from).__name__,
            allowed="what xlens.fit or xlens.load returned",
        )
    if start_from.backend.name != backend.name:
        raise OptionError(
            "fit: start_from is a lens of another backend",
            given=f"a {start_from.backend.name!r} lens to begin a {backend.name!r} fit with",
            do=f"pass backend={start_from.backend.name!r}, or leave start_from out",
        )


def digest_of_start(start_from: LensExplainer, spec: Spec) -> str:
    """Return a hash of the earlier lens, once its inputs and classes are known to be those of the new one."""
    old = start_from.spec
    if (old.shape, old.num_classes) != (spec.shape, spec.num_classes):
        raise DataError(
            "fit: start_from does not fit these data and this classifier",
            given=f"a lens for inputs {old.shape} of {old.num_classes} classes",
            allowed=f"inputs {spec.shape} of {spec.num_classes} classes",
            do="leave start_from out",
        )
    return digest_of_lens(start_from.lens)


def digest_of_lens(lens: Lens) -> str:
    """Return a hash of everything that a lens has learned."""
    digest = hashlib.sha256()
    for key, value in sorted(lens.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_over(over: Any, classifier: Classifier) -> None:
    """Refuse as the lens below what is no explainer, or explains another classifier."""
    if over is None:
        return
    if not isinstance(over, LensExplainer):
        raise OptionError(
            "fit: over is no explainer", given=type(over).__name__, allowed="what xlens.fit or xlens.load returned"
        )
    if over.classifier.fingerprint() != classifier.fingerprint():
        raise OptionError(
            "fit: over explains another classifier",
            do="pass the classifier that it was fitted around, with the same layer and outputs",
        )


def check_agreement(together: Processes, classifier: Classifier, found: Survey) -> None:
    """Refuse data that differ between processes: their lenses would drift apart without a word."""
    spec = found.spec
    facts = f"{spec.shape} {spec.minimum} {spec.maximum} {found.digest} {classifier.fingerprint()}".encode()
    if not together.agree(hashlib.sha256(facts).digest()):
        raise DataError(
            "fit: the processes have different data or classifiers",
            given=f"{together.count} processes that do not agree on the data or on the weights of f",
            do="give each of them the whole data and the same weights; xlens shares the work out itself",
        )
