"""The model that a command line names: imported code that the user asked for, or a timm architecture."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.cli.weights import read_weights
from xlens.errors import ModelError, did_you_mean
from xlens.files.limits import MOST_BYTES

__all__ = ["how_read", "load_codec", "load_model", "preprocessing_of"]


def load_model(spec: str, weights: Path | None, max_bytes: int = MOST_BYTES) -> nn.Module | Classifier:
    """Return the model in eval mode.

    Args:
        spec: ``package.module:factory``, where the factory is called without arguments (a module itself is taken as
            it is), or ``timm:NAME``. It comes from the user's command line and from nowhere else.
        weights: file to load into the model; needed for timm, whose models would be untrained without.
        max_bytes: what that file may become when it is unpacked.

    Raises:
        ModelError: there is no such model, or the weights do not fit.
        StorageError: the weights cannot be read.
    """
    place, separator, name = spec.partition(":")
    if not separator or not place or not name:
        raise ModelError("model: cannot be found", given=spec, allowed="package.module:factory, or timm:NAME")
    state = None if weights is None else read_weights(weights, max_bytes)
    if place == "timm":
        return _timm(name, state).eval()
    model = _imported(place, name)
    inner = model.model if isinstance(model, Classifier) else model
    if not isinstance(inner, nn.Module):
        raise ModelError(
            f"model: {spec} gives no model",
            given=type(model).__name__,
            allowed="a torch.nn.Module or an xlens.Classifier",
        )
    if state is not None:
        _fill(inner, state)
    inner.eval()
    return model


def load_codec(spec: str) -> nn.Module:
    """Return the autoencoder that a command line names as ``package.module:factory``, in eval mode.

    Raises:
        ModelError: there is no such module.
    """
    place, separator, name = spec.partition(":")
    if not separator or not place or not name:
        raise ModelError("codec: cannot be found", given=spec, allowed="package.module:factory")
    found = _imported(place, name, "codec")
    if not isinstance(found, nn.Module):
        raise ModelError(f"codec: {spec} gives no module", given=type(found).__name__, allowed="a torch.nn.Module")
    return found.eval()


def how_read(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return how a lens is read, as arguments of :func:`xlens.load`, by what a command line says."""
    codec = None if chosen.codec is None else load_codec(chosen.codec)
    return {"device": chosen.device, "max_bytes": chosen.max_bytes, "codec": codec}


def preprocessing_of(model: nn.Module) -> dict[str, Any]:
    """Return how timm prepares images for one of its models, as options of :class:`xlens.cli.inputs.Preprocessing`.

    Of a model of one channel only the size is known: mean and std are those of colours.
    """
    facts: Any = model.pretrained_cfg
    found = {"size": tuple(facts["input_size"][1:])}
    if _channels(facts["first_conv"], model.state_dict()) == 1:
        return {**found, "mode": "grey"}
    return {**found, "mean": tuple(facts["mean"]), "std": tuple(facts["std"])}


def _imported(place: str, name: str, who: str = "model") -> Any:
    # Last, so that a file in the current folder cannot take the place of an installed package.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.import_module(place)
    except (Exception, SystemExit) as fault:  # noqa: BLE001 - the user's code may fail in any way
        raise ModelError(
            f"{who}: cannot import {place!r}",
            given=f"{type(fault).__name__}: {fault}",
            do="run xlens in the folder of the module, or install its package",
        ) from fault
    for part in name.split("."):
        if not hasattr(found, part):
            hint = did_you_mean(part, [known for known in vars(found) if not known.startswith("_")])
            raise ModelError(f"{who}: {place!r} has no {name!r}.{hint}", do="name a function that returns it")
        found = getattr(found, part)
    if isinstance(found, nn.Module | Classifier) or not callable(found):
        return found
    try:
        return found()
    except (Exception, SystemExit) as fault:  # noqa: BLE001 - it may end the program, too, with a code of ours
        raise ModelError(
            f"{who}: {place}:{name}() failed",
            given=f"{type(fault).__name__}: {fault}",
            do="name a function that takes no arguments and returns it trained",
        ) from fault


def _timm(name: str, state: dict[str, Tensor] | None) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise ModelError("model: timm is not installed", do="pip install timm") from None
    if not timm.is_model(name):
        raise ModelError(
            f"model: timm has no {name!r}.{did_you_mean(name, timm.list_models())}", do="see timm.list_models()"
        )
    if state is None:
        raise ModelError(
            f"model: timm:{name} would be untrained", do="pass its weights: --weights FILE.safetensors or FILE.pt2"
        )
    facts: Any = timm.get_pretrained_cfg(name)
    head = _weight(state, facts and facts.classifier)
    if head is None:
        raise ModelError(
            f"model: the weights have no classifier of timm:{name}",
            given=", ".join(list(state)[-2:]),
            allowed=f"{facts.classifier}.weight" if facts else None,
            do="save the state_dict of the timm model itself",
        )
    channels = _channels(facts and facts.first_conv, state)
    model = timm.create_model(name, pretrained=False, num_classes=len(head), in_chans=channels)
    _fill(model, state)
    return model


def _channels(first_conv: str | tuple[str, ...] | None, state: dict[str, Tensor]) -> int:
    first = _weight(state, first_conv)
    return 3 if first is None else first.shape[1]


def _weight(state: dict[str, Tensor], names: str | tuple[str, ...] | None) -> Tensor | None:
    first = names[0] if isinstance(names, tuple) else names
    return state.get(f"{first}.weight")


def _fill(model: nn.Module, state: dict[str, Tensor]) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as fault:
        raise ModelError(
            "model: the weights do not fit it",
            given=str(fault).splitlines()[-1].strip(),
            do="pass the weights of this very architecture",
        ) from None
