"""One suite of figures for lenses and attribution methods, and figures about a lens on its own."""

from importlib import import_module
from pathlib import Path

from xlens.evaluation.divergence import divergence_attributions
from xlens.evaluation.flipping import FlipDistance
from xlens.evaluation.run import evaluate
from xlens.evaluation.table import Difference, Evaluation, Figure

# Old paths of modules, looked up after everything else. They are read here, because reading them later would put
# them in the place of the functions of their names.
__path__.append(str(Path(__file__).parents[1] / "moved" / "evaluation"))
import_module("xlens.evaluation.flip_distance")
import_module("xlens.evaluation.leakage")
from xlens.evaluation.flipping import flip_distance  # noqa: E402
from xlens.evaluation.leaking import leakage  # noqa: E402

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
