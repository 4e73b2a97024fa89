"""The check that a classifier is still what a lens was fitted around."""

from __future__ import annotations

from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.whole import tensors_of
from xlens.errors import XlensWarning, warn

__all__ = ["Bound"]


class Bound:
    """A classifier's fingerprint when its lens was fitted or loaded, and whether it still holds.

    A user's model is held by reference and may be trained on. Looking costs next to nothing while no weight was
    written to, because tensors count that; only then is the fingerprint taken again. Writing through ``.data`` is
    not counted.

    Args:
        classifier: the classifier as the lens knows it.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        identity = classifier.identity()
        self.fingerprint, self._constants = identity.digest, dict(identity.constants)
        self._seen, self._holds = self._state(), True

    def constants(self) -> dict[str, str]:
        """Return name -> hash of its constants as they were, without those that were since seen to be none."""
        now = self._classifier.identity().constants
        return {name: value for name, value in self._constants.items() if name in now}

    def holds(self) -> bool:
        """Whether the classifier has the fingerprint still."""
        state = self._state()
        if state != self._seen:
            self._seen, self._holds = state, self._classifier.fingerprint() == self.fingerprint
        return self._holds

    def warn(self, method: str) -> None:
        """Say it where it does not hold."""
        if not self.holds():
            warn(
                f"{method}: the classifier has changed since this lens was fitted around it. Fit one for it as it "
                "is now: xlens.fit(model, data, ..., start_from=explainer)",
                XlensWarning,
            )

    def _state(self) -> tuple[tuple[int, int], ...]:
        model = self._classifier.model
        return tuple((t.data_ptr(), _writes(t)) for t in tensors_of(model))


def _writes(tensor: Tensor) -> int:
    # Tensors of inference mode do not count.
    return -1 if tensor.is_inference() else tensor._version
