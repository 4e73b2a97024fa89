"""xlens puts a generative lens around the classifier that you already have."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xlens import (
        attr,
        contracts,
        data,
        datasets,
        errors,
        evaluation,
        integrations,
        metrics,
        nn,
        plot,
        report,
        teaching,
        testing,
        training,
    )
    from xlens.api import load
    from xlens.at_once import explain_labels
    from xlens.auditing.result import Audit
    from xlens.auditing.run import audit
    from xlens.classifier.classifier import Classifier
    from xlens.contracts.backend import Backend, Run, Spec, StepEvent
    from xlens.contracts.explainer import Explainer
    from xlens.contracts.lens import Feature, FittedLens, Lens
    from xlens.contracts.options import options, param
    from xlens.counterfactual.mask_options import MaskOptions
    from xlens.evaluation.run import evaluate
    from xlens.evaluation.table import Evaluation
    from xlens.explainer import LensExplainer
    from xlens.explanation import Explanation, Fidelity
    from xlens.fitted import asking
    from xlens.fitting.overloads import explain, fit
    from xlens.hookspecs import hookimpl
    from xlens.invariances import DivergenceAttributions, Invariances
    from xlens.registry.installed import backends
    from xlens.stages.decoder import DecoderOptions

__version__ = "0.2.0"

# Old paths of modules are looked up here, after everything else.
__path__.append(str(Path(__file__).parent / "moved"))

# Where each public name lives. Importing xlens loads none of it: that costs next to nothing.
_HOME = {
    "Audit": "auditing.result",
    "Backend": "contracts.backend",
    "Classifier": "classifier.classifier",
    "DecoderOptions": "stages.decoder",
    "DivergenceAttributions": "invariances",
    "Evaluation": "evaluation.table",
    "Explainer": "contracts.explainer",
    "Explanation": "explanation",
    "Feature": "contracts.lens",
    "Fidelity": "explanation",
    "FittedLens": "contracts.lens",
    "Invariances": "invariances",
    "Lens": "contracts.lens",
    "LensExplainer": "explainer",
    "MaskOptions": "counterfactual.mask_options",
    "Run": "contracts.backend",
    "Spec": "contracts.backend",
    "StepEvent": "contracts.backend",
    "asking": "fitted",
    "audit": "auditing.run",
    "backends": "registry.installed",
    "evaluate": "evaluation.run",
    "explain": "at_once",
    "explain_labels": "at_once",
    "fit": "api",
    "hookimpl": "hookspecs",
    "load": "api",
    "options": "contracts.options",
    "param": "contracts.options",
}
_MODULES = (
    "attr",
    "contracts",
    "data",
    "datasets",
    "errors",
    "evaluation",
    "integrations",
    "metrics",
    "nn",
    "plot",
    "report",
    "teaching",
    "testing",
    "training",
)

__all__ = [
    "Audit",
    "Backend",
    "Classifier",
    "DecoderOptions",
    "DivergenceAttributions",
    "Evaluation",
    "Explainer",
    "Explanation",
    "Feature",
    "Fidelity",
    "FittedLens",
    "Invariances",
    "Lens",
    "LensExplainer",
    "MaskOptions",
    "Run",
    "Spec",
    "StepEvent",
    "__version__",
    "asking",
    "attr",
    "audit",
    "backends",
    "contracts",
    "data",
    "datasets",
    "errors",
    "evaluate",
    "evaluation",
    "explain",
    "explain_labels",
    "fit",
    "hookimpl",
    "integrations",
    "load",
    "metrics",
    "nn",
    "options",
    "param",
    "plot",
    "report",
    "teaching",
    "testing",
    "training",
]


if not TYPE_CHECKING:
    # A type checker would take it for a promise that there is every name.
    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(importlib.import_module(f"xlens.{_HOME[name]}"), name)
        if name in _MODULES:
            return importlib.import_module(f"xlens.{name}")
        raise AttributeError(f"module 'xlens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
