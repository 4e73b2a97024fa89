"""What several processes have to agree on before a fit begins."""

from __future__ import annotations

import hashlib

from xlens.classifier.classifier import Classifier
from xlens.classifier.whole import buffers_of
from xlens.data import Data
from xlens.errors import DataError
from xlens.training.processes import Processes
from xlens.training.survey import Survey

__all__ = ["check_agreement", "check_whole", "take_first_buffers"]


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
    """Give the classifier, within its frozen context, the buffers that it has in the first process.

    Training leaves running statistics that differ: each process saw batches of its own after they were last shared.
    """
    facts = ";".join(f"{buffer.dtype}:{tuple(buffer.shape)}" for buffer in buffers_of(classifier.model))
    if not together.agree(hashlib.sha256(facts.encode()).digest()):
        raise _disagreement(together)
    together.share_buffers(classifier.model)


def check_agreement(together: Processes, classifier: Classifier, found: Survey) -> None:
    """Refuse data and weights that differ between processes: their lenses would drift apart without a word.

    Buffers are those of the first by now (:func:`take_first_buffers`). What the classifier says of the data follows
    from the rest and is not compared: two devices may round it differently.
    """
    facts = f"{found.spec.shape} {found.digest} {found.seen} {classifier.fingerprint()}".encode()
    if not together.agree(hashlib.sha256(facts).digest()):
        raise _disagreement(together)


def _disagreement(together: Processes) -> DataError:
    return DataError(
        "fit: the processes have different data or classifiers",
        given=f"{together.count} processes that do not agree on the data or on the classifier's weights",
        do="give each of them the whole data, in one order and with random transforms seeded alike, and the same "
        "weights; xlens shares the work out itself",
    )
