"""Default backend of a fit: chosen by a look at the data, through what the installed backends say of themselves.

Backends that edit inputs without training come first: they are tried on some of the data, and
their lens says whether such data can have an answer. Where none can, the registered default is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.quiet import quiet
from xlens.contracts.backend import Backend, Run, Spec
from xlens.contracts.lens import EditingLens
from xlens.data import Data, as_data
from xlens.errors import BackendNotFoundError, PluginError, XlensError
from xlens.fitting.staging import on_layer
from xlens.registry.default import registered_default
from xlens.registry.installed import backends
from xlens.registry.loading import load_backend, offering
from xlens.training.survey import measured

__all__ = ["Choice", "choose", "unnamed_faults"]

#: Inputs that are looked at, at most, and at once.
_LOOKED_AT, _READ = 480, 64
#: What pictures have: channels at most, and pixels a side at least.
_CHANNELS, _SIDE = 4, 8


@dataclass(frozen=True)
class Choice:
    """A backend, and why it was chosen.

    Args:
        backend: with its default options.
        reason: why this one, in words.
    """

    backend: Backend
    reason: str

    def __str__(self) -> str:
        """Return what was chosen, why, and what it costs."""
        return (
            f"fit: chose the backend {self.backend.name!r}: {self.reason}. It {_cost(self.backend)}. To take "
            "another: backend=NAME, from xlens.backends()"
        )


def choose(classifier: Classifier, data: Data, *, seed: int, device: torch.device) -> Choice:
    """Return the backend that suits these data, within the classifier's ``frozen()``.

    Args:
        classifier: the frozen classifier.
        data: the user's data, of which at most 480 inputs are looked at.
        seed: draws them.
        device: where a lens is tried.

    Raises:
        BackendNotFoundError: no installed backend takes such data.
        DataError: there are no inputs, or of different shapes.
        ModelError: the classifier cannot be used.
    """
    if classifier.layer is not None:
        return _on_layer(classifier)
    sample = as_data(_some(data, seed))
    spec = measured(classifier, sample)
    because: list[str] = []
    for kind in _untrained():
        fault = _tried(kind, classifier, sample, Run(seed=seed, device=device, spec=spec, progress=False))
        if fault is None:
            why = "small regions of the inputs tell the classifier's classes apart"
            return Choice(kind(), "; ".join([*because, why]))
        because.append(f"{kind.name!r} does not suit these data ({fault})")
    because = because or ["no installed backend edits inputs without training"]
    refused = []
    for kind in _trained(spec):
        try:
            kind().build(classifier, spec)
        except Exception as fault:  # noqa: BLE001 - a plugin's own code, on data that it need not know
            refused.append(f"{kind.name!r} does not take them ({_first(fault)})")
            continue
        passed = [] if _is_picture(spec) else [f"{registered_default()!r} is for pictures"]
        return Choice(kind(), "; ".join([*because, *passed, *refused, "it takes inputs like these"]))
    raise BackendNotFoundError(
        "fit: no installed backend takes these data",
        given="; ".join([*because, *refused]),
        do="install a distribution that brings one, or name it: backend=NAME",
    )


def _on_layer(classifier: Classifier) -> Choice:
    """Return the first backend, the registered default before others, that can be fitted on the named layer."""
    for kind in _trained():
        if on_layer(kind, classifier):
            return Choice(kind(), f"the hidden layer {classifier.layer!r} is named, and it can be fitted there")
    raise BackendNotFoundError(
        "fit: no installed backend can be fitted on a hidden layer",
        given=f"layer={classifier.layer!r}",
        do="install a distribution that brings one, or name no layer: xlens.Classifier(model)",
    )


def unnamed_faults(options: dict[str, Any], several: bool, **arguments: Any) -> list[str]:
    """Return, in words, what needs a backend by name where none was named.

    Args:
        options: a backend's options.
        several: whether several processes fit together, which may see the data in different orders.
        arguments: those of ``fit`` that not every backend takes.
    """
    given = [name for name, value in arguments.items() if value is not None] + sorted(options)
    faults = [f"backend has to be named with {', '.join(given)}, which not every backend takes"] if given else []
    if several:
        faults.append("backend has to be named in a program of several processes")
    return faults


def _cost(backend: Backend) -> str:
    if not backend.trains:
        return "trains nothing: it surveys some of the data, once to choose and once to fit"
    steps = getattr(backend, "steps", None)
    many = "" if steps is None else f" for {steps:,} steps"
    return f"trains a generative model{many}: minutes, or more for large images"


def _some(data: Data, seed: int) -> Tensor:
    """Return some inputs ``(n, *S)``, drawn where the data have positions, else the first."""
    found, count = [], 0
    for batch in data.batches(_READ, generator=torch.Generator().manual_seed(seed)):
        found.append(batch.inputs)
        count += len(batch)
        if count >= _LOOKED_AT:
            break
    shapes = {tuple(part.shape[1:]) for part in found}
    # `measured` says in words that they differ.
    return torch.cat(found)[:_LOOKED_AT] if len(shapes) == 1 else found[0]


def _untrained() -> Iterator[type[Backend]]:
    for name in offering("edits"):
        kind = load_backend(name)
        if not kind.trains:
            yield kind


def _trained(spec: Spec | None = None) -> Iterator[type[Backend]]:
    """Yield the backends that train; a broken plugin is passed over.

    The registered default comes first, but for data that are no pictures last: pictures are what it is the default
    for.

    Args:
        spec: of the data; None where they play no part.
    """
    first = registered_default()
    picture = spec is None or _is_picture(spec)
    for name in sorted(backends(), key=lambda name: ((name != first) == picture, name)):
        try:
            kind = load_backend(name)
        except (PluginError, BackendNotFoundError):
            continue
        if kind.trains:
            yield kind


def _is_picture(spec: Spec) -> bool:
    return spec.is_image and spec.shape[0] <= _CHANNELS and min(spec.shape[1:]) >= _SIDE


def _tried(kind: type[Backend], classifier: Classifier, data: Data, run: Run) -> str | None:
    """Return why such a backend's lens can say nothing about these data, or None where it may."""
    try:
        # What does not suit is said in the choice.
        with quiet():
            lens = kind().fit(classifier, data, run)
    except XlensError as fault:
        return _first(fault)
    return (lens.unfit or lens.doubt) if isinstance(lens, EditingLens) else None


def _first(fault: Exception) -> str:
    return (str(fault) or type(fault).__name__).splitlines()[0].rstrip(".")
