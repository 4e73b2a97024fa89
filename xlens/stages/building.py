"""The stage of a saved lens, built again of its facts, and what these have to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import Spec
from xlens.contracts.options import fits, make
from xlens.errors import OptionError
from xlens.stages.decoder import DecoderOptions
from xlens.stages.layer import LayerStage
from xlens.stages.stage import Stage

__all__ = ["STAGES", "build_stage", "stage_faults"]

#: Makes a stage of the user's classifier, the spec of its inputs, that of values, and the stage's facts.
Build = Callable[[Classifier, Spec, Spec, Mapping[str, Any]], Stage]

#: Kind of stage -> what builds it, and what is wrong with facts that are read from a file, in words.
STAGES: dict[str, tuple[Build, Callable[[Mapping[str, Any]], list[str]]]] = {}


def build_stage(classifier: Classifier, inputs: Spec, values: Spec, facts: Mapping[str, Any]) -> Stage:
    """Return the stage that these facts describe, before its state is loaded."""
    build, _ = STAGES[facts["kind"]]
    return build(classifier, inputs, values, facts)


def stage_faults(facts: Any) -> list[str]:
    """Return, in words, what is wrong with the facts of a stage, beside its spec."""
    if not isinstance(facts, Mapping) or facts.get("kind") not in STAGES or not isinstance(facts.get("spec"), dict):
        return ["no stage that this version knows"]
    _, faults = STAGES[facts["kind"]]
    return faults(facts)


def _layer_faults(facts: Mapping[str, Any]) -> list[str]:
    shape, order = _whole(facts.get("shape")), _whole(facts.get("order"))
    if not shape or sorted(order) != list(range(len(shape))):
        return ["shape or order are no axes of a layer"]
    if [shape[axis] for axis in order] != list(facts["spec"].get("shape", ())):
        return ["shape is not that of the values"]
    if (decoder := facts.get("decoder")) is None:
        return []
    try:
        make(DecoderOptions, decoder)
    except (OptionError, TypeError) as fault:
        return [f"decoder: {fault}"]
    return []


def _whole(values: Any) -> tuple[int, ...]:
    """Return the whole numbers that a file has, or none."""
    known = isinstance(values, list | tuple) and fits(tuple(values), tuple[int, ...])
    return tuple(values) if known else ()


STAGES[LayerStage.kind] = (LayerStage.built, _layer_faults)
