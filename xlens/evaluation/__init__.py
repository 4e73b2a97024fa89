"""One suite of figures for lenses and attribution methods, and figures about a lens on its own."""

from xlens.evaluation.divergence import divergence_attributions
from xlens.evaluation.flip_distance import FlipDistance, flip_distance
from xlens.evaluation.leakage import leakage
from xlens.evaluation.run import evaluate
from xlens.evaluation.table import Difference, Evaluation, Figure

__all__ = [
    "Difference",
    "Evaluation",
    "Figure",
    "FlipDistance",
    "divergence_attributions",
    "evaluate",
    "flip_distance",
    "leakage",
]
