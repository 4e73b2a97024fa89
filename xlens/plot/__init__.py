"""Figures of explanations, codes, traversals, invariances and features; each gives back a matplotlib Figure."""

from xlens.plot.asked import invariances, traversal
from xlens.plot.evaluation import plot_evaluation
from xlens.plot.explanation import plot_explanation
from xlens.plot.grids import plot_invariances, plot_traversal
from xlens.plot.parts import plot_features
from xlens.plot.scatter import codes
from xlens.plot.verdicts import verdict_lines

__all__ = [
    "codes",
    "invariances",
    "plot_evaluation",
    "plot_explanation",
    "plot_features",
    "plot_invariances",
    "plot_traversal",
    "traversal",
    "verdict_lines",
]
