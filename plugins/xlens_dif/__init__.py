"""DIF: a variational autoencoder whose code is pulled apart by class, and the few features that tell the classes.

References:
    Hu, Sejdinovic, Robust Deep Interpretable Features for Binary Image Classification.
"""

import xlens
from xlens_dif.backend import DIF
from xlens_dif.calls import agreement, traversal
from xlens_dif.lens import DIFLens
from xlens_dif.separation import Statistic, mean_embedding_separation

__all__ = [
    "DIF",
    "DIFLens",
    "Statistic",
    "agreement",
    "mean_embedding_separation",
    "traversal",
    "xlens_backend",
]


@xlens.hookimpl
def xlens_backend() -> type[xlens.Backend]:
    """Return the backend class."""
    return DIF
