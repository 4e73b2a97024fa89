"""The classifier that a saved lens explains."""

from __future__ import annotations

from typing import Any

from torch import nn

from xlens.classifier.classifier import Classifier
from xlens.classifier.wrappers import own_name

__all__ = ["ASKED", "classifier_for"]

#: What else is said of the outputs that the lens explains.
ASKED = ("labels", "label", "threshold")


def classifier_for(model: nn.Module | Classifier, facts: dict[str, Any]) -> Classifier:
    """Return the classifier that a saved lens explains: what `model` says of itself, and what the file says else.

    Args:
        model: the user's, bare or with what was said of it.
        facts: those of the file: ``outputs``, ``layer``, ``class_names``, and those of `ASKED` where they apply.
    """
    asked = {name: facts.get(name) for name in ASKED}
    own = model if isinstance(model, Classifier) else Classifier(model, outputs=facts["outputs"], **asked)
    if own.label is None and asked["label"] is not None and own.outputs == facts["outputs"]:
        asked["labels"] = own.labels or asked["labels"]
        own = own.replaced(**asked, class_names=facts["class_names"])
    # Another model need not have the layer; the fingerprint then says so.
    known = facts["layer"] and own_name(facts["layer"], dict(own.model.named_modules()))
    given = own.class_names if isinstance(model, Classifier) else None
    layer, names = own.layer or known, given or facts["class_names"]
    if (layer, names) == (own.layer, own.class_names):
        return own
    return own.replaced(layer=layer, class_names=names)
