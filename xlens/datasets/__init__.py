"""Images whose class has one known cause, and small real data sets with classifiers for them."""

from xlens.datasets.examples import Images, load_images, read_idx, small_cnn, train_classifier
from xlens.datasets.known import KnownCause
from xlens.datasets.parts import part_factors, parts, render_parts
from xlens.datasets.photographs import leaves
from xlens.datasets.planted import plant, planted

__all__ = [
    "Images",
    "KnownCause",
    "leaves",
    "load_images",
    "part_factors",
    "parts",
    "plant",
    "planted",
    "read_idx",
    "render_parts",
    "small_cnn",
    "train_classifier",
]
