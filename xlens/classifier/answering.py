"""Another model that answers in the place of the user's, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from xlens.classifier.classifier import Classifier
from xlens.classifier.outputs import outputs_of

__all__ = ["answered_by"]


@contextmanager
def answered_by(classifier: Classifier, model: nn.Module) -> Iterator[None]:
    """Within this context, another model answers whoever holds the classifier; afterwards the user's does again.

    Args:
        classifier: the classifier, without a hidden layer.
        model: maps inputs ``(N, *S)`` to logits ``(N, K)`` as the classifier gives them, whatever its own model
            returns.

    >>> import torch
    >>> from xlens import Classifier
    >>> classifier = Classifier(torch.nn.Linear(4, 1))
    >>> with answered_by(classifier, torch.nn.Linear(4, 2)):
    ...     classifier(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    >>> classifier.model.out_features
    1
    """
    own = classifier.model, classifier.reading
    classifier.model, classifier.reading = model, outputs_of("logits", None, None, None)
    try:
        yield
    finally:
        classifier.model, classifier.reading = own
