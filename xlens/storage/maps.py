"""Which of the classifier's maps a lens's mask sees, saved so that reading the lens runs no classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from xlens.classifier.taps import FeatureMaps
from xlens.classifier.wrappers import own_name, without_compilers
from xlens.contracts.backend import Spec

__all__ = ["facts_of_maps", "known_maps", "maps_faults", "without_maps"]

_MAPS = "maps"


def facts_of_maps(maps: FeatureMaps, spec: Spec) -> dict[str, Any]:
    """Return, as plain JSON, the layers that the maps are from, how wide each is, and for which inputs."""
    layers = [[without_compilers(n), w] for n, w in zip(maps.names, maps.widths, strict=True)]
    return {_MAPS: {"shape": list(spec.shape), "layers": layers}}


def maps_faults(facts: Mapping[str, Any]) -> list[str]:
    """Return, in words, what is wrong with what is saved of the maps; earlier versions saved nothing."""
    if _MAPS not in facts:
        return []
    found = facts[_MAPS]
    if isinstance(found, Mapping) and found.keys() == {"shape", "layers"}:
        shape, layers = found["shape"], found["layers"]
        if isinstance(shape, list) and isinstance(layers, list) and all(map(_is_layer, layers)):
            return []
    return [f"{_MAPS} are {str(found)[:60]!r}"]


def known_maps(facts: Mapping[str, Any], spec: Spec, model: nn.Module) -> list[tuple[str, int]] | None:
    """Return names and widths of the maps, where this model has those that were saved; else None.

    Then it is run to find them. A saved width is believed only where the layer says the same.

    Args:
        facts: what the mask's lens was saved with.
        spec: the lens's inputs.
        model: the bare classifier.
    """
    saved = facts.get(_MAPS)
    if saved is None or saved["shape"] != list(spec.shape):
        return None
    modules, found = dict(model.named_modules()), []
    for said, width in saved["layers"]:
        name = own_name(said, modules)
        layer = None if name is None else modules[name]
        if name is None or not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or layer.out_channels != width:
            return None
        found.append((name, width))
    return found


def without_maps(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was saved without the maps, as for a classifier that need not have them."""
    kept = {key: value for key, value in facts.items() if key != _MAPS}
    return {**kept, "over": without_maps(kept["over"])} if "over" in kept else kept


def _is_layer(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int
