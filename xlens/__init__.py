"""xlens puts a generative lens around the classifier that you already have."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xlens.api import fit, load
    from xlens.classifier import Classifier
    from xlens.contracts import Backend, Explainer, Feature, Lens, Run, Spec, StepEvent
    from xlens.evaluation import Evaluation, evaluate
    from xlens.explanation import Explanation, Fidelity
    from xlens.hookspecs import hookimpl
    from xlens.invariances import DivergenceAttributions, Invariances
    from xlens.params import options, param
    from xlens.registry import backends

__version__ = "0.1.0"

# Where each public name lives. Importing xlens loads none of it: that costs next to nothing.
_HOME = {
    "Backend": "contracts",
    "Classifier": "classifier",
    "DivergenceAttributions": "invariances",
    "Evaluation": "evaluation",
    "Explainer": "contracts",
    "Explanation": "explanation",
    "Feature": "contracts",
    "Fidelity": "explanation",
    "Invariances": "invariances",
    "Lens": "contracts",
    "Run": "contracts",
    "Spec": "contracts",
    "StepEvent": "contracts",
    "backends": "registry",
    "evaluate": "evaluation",
    "fit": "api",
    "hookimpl": "hookspecs",
    "load": "api",
    "options": "params",
    "param": "params",
}
_MODULES = ("attr", "datasets", "errors", "metrics", "nn", "plot", "report", "testing", "training")

__all__ = [
    "Backend",
    "Classifier",
    "DivergenceAttributions",
    "Evaluation",
    "Explainer",
    "Explanation",
    "Feature",
    "Fidelity",
    "Invariances",
    "Lens",
    "Run",
    "Spec",
    "StepEvent",
    "__version__",
    "attr",
    "backends",
    "datasets",
    "errors",
    "evaluate",
    "fit",
    "hookimpl",
    "load",
    "metrics",
    "nn",
    "options",
    "param",
    "plot",
    "report",
    "testing",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"xlens.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"xlens.{name}")
    raise AttributeError(f"module 'xlens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
