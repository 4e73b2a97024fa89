"""Building blocks for backends: networks for inputs of any size, and taps into the classifier."""

from pathlib import Path

from xlens.classifier.copies import copied
from xlens.classifier.margins import margin_over_rest, score_margin
from xlens.classifier.pieces import in_pieces, piece
from xlens.classifier.taps import FeatureMaps, Penultimate
from xlens.deprecated import forwarded_module
from xlens.nn.asking import AskingLens, decoded_as
from xlens.nn.coder import CodeDecoder, GaussianEncoder, is_dense
from xlens.nn.conv import ImageDecoder, ImageEncoder, Layout
from xlens.nn.held import held
from xlens.nn.kept import Kept, nearest_kept, spread_over_classes
from xlens.nn.residual import ResidualDecoder, ResidualEncoder
from xlens.nn.search import smallest_step, step_that_reaches

__all__ = [
    "AskingLens",
    "CodeDecoder",
    "FeatureMaps",
    "GaussianEncoder",
    "ImageDecoder",
    "ImageEncoder",
    "Kept",
    "Layout",
    "Penultimate",
    "ResidualDecoder",
    "ResidualEncoder",
    "copied",
    "decoded_as",
    "held",
    "in_pieces",
    "is_dense",
    "margin_over_rest",
    "nearest_kept",
    "piece",
    "score_margin",
    "smallest_step",
    "spread_over_classes",
    "step_that_reaches",
]

__getattr__ = forwarded_module("xlens.nn", "xlens.counterfactual", ("EditMask",))

# Old paths of modules are looked up here, after everything else.
__path__.append(str(Path(__file__).parents[1] / "moved" / "nn"))
