"""SVAE: a supervised VAE whose code separates what the classifier uses from what it ignores.

References:
    Nguyen, Rodriguez Martinez (2020), Learning Invariances for Interpretability using Supervised VAE.
    Kingma, Rezende, Mohamed, Welling (2014), Semi-Supervised Learning with Deep Generative Models (M2).
"""

import xlens
from xlens_svae.backend import SVAE
from xlens_svae.calls import InvarianceTest, class_probabilities, invariance_test, kept_by_head, redrawn
from xlens_svae.contrasts import Contrasts, contrasts
from xlens_svae.lens import SVAELens

__all__ = [
    "SVAE",
    "Contrasts",
    "InvarianceTest",
    "SVAELens",
    "class_probabilities",
    "contrasts",
    "invariance_test",
    "kept_by_head",
    "redrawn",
    "xlens_backend",
]


@xlens.hookimpl
def xlens_backend() -> type[xlens.Backend]:
    """Return the backend class."""
    return SVAE
