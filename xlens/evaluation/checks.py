"""Checks of what an evaluation is asked, before anything is explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier, as_classifier
from xlens.contracts.additions import MapMetric
from xlens.contracts.numbers import is_number, whole
from xlens.contracts.options import make
from xlens.counterfactual.carry import Carry
from xlens.errors import DataError, OptionError, did_you_mean
from xlens.evaluation.contenders import Asked, Contender
from xlens.explaining.asking import asks
from xlens.explaining.request import lens_faults as attribution_faults
from xlens.fitted import Fitted, as_fitted
from xlens.registry.added import additions, load_addition

__all__ = [
    "added_metrics",
    "check_nearest",
    "check_oracles",
    "check_shapes",
    "lens_faults",
    "name_faults",
    "named_explainers",
    "named_oracles",
    "number_faults",
    "oracle_of",
    "same_network",
]


def named_explainers(explainers: Any, data: Any) -> dict[str, Fitted]:
    """Return the records of explainers by name, on their data, and refuse what cannot be compared."""
    if isinstance(explainers, Mapping):
        named = {
            str(name): as_fitted(one, "evaluate", f"explainers[{name!r}]", data) for name, one in explainers.items()
        }
    else:
        listed = list(explainers) if isinstance(explainers, list | tuple) else [explainers]
        records = [as_fitted(one, "evaluate", "an explainer", data) for one in listed]
        names = [one.backend.name for one in records]
        named = {
            name if names.count(name) == 1 else f"{name} {names[: i + 1].count(name)}": one
            for i, (name, one) in enumerate(zip(names, records, strict=True))
        }
    if not named:
        raise OptionError(
            "evaluate: explainers cannot be judged",
            given="none",
            allowed="what xlens.fit or xlens.load returned, one, a sequence, or a mapping of names to them",
        )
    first, *others = named.values()
    for name, one in list(named.items())[1:]:
        if not same_network(one.classifier, first.classifier) or one.spec.shape != first.spec.shape:
            raise OptionError(
                f"evaluate: the explainer {name!r} is around another classifier than the first",
                do="evaluate lenses of different classifiers one by one",
            )
    return named


def same_network(one: Classifier, other: Classifier) -> bool:
    """Whether two classifiers have the same weights and outputs, whichever hidden layer is named."""
    prints = [each.replaced(layer=None).fingerprint() for each in (one, other)]
    return one.model is other.model and one.reading == other.reading or prints[0] == prints[1]


def name_faults(named: Mapping[str, Fitted], contenders: Sequence[Contender]) -> list[str]:
    """Return, in words, which names stand for two things in the table."""
    rows = [*named, *(one.name for one in contenders if not one.needs_lens)]
    rows += [f"{name}: {one.name}" for name in named for one in contenders if one.needs_lens]
    twice = [name for name, count in Counter(rows).items() if count > 1]
    return [f"{name!r} would be the name of two things; call the explainer something else" for name in twice]


def lens_faults(named: Mapping[str, Fitted], contenders: Sequence[Contender], carry: Carry | None) -> list[str]:
    """Return, in words, what was asked that lenses on a hidden layer cannot do."""
    asked = {one.method: one.options for one in contenders if one.needs_lens}
    return [
        f"{name!r}: {fault}"
        for name, one in named.items()
        for fault in (*asks(one).faults(asked, carry, "linear"), *attribution_faults(one.lens, asked))
    ]


def added_metrics(wanted: Any) -> tuple[tuple[MapMetric, ...], list[str]]:
    """Return third parties' figures of maps by name, and what is wrong with what was asked for."""
    if isinstance(wanted, str) or not hasattr(wanted, "__iter__"):
        return (), [f"metrics must be a mapping of names to options or a sequence of names, got {wanted!r}"]
    named = dict(wanted) if isinstance(wanted, Mapping) else {name: {} for name in wanted}
    found, faults = [], []
    known = additions("metric") if named else ()
    for name, options in named.items():
        if name not in known:
            near = did_you_mean(str(name), known)
            faults.append(f"unknown metric {name!r}.{near} Installed: {', '.join(known) or 'none'}")
            continue
        try:
            found.append(make(load_addition(MapMetric, name), options))
        except OptionError as fault:
            faults.append(f"metric {name!r}: {fault}")
    return tuple(found), faults


