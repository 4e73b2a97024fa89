"""Checks of what an evaluation is asked, and its inputs in the forms that users have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xlens.classifier import Classifier
from xlens.data import as_data, as_inputs
from xlens.errors import DataError, OptionError
from xlens.explainer import LensExplainer

__all__ = [
    "check_shapes",
    "chosen_inputs",
    "named_explainers",
    "named_oracles",
    "number_faults",
    "rows_of",
]


def named_explainers(explainers: Any) -> dict[str, LensExplainer]:
    """Return explainers by name, and refuse what cannot be compared."""
    if isinstance(explainers, Mapping):
        named = {str(name): one for name, one in explainers.items()}
    else:
        listed = list(explainers) if isinstance(explainers, list | tuple) else [explainers]
        names = [one.backend.name if isinstance(one, LensExplainer) else "" for one in listed]
        named = {
            name if names.count(name) == 1 else f"{name} {names[: i + 1].count(name)}": one
            for i, (name, one) in enumerate(zip(names, listed, strict=True))
        }
    if not named or not all(isinstance(one, LensExplainer) for one in named.values()):
        raise OptionError(
            "evaluate: explainers cannot be judged",
            given=", ".join(type(one).__name__ for one in named.values()) or "none",
            allowed="what xlens.fit or xlens.load returned, one, a sequence, or a mapping of names to them",
        )
    first, *others = named.values()
    prints = first.classifier.fingerprint()
    for name, one in named.items():
        if one in others and (one.classifier.fingerprint() != prints or one.spec.shape != first.spec.shape):
            raise OptionError(
                f"evaluate: the explainer {name!r} is around another classifier than the first",
                do="evaluate lenses of different classifiers one by one",
            )
    return named


def number_faults(
    n: Any, smoothing: Any, share: Any, steps: Any, restarts: Any, confidence: Any, seed: Any
) -> list[str]:
    """Return what is wrong with the numbers, in words."""
    faults = []
    for name, value, least in (("n", n, 1), ("steps", steps, 1), ("seed", seed, 0), ("restarts", restarts, 0)):
        if name == "n" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
            faults.append(f"{name} must be an int >= {least}, got {value!r}")
    if restarts == 1:
        faults.append("restarts must be 0, or 2 and more to compare")
    for name, value, low, high in (
        ("smoothing", smoothing, 0, 100), ("share", share, 1e-9, 1), ("confidence", confidence, 0.01, 0.999),
    ):  # fmt: skip
        if not isinstance(value, int | float) or not low <= value <= high:
            faults.append(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
    return faults


def chosen_inputs(data: Any, n: int | None, seed: int, first: LensExplainer) -> tuple[Tensor, Tensor]:
    """Return the inputs to explain and their positions."""
    source = as_data(data)
    inputs = torch.cat([batch.inputs for batch in source.batches()])
    index = torch.arange(len(inputs))
    if n is not None and n < len(inputs):
        generator = torch.Generator().manual_seed(seed)
        index = torch.randperm(len(inputs), generator=generator)[:n].sort().values
    return as_inputs(inputs[index], first.spec.shape), index


def rows_of(name: str, values: Any, index: Tensor, count: int) -> Tensor:
    """Return the rows of masks and others that belong to the chosen inputs."""
    table = torch.as_tensor(values)
    if table.dim() < 1 or len(table) <= int(index.max()):
        raise DataError(
            f"evaluate: {name} does not fit the data",
            given=f"{len(table) if table.dim() else 0} rows",
            allowed=f"a row for each input, {int(index.max()) + 1} at least",
        )
    return table[index]


def check_shapes(rows: Mapping[str, Tensor], inputs: Tensor) -> None:
    """Refuse masks and others that have another shape than the inputs ask for."""
    spatial = inputs.shape[2:] if inputs.dim() > 2 else inputs.shape[1:]
    wanted = {
        "masks": ((len(inputs), 1, *spatial),) if inputs.dim() > 2 else (tuple(inputs.shape),),
        "clean": (tuple(inputs.shape),),
    }
    for name, shapes in wanted.items():
        if name in rows and tuple(rows[name].shape) not in shapes:
            raise DataError(f"evaluate: {name} does not fit", given=tuple(rows[name].shape), allowed=shapes[0])
    if "factors" in rows and rows["factors"].dim() != 2:
        raise DataError("evaluate: factors does not fit", given=tuple(rows["factors"].shape), allowed="(N, A)")


def named_oracles(oracle: Any) -> Mapping[str, Any]:
    """Return the judges by name."""
    if oracle is None:
        return {}
    named = oracle if isinstance(oracle, Mapping) else {"oracle": oracle}
    wrong = [name for name, model in named.items() if not isinstance(model, nn.Module | Classifier)]
    if wrong:
        raise OptionError(
            "evaluate: oracle is no classifier", given=", ".join(map(str, wrong)),
            allowed="an nn.Module or xlens.Classifier, or a mapping of names to them",
        )  # fmt: skip
    return {str(name): model for name, model in named.items()}
