"""The user's classifier and nothing else: its logits, hidden layers and margins, and that it is never changed."""

from pathlib import Path

from xlens.classifier.classifier import Classifier, as_classifier
from xlens.classifier.copies import copied
from xlens.classifier.margins import default_contrast, margin_over_rest, score_margin
from xlens.classifier.taps import FeatureMaps, Penultimate

__all__ = [
    "Classifier",
    "FeatureMaps",
    "Penultimate",
    "as_classifier",
    "copied",
    "default_contrast",
    "margin_over_rest",
    "score_margin",
]

# Old paths of modules are looked up here, after everything else.
__path__.append(str(Path(__file__).parents[1] / "moved" / "classifier"))