def number_faults(
    n: Any, smoothing: Any, share: Any, points: Any, restarts: Any, confidence: Any, seed: Any
) -> list[str]:
    """Return what is wrong with the numbers, in words."""
    faults = []
    for name, value, least in (("n", n, 1), ("points", points, 1), ("seed", seed, 0), ("restarts", restarts, 0)):
        if name == "n" and value is None:
            continue
        if (number := whole(value)) is None or not least <= number < 2**63:
            faults.append(f"{name} must be an int >= {least}, got {value!r}")
    if restarts == 1:
        faults.append("restarts must be 0, or 2 and more to compare")
    for name, value, low, high in (
        ("smoothing", smoothing, 0, 100), ("share", share, 1e-9, 1), ("confidence", confidence, 0.01, 0.999),
    ):  # fmt: skip
        if not is_number(value) or not low <= value <= high:
            faults.append(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
    return faults


def check_shapes(rows: Mapping[str, Tensor], inputs: Tensor) -> None:
    """Refuse masks and others that have another shape than the inputs ask for, or hold no numbers."""
    spatial = inputs.shape[2:] if inputs.dim() > 2 else inputs.shape[1:]
    wanted = {
        "masks": ((len(inputs), 1, *spatial),) if inputs.dim() > 2 else (tuple(inputs.shape),),
        "clean": (tuple(inputs.shape),),
    }
    for name, shapes in wanted.items():
        if name not in rows:
            continue
        if tuple(rows[name].shape) not in shapes:
            raise DataError(f"evaluate: {name} does not fit", given=tuple(rows[name].shape), allowed=shapes[0])
        if not bool(rows[name].isfinite().all()):
            raise DataError(f"evaluate: {name} is not finite", given="NaN or Inf", do="repair or drop such inputs")
    if "factors" in rows and (rows["factors"].dim() != 2 or rows["factors"].is_complex()):
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


def oracle_of(model: nn.Module | Classifier, classifier: Classifier) -> Classifier:
    """Return a judge, who is asked about the same label or threshold as the classifier, unless told otherwise."""
    asked = classifier.label is not None or classifier.threshold is not None
    if isinstance(model, Classifier) or not asked:
        return as_classifier(model)
    return classifier.replaced(model=model, layer=None)


def check_oracles(oracles: Mapping[str, Classifier], asked: Asked) -> None:
    """Refuse judges, which are frozen by the caller, that tell other classes than the classifier.

    Raises:
        OptionError: another number of classes.
    """
    for name, oracle in oracles.items():
        with torch.no_grad():
            count = oracle(asked.inputs[:1]).shape[1]
        if count != asked.spec.num_classes:
            raise OptionError(
                f"evaluate: the oracle {name!r} tells other classes than the classifier",
                given=f"{count} classes",
                allowed=f"{asked.spec.num_classes}, in the classifier's order",
                do="wrap it in a module that returns the logits of the classifier's classes, in their order",
            )


def check_nearest(contenders: Sequence[Contender], asked: Asked) -> None:
    """Refuse references that hold none of a contrast class, where a baseline is looked for among them.

    Raises:
        OptionError: there are none.
    """
    if asked.references is None or not any(one.baseline == "nearest" for one in contenders):
        return
    lacking = ~torch.isin(asked.contrast, asked.references[1])
    if bool(lacking.any()):
        row = int(lacking.nonzero()[0, 0])
        raise OptionError(
            "evaluate: references hold none of a contrast class",
            given=f"class {int(asked.contrast[row])}, of input {row}",
            do="pass more real inputs as references",
        )
