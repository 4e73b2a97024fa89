"""The mean and std of the images of a fit: as said, as the data's own transform has them, or as timm knows them."""

from __future__ import annotations

from xlens.classifier.classifier import Classifier
from xlens.classifier.normalization import Normalization, normalization_in
from xlens.contracts.backend import Spec
from xlens.data import Data
from xlens.plot.pixels import true_colours

__all__ = ["normalization_of", "unknown_colours"]

#: What rounding in a transform may add beyond what 0 and 1 become.
_SLACK = 1e-3


def normalization_of(classifier: Classifier, data: Data, spec: Spec) -> Normalization | None:
    """Return what was done to images in [0, 1], or None where nobody says so.

    Args:
        classifier: of which it may be said.
        data: whose transform may say it.
        spec: what is known of the data.
    """
    if not spec.is_image:
        return None
    if (said := classifier.normalization) is not None:
        return said if said.ranges(spec.shape[0]) else None
    if (found := data.normalization) is not None and _within(spec, found):
        return found
    # A timm model knows how it was trained. Images in [0, 1] lie in that range too, as they are.
    known = normalization_in(getattr(classifier.model, "pretrained_cfg", None))
    return known if known is not None and _within(spec, known) and min(spec.minimum) < -_SLACK else None


def unknown_colours(spec: Spec) -> str | None:
    """Ask, in words, for mean and std of images where nobody says them; None where pictures are right without."""
    if not spec.is_image or true_colours((), spec.minimum, spec.maximum):
        return None
    return (
        "fit: the images are normalised, and nothing says how: pictures will have another contrast and other "
        "colours. For their own, say xlens.Classifier(model, normalization=(mean, std))"
    )


def _within(spec: Spec, known: Normalization) -> bool:
    """Whether the data lie in the range that images in [0, 1] have after this normalisation."""
    ranges = known.ranges(spec.shape[0])
    return bool(ranges) and all(
        low - _SLACK <= least and most <= high + _SLACK
        for (low, high), least, most in zip(ranges, spec.minimum, spec.maximum, strict=True)
    )
