"""Infilling: the classifier says where its evidence is, and a fill that never saw it says what else is there.

References:
    Chang et al. (2019), Explaining Image Classifiers by Counterfactual Generation (infilling).
    Guo et al. (2026), MaskDiME: Adaptive Masked Diffusion for Precise and Efficient Visual Counterfactual
        Explanations (a mask first, content inside it alone).
    Csurka et al. (2004), Visual Categorization with Bags of Keypoints (the survey).
    Criminisi et al. (2004), Region Filling and Object Removal by Exemplar-Based Image Inpainting.
    Wexler et al. (2007), Space-Time Completion of Video.
"""

import xlens
from xlens_infill.backend import Infill
from xlens_infill.lens import InfillLens

__all__ = ["Infill", "InfillLens", "xlens_backend"]


@xlens.hookimpl
def xlens_backend() -> type[xlens.Backend]:
    """Return the backend class."""
    return Infill
