"""Building blocks for backends: networks for inputs of any size, and taps into the classifier."""

from xlens.nn.asking import AskingLens
from xlens.nn.coder import CodeDecoder, GaussianEncoder, is_dense
from xlens.nn.conv import ImageDecoder, ImageEncoder, Layout
from xlens.nn.features import FeatureMaps, Penultimate, score_margin
from xlens.nn.held import held
from xlens.nn.mask import EditMask
from xlens.nn.steps import step_that_reaches

__all__ = [
    "AskingLens",
    "CodeDecoder",
    "EditMask",
    "FeatureMaps",
    "GaussianEncoder",
    "ImageDecoder",
    "ImageEncoder",
    "Layout",
    "Penultimate",
    "held",
    "is_dense",
    "score_margin",
    "step_that_reaches",
]
