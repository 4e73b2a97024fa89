"""Latent shift: codes of your own autoencoder, moved along the classifier's gradient; nothing is trained.

References:
    Cohen, Brooks, En, Zucker, Pareek, Lungren, Chaudhari (2021), Gifsplanation via Latent Shift: A Simple
    Autoencoder Approach to Counterfactual Generation for Chest X-rays. https://arxiv.org/abs/2102.09475
"""

import xlens
from xlens_latentshift.autoencoders import register, registered
from xlens_latentshift.backend import LatentShift
from xlens_latentshift.frames import LargestChange
from xlens_latentshift.lens import LatentShiftLens

__all__ = [
    "LargestChange",
    "LatentShift",
    "LatentShiftLens",
    "register",
    "registered",
    "xlens_attribution",
    "xlens_backend",
]


@xlens.hookimpl
def xlens_backend() -> type[xlens.Backend]:
    """Return the backend class."""
    return LatentShift


@xlens.hookimpl
def xlens_attribution() -> type[LargestChange]:
    """Return the attribution class."""
    return LargestChange
