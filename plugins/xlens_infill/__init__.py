"""Infill: the classifier says where its evidence is, and a fill that never saw the classifier says what is there
else.

References:
    Chang et al. (2019), Explaining Image Classifiers by Counterfactual Generation (infilling).
    Jeanneret et al. (2024), Text-to-Image Models for Counterfactual Explanations, and MaskDiME (mask, then
    generate).
"""

import xlens
from xlens_infill.backend import Infill
from xlens_infill.lens import InfillLens

__all__ = ["Infill", "InfillLens", "xlens_backend"]


@xlens.hookimpl
def xlens_backend() -> type[xlens.Backend]:
    """Return the backend class."""
    return Infill
