"""Building blocks for backends: networks for inputs of any size, and taps into the classifier."""

from xlens.nn.conv import Layout
from xlens.nn.features import FeatureMaps, Penultimate, score_margin
from xlens.nn.mask import EditMask

__all__ = ["EditMask", "FeatureMaps", "Layout", "Penultimate", "score_margin"]
