"""What the author of a backend reads: lenses, backends and their options, capabilities, and the explainer."""

from xlens.contracts.backend import CONTRACT_VERSION, Backend, Run, Spec, StepEvent
from xlens.contracts.capabilities import (
    CAPABILITIES,
    Question,
    SupportsDirections,
    SupportsDivergence,
    SupportsInvariances,
    SupportsInversion,
    SupportsRetrieval,
    SupportsSampling,
    SupportsTeaching,
    SupportsWaypoints,
    Waypoints,
)
from xlens.contracts.explainer import Explainer
from xlens.contracts.lens import EditingLens, Feature, FittedLens, Lens, LocalEdit
from xlens.contracts.numbers import check_count, seeded, whole
from xlens.contracts.options import options, param

__all__ = [
    "CAPABILITIES",
    "CONTRACT_VERSION",
    "Backend",
    "EditingLens",
    "Explainer",
    "Feature",
    "FittedLens",
    "Lens",
    "LocalEdit",
    "Question",
    "Run",
    "Spec",
    "StepEvent",
    "SupportsDirections",
    "SupportsDivergence",
    "SupportsInvariances",
    "SupportsInversion",
    "SupportsRetrieval",
    "SupportsSampling",
    "SupportsTeaching",
    "SupportsWaypoints",
    "Waypoints",
    "check_count",
    "options",
    "param",
    "seeded",
    "whole",
]
