"""A rectified flow: an invertible generative lens that the classifier's gradient never touches.

References:
    Liu, Gong, Liu (2023), Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow.
    Lipman, Chen, Ben-Hamu, Nickel, Le (2023), Flow Matching for Generative Modeling.
    Ho, Salimans (2022), Classifier-Free Diffusion Guidance.
    Su, Song, Meng, Ermon (2023), Dual Diffusion Implicit Bridges for Image-to-Image Translation.
"""

import xlens
from xlens_flow.backend import RectifiedFlow
from xlens_flow.calls import inversion_error
from xlens_flow.lens import FlowLens
from xlens_flow.second_opinion import SecondOpinion, generative_classifier

__all__ = [
    "FlowLens",
    "RectifiedFlow",
    "SecondOpinion",
    "generative_classifier",
    "inversion_error",
    "xlens_backend",
]


@xlens.hookimpl
def xlens_backend() -> type[xlens.Backend]:
    """Return the backend class."""
    return RectifiedFlow
