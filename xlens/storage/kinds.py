"""Which kind of value each field of a saved lens and explanation has to be: what a forger, or a bug, made of it."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from xlens.classifier.normalization import normalization_in
from xlens.classifier.outputs import OutputKind, outputs_of
from xlens.contracts.backend import Spec
from xlens.contracts.options import fits, make
from xlens.counterfactual.mask_options import MaskOptions
from xlens.errors import ModelError, OptionError, StorageError
from xlens.explanation import Explanation, Fidelity
from xlens.stages.building import stage_faults
from xlens.storage.maps import maps_faults

__all__ = ["explanation_faults", "facts_faults", "kind_faults", "spec_of", "tuples"]

#: What a lens is made of, and one that lies below another.
_PART: dict[str, Any] = {"backend": str, "options": dict[str, Any], "spec": dict[str, Any]}
#: What is said of the whole once.
_WHOLE: dict[str, Any] = {
    "layer": str | None,
    "outputs": OutputKind,
    "labels": tuple[str, ...] | None,
    "label": int | None,
    "threshold": float | None,
    "class_names": tuple[str, ...] | None,
    "fingerprint": str,
    "constants": dict[str, Any] | None,
    "identity": int | None,
    "preprocessing": dict[str, Any] | None,
}
_PROVENANCE: dict[str, Any] = {
    "seed": int,
    "supervision": Literal["classifier", "labels"],
    "start_from": str,
    "mask": dict[str, Any],
    "normalization": dict[str, Any],
}
#: The most that one input may hold, 1 GB in float32, and the most classes: more is no lens that anybody fitted.
_VALUES, _CLASSES = 2**28, 2**16
_LARGEST = torch.finfo(torch.float32).max
_WHOLE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_CLASSES_OF = ("target", "contrast", "decisions")
_YES_OR_NO = ("trustworthy", "fidelity.agrees", "fidelity.flips", "fidelity.decoding_flips")


def facts_faults(facts: Mapping[str, Any]) -> list[str]:
    """Return, in words, which facts of a saved lens are of no kind that :func:`xlens.storage.save_lens` writes."""
    # Versions before 0.2 wrote nothing of these.
    known = {**dict.fromkeys(("preprocessing", "labels", "label", "threshold", "constants", "identity")), **facts}
    faults = [
        f"{name} is {_short(known.get(name))}"
        for name, hint in _WHOLE.items()
        if name not in known or not _is(known[name], hint)
    ]
    faults += _part_faults(facts)
    if not faults:
        faults += _outputs_faults(known)
    if not faults:
        faults += _size_faults(known["preprocessing"], facts["spec"].get("shape", ()))
    names = facts.get("class_names")
    if not faults and names is not None and len(names) != (classes := facts["spec"].get("num_classes")):
        faults.append(f"class_names are {len(names)} for {classes} classes")
    return faults


def _outputs_faults(facts: Mapping[str, Any]) -> list[str]:
    try:
        outputs_of(*(facts[name] for name in ("outputs", "labels", "label", "threshold")))
    except ModelError as fault:
        return [f"outputs: {fault}"]
    return []


def _size_faults(preprocessing: Mapping[str, Any] | None, shape: Sequence[int]) -> list[str]:
    """Return what is wrong with the size that images are given; what is no size is refused where they are read."""
    size = tuples((preprocessing or {}).get("size"))
    if _is(size, tuple[int, int]) and size != tuple(shape[1:]):
        return [f"preprocessing makes inputs of {size}, and the spec's are {tuple(shape)}"]
    return []


def spec_of(values: Mapping[str, Any]) -> Spec:
    """Return the spec that these values make.

    Raises:
        StorageError: a field is missing or unknown.
    """
    try:
        return Spec(**{key: tuples(value) for key, value in values.items()})
    except TypeError as fault:
        raise StorageError(
            "load: this version of xlens does not know what the file says of the data",
            given=fault,
            do="install the version that saved it, or fit again",
        ) from None


def explanation_faults(explanation: Explanation) -> list[str]:
    """Return, in words, which parts of an explanation fit their shapes and yet nobody could use."""
    faults = []
    classes = len(explanation.class_names)
    for name in _CLASSES_OF:
        values = getattr(explanation, name)
        # Earlier versions kept no decisions.
        if values is None:
            continue
        if values.dtype not in _WHOLE_NUMBERS or bool(((values < 0) | (values >= classes)).any()):
            faults.append(f"{name} has values that are no class of {classes}")
    for name, value in _named_tensors(explanation):
        if name not in _CLASSES_OF and not _is_of_kind(name, value):
            faults.append(f"{name} is {value.dtype}")
        if name.startswith(("fidelity.", "convergence_delta.")) and tuple(value.shape) != (len(explanation),):
            faults.append(f"{name} is {tuple(value.shape)}, not {(len(explanation),)}")
    if strange := set(explanation.convergence_delta) - set(explanation.attributions):
        faults.append(f"convergence_delta has {_short(min(strange))}, which is no attribution")
    channels = explanation.inputs.shape[1]
    if explanation.codes.dim() != 2 or explanation.path.dim() < 2 or explanation.path.shape[1] < 1:
        faults.append("codes or path have no rows")
    for name in ("channel_ranges", "display_ranges"):
        if (count := len(getattr(explanation, name))) not in (0, channels):
            faults.append(f"{name} has {count} entries for {channels} channels")
    if not all(low < high for low, high in explanation.display_ranges):
        faults.append("display_ranges end where they begin, or before")
    ranges = (explanation.data_range, *explanation.channel_ranges)
    if not all(low <= high for low, high in ranges):
        faults.append("data_range or channel_ranges end before they begin")
    return faults


def kind_faults(tree: Mapping[str, Any], kind: type) -> list[str]:
    """Return, in words, which of these fields are not what the dataclass annotates."""
    hints = typing.get_type_hints(kind)
    return [
        f"{name} is {_short(tree[name])}"
        for name, hint in hints.items()
        if name in tree and not _is(tree[name], hint)
    ]


def _named_tensors(explanation: Explanation) -> Iterator[tuple[str, Tensor]]:
    for field in dataclasses.fields(explanation):
        value = getattr(explanation, field.name)
        if isinstance(value, Fidelity):
            value = vars(value)
        if isinstance(value, Mapping):
            yield from ((f"{field.name}.{key}", item) for key, item in value.items() if item is not None)
        elif isinstance(value, Tensor):
            yield field.name, value


def _is_of_kind(name: str, value: Tensor) -> bool:
    yes_or_no = name in _YES_OR_NO or name.startswith("verdicts.")
    return value.dtype is torch.bool if yes_or_no else value.is_floating_point()


def _part_faults(facts: Any, name: str = "") -> list[str]:
    """Return what is wrong with what a lens is made of, and with the lens below it."""
    if not isinstance(facts, Mapping):
        return [f"{name} is {_short(facts)}"]
    faults = [
        f"{name}{key} is {_short(facts.get(key))}" for key, hint in _PART.items() if not _is(facts.get(key), hint)
    ]
    # Of a lens below, versions before 0.2 kept no mask.
    if not isinstance(facts.get("masked", False), bool):
        faults.append(f"{name}masked is {_short(facts['masked'])}")
    faults += [f"{name}{fault}" for fault in maps_faults(facts)]
    faults += [f"{name}provenance.{fault}" for fault in _provenance_faults(facts.get("provenance"))]
    if not faults:
        faults = [f"{name}spec.{fault}" for fault in _spec_faults(facts["spec"])]
    # What is fitted on inputs has none.
    if not faults and "stage" in facts:
        faults = [f"{name}stage: {fault}" for fault in stage_faults(facts["stage"])]
        faults = faults or [f"{name}stage.spec.{fault}" for fault in _spec_faults(facts["stage"]["spec"])]
    return faults + (_part_faults(facts["over"], f"{name}over.") if "over" in facts else [])


def _provenance_faults(provenance: Any) -> list[str]:
    if not isinstance(provenance, Mapping):
        return [_short(provenance)]
    faults = [
        f"{key} is {_short(provenance[key])}"
        for key, hint in _PROVENANCE.items()
        if key in provenance and not _is(provenance[key], hint)
    ]
    if not faults and "normalization" in provenance and normalization_in(provenance["normalization"]) is None:
        faults.append("normalization has no mean and std")
    if not faults and "mask" in provenance:
        try:
            make(MaskOptions, provenance["mask"])
        except OptionError as fault:
            faults.append(f"mask: {fault}")
    return faults


def _spec_faults(values: Mapping[str, Any]) -> list[str]:
    faults = kind_faults({key: tuples(value) for key, value in values.items()}, Spec)
    if faults or set(values) != {field.name for field in dataclasses.fields(Spec)}:
        # That fields are missing or unknown is said, as of another version, where the lens is built.
        return faults
    spec = spec_of(values)
    if not spec.shape or min(spec.shape) < 1 or math.prod(spec.shape) > _VALUES:
        return [f"shape is {spec.shape}"]
    if not 2 <= spec.num_classes <= _CLASSES:
        return [f"num_classes is {spec.num_classes}"]
    faults += [
        f"{name} has {len(getattr(spec, name))} values for {spec.shape[0]} channels"
        for name in ("minimum", "maximum", "mean", "std")
        if len(getattr(spec, name)) != spec.shape[0]
    ]
    if max(map(abs, (*spec.minimum, *spec.maximum, *spec.mean, *spec.std))) > _LARGEST:
        faults.append("a value is larger than any float32")
    if not faults and not all(low <= high for low, high in zip(spec.minimum, spec.maximum, strict=True)):
        faults.append("minimum is above maximum")
    if min(spec.std, default=0) < 0:
        faults.append("std is below 0")
    if [len(row) for row in spec.class_margins] != [spec.num_classes] * spec.num_classes:
        faults.append(f"class_margins is no table of {spec.num_classes} x {spec.num_classes}")
    return faults


def _is(value: Any, hint: Any) -> bool:
    return fits(tuples(value), hint)


def tuples(value: Any) -> Any:
    """Return a value with tuples in place of lists, which is what JSON has for them."""
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    shown = repr(value) if not isinstance(value, Tensor) else f"a tensor {tuple(value.shape)} of {value.dtype}"
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
