"""What has to be in agreement before a fit begins: with an earlier lens, and with the other processes."""

from __future__ import annotations

import hashlib
from typing import Any

from xlens._frozen import bits
from xlens.classifier import Classifier
from xlens.contracts import Backend, Lens, Spec
from xlens.data import Data
from xlens.errors import DataError, OptionError
from xlens.explainer import LensExplainer
from xlens.nn.mask import EditMask
from xlens.training.processes import Processes
from xlens.training.survey import Survey

__all__ = [
    "check_agreement",
    "check_over",
    "check_start",
    "check_whole",
    "digest_of_lens",
    "digest_of_start",
    "take_first_buffers",
]


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


def digest_of_lens(lens: Lens, mask: EditMask | None = None) -> str:
    """Return a hash of everything that a lens, and its mask where one is given, have learned."""
    digest = hashlib.sha256()
    for prefix, part in (("", lens), ("mask.", mask)):
        for key, value in sorted(part.state_dict().items()) if part is not None else ():
            digest.update(f"{prefix}{key}".encode())
            digest.update(bits(value).cpu().numpy().tobytes())
    return digest.hexdigest()


def check_over(over: Any, classifier: Classifier, spec: Spec) -> None:
    """Refuse as the lens below what is no explainer, or explains another classifier or inputs of another shape."""
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
    if over.spec.shape != spec.shape:
        raise DataError(
            "fit: over was fitted on inputs of another shape",
            given=f"data of shape {spec.shape}",
            allowed=over.spec.shape,
            do="bring the data to that shape, or fit a lens to go below on these",
        )


def check_whole(together: Processes, data: Data) -> None:
    """Refuse a loader that gives each process batches of its own: their lenses would be of different data."""
    if together.count > 1 and (shares := data.shares_out):
        raise DataError(
            "fit: this loader gives each process another part of the data",
            given=shares,
            allowed="the whole data in every process",
            do="pass the unprepared loader, without a DistributedSampler; xlens gives each process its share",
        )


def take_first_buffers(together: Processes, classifier: Classifier) -> None:
    """Give f, within its frozen context, the buffers that it has in the first process.

    Training leaves running statistics that differ: each process saw batches of its own after they were last shared.
    """
    buffers = classifier.model.named_buffers()
    facts = ";".join(f"{name}:{buffer.dtype}:{tuple(buffer.shape)}" for name, buffer in buffers)
    if not together.agree(hashlib.sha256(facts.encode()).digest()):
        raise _disagreement(together)
    together.share_buffers(classifier.model)


def check_agreement(together: Processes, classifier: Classifier, found: Survey) -> None:
    """Refuse data and weights that differ between processes: their lenses would drift apart without a word.

    Buffers are those of the first by now (:func:`take_first_buffers`). What f says of the data follows from
    the rest and is not compared: two devices may round it differently.
    """
    facts = f"{found.spec.shape} {found.digest} {found.seen} {classifier.fingerprint()}".encode()
    if not together.agree(hashlib.sha256(facts).digest()):
        raise _disagreement(together)


def _disagreement(together: Processes) -> DataError:
    return DataError(
        "fit: the processes have different data or classifiers",
        given=f"{together.count} processes that do not agree on the data or on the weights of f",
        do="give each of them the whole data, in one order and with random transforms seeded alike, and the same "
        "weights; xlens shares the work out itself",
    )
