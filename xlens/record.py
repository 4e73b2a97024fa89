"""What an explainer knows of its classifier and its lens, as its own attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.codes.moves import directions_of
from xlens.contracts.backend import Backend, Spec
from xlens.contracts.lens import Feature, Lens
from xlens.counterfactual.mask import EditMask
from xlens.fitted import Fitted

__all__ = ["Record"]


class Record:
    """The attributes of an explainer: the fields of what was fitted, and what follows from them.

    Args:
        fitted: the classifier, the lens around it, and what belongs to them.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted

    def __repr__(self) -> str:
        """Return the backend and what it explains."""
        return f"Explainer({self.backend.name}, {self.classifier!r}, inputs {self.spec.shape})"

    @property
    def classifier(self) -> Classifier:
        """The classifier that is explained."""
        return self.fitted.classifier

    @property
    def lens(self) -> Lens:
        """The fitted lens."""
        return self.fitted.lens

    @property
    def backend(self) -> Backend:
        """The configuration that the lens was fitted with."""
        return self.fitted.backend

    @property
    def spec(self) -> Spec:
        """What the lens knows of the data."""
        return self.fitted.spec

    @property
    def mask(self) -> EditMask | None:
        """The fitted mask, or None where inputs are no images, or the lens wants none."""
        return self.fitted.mask

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Facts about the fit that are saved with the lens, such as its seed."""
        return self.fitted.provenance

    @property
    def over(self) -> Self | None:
        """The explainer whose codes this lens works on, or None."""
        return None if self.fitted.over is None else type(self)(self.fitted.over)

    @property
    def device(self) -> torch.device:
        """Where the lens is."""
        return self.fitted.device

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; ``class 0``, ... where none were given."""
        return self.fitted.class_names

    @property
    def features(self) -> Sequence[Feature]:
        """The named parts of the lens's code."""
        return self.lens.features

    @property
    def directions(self) -> Mapping[str, Tensor]:
        """Name -> unit vector ``(d,)`` of the code along which it grows; empty where the lens has none."""
        return directions_of(self.lens)

    @property
    def on_layer(self) -> bool:
        """Whether the lens decodes to a hidden layer: then what it shows are real inputs that it keeps."""
        return self.lens.decodes_to == "layer"
