"""Building blocks for backends: networks for inputs of any size, and taps into the classifier."""

from xlens.nn.conv import ImageDecoder, ImageEncoder, Layout
from xlens.nn.features import FeatureMaps, Penultimate, score_margin
from xlens.nn.mask import EditMask

__all__ = ["EditMask", "FeatureMaps", "ImageDecoder", "ImageEncoder", "Layout", "Penultimate", "score_margin"]
