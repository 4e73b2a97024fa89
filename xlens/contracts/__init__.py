"""What the author of a backend reads: lenses, backends and their options, capabilities, explainers, additions."""

from xlens.contracts.additions import (
    ADDITIONS,
    Addition,
    AskedMap,
    AttributionMethod,
    Carrier,
    JudgedMaps,
    MapMetric,
    PathMethod,
    ReportPart,
)
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
    "ADDITIONS",
    "CAPABILITIES",
    "CONTRACT_VERSION",
    "Addition",
    "AskedMap",
    "AttributionMethod",
    "Backend",
    "Carrier",
    "EditingLens",
    "Explainer",
    "Feature",
    "FittedLens",
    "JudgedMaps",
    "Lens",
    "LocalEdit",
    "MapMetric",
    "PathMethod",
    "Question",
    "ReportPart",
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
