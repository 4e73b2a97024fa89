"""Where class labels come from: the classifier itself, unless the user asked for the data's own."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import Run
from xlens.data import Batch

__all__ = ["classifier_logits", "supervising_logits"]


def supervising_logits(classifier: Classifier, run: Run, batch: Batch) -> Tensor:
    """Return the logits ``(n, K)`` that stand for the classes of a batch on the run's device.

    The classifier's own outputs, kept from the survey where the data have a stable order. With
    ``supervision="labels"`` the label's class instead, as sure as the classifier typically is of that class.

    Args:
        classifier: the frozen classifier.
        run: circumstances of the fit.
        batch: the batch, on the run's device.
    """
    if run.supervision == "labels":
        margins = torch.tensor(run.spec.class_margins, device=batch.inputs.device)
        sureness = margins.sum(1) / (run.spec.num_classes - 1)
        labels = cast(Tensor, batch.labels).long()
        return F.one_hot(labels, run.spec.num_classes) * sureness.clamp_min(1.0)[labels].unsqueeze(1)
    return classifier_logits(classifier, run, batch)


def classifier_logits(classifier: Classifier, run: Run, batch: Batch) -> Tensor:
    """Return the classifier's own logits ``(n, K)`` on a batch.

    They are kept from the survey where the data have a stable order.

    Args:
        classifier: the frozen classifier.
        run: circumstances of the fit.
        batch: the batch, on the run's device.
    """
    if run.logits is not None and batch.index is not None:
        return run.logits[batch.index.cpu()].to(batch.inputs.device)
    with torch.no_grad():
        return classifier(batch.inputs).float()
