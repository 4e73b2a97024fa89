"""The same suite of figures over every lens and every attribution method."""

from xlens.evaluation.run import evaluate
from xlens.evaluation.table import Difference, Evaluation, Figure

__all__ = ["Difference", "Evaluation", "Figure", "evaluate"]
