"""The stage of a saved lens, built again of its facts, and what these have to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xlens.classifier.classifier import Classifier
from xlens.codec import Autoencoder
from xlens.contracts.backend import Spec
from xlens.contracts.options import fits, make
from xlens.errors import OptionError
from xlens.stages.coded import CodecStage
from xlens.stages.decoder import DecoderOptions
from xlens.stages.layer import LayerStage
from xlens.stages.own import own_faults
from xlens.stages.stage import Stage

__all__ = ["STAGES", "build_stage", "stage_faults"]

#: Channels of an autoencoder that are built at most: a file can ask for networks of any size.
_WIDEST = 4096
#: Makes a stage of the user's classifier, the spec of its inputs, that of values, the stage's facts, and the user's
#: own autoencoder where there is one.
Build = Callable[[Classifier, Spec, Spec, Mapping[str, Any], Autoencoder | None], Stage]

#: Kind of stage -> what builds it, and what is wrong with facts that are read from a file, in words.
STAGES: dict[str, tuple[Build, Callable[[Mapping[str, Any]], list[str]]]] = {}


def build_stage(
    classifier: Classifier, inputs: Spec, values: Spec, facts: Mapping[str, Any], own: Autoencoder | None = None
) -> Stage:
    """Return the stage that these facts describe, before its state is loaded."""
    build, _ = STAGES[facts["kind"]]
    return build(classifier, inputs, values, facts, own)


def stage_faults(facts: Any) -> list[str]:
    """Return, in words, what is wrong with the facts of a stage, beside its spec."""
    if not isinstance(facts, Mapping) or facts.get("kind") not in STAGES or not isinstance(facts.get("spec"), dict):
        return ["no stage that this version knows"]
    _, faults = STAGES[facts["kind"]]
    return faults(facts)


def _layer(
    classifier: Classifier, inputs: Spec, values: Spec, facts: Mapping[str, Any], _own: Autoencoder | None
) -> Stage:
    return LayerStage.built(classifier, inputs, values, facts)


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


def _codec_faults(facts: Mapping[str, Any]) -> list[str]:
    shape = facts["spec"].get("shape", ())
    if "own" in facts:
        return own_faults(facts["own"])
    if not fits(facts.get("width"), int) or not 0 < facts["width"] <= _WIDEST or len(_whole(shape)) != 3:
        return ["width or shape are none of an autoencoder"]
    return []


STAGES[LayerStage.kind] = (_layer, _layer_faults)
STAGES[CodecStage.kind] = (CodecStage.built, _codec_faults)
