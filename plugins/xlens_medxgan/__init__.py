"""medXGAN: a GAN whose code separates what the classifier looks for from everything else.

References:
    Dravid, Schiffers, Gong, Katsaggelos (2022), medXGAN: Visual Explanations for Medical Classifiers
    through a Generative Latent Space.
"""

import xlens
from xlens_medxgan.backend import MedXGAN
from xlens_medxgan.calls import invert
from xlens_medxgan.lens import MedXGANLens

__all__ = ["MedXGAN", "MedXGANLens", "invert", "xlens_backend"]


@xlens.hookimpl
def xlens_backend() -> type[xlens.Backend]:
    """Return the backend class."""
    return MedXGAN
