"""ILVM: an invertible, interpretable lens on a hidden layer, or on another lens's codes.

References:
    Adel, Ghahramani, Weller (2018), Discovering Interpretable Representations for Both Deep Generative and
    Discriminative Models.
"""

import xlens
from xlens_ilvm.backend import ILVM
from xlens_ilvm.lens import ILVMLens

__all__ = ["ILVM", "ILVMLens", "xlens_backend"]


@xlens.hookimpl
def xlens_backend() -> type[xlens.Backend]:
    """Return the backend class."""
    return ILVM
