"""New inputs drawn from a lens: of a class, by so much, and with named attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from xlens.classifier.margins import default_contrast, score_margin
from xlens.codes.moves import traversed
from xlens.contracts.numbers import check_count, is_number
from xlens.errors import OptionError, XlensWarning, warn
from xlens.explaining.asking import asks
from xlens.fitted import Fitted
from xlens.nn.search import smallest_step

__all__ = ["Amount", "sample"]

#: How much of the evidence a sample has: all of it is 1, none 0.
Amount = float | Literal["boundary"]
#: Shares of the way at which the classifier's boundary is looked for, and halvings between two of them.
_RUNGS, _HALVINGS = (0.0, 0.25, 0.5, 0.75, 1.0), 14


def sample(
    fitted: Fitted,
    n: int,
    target: Any,
    seed: int,
    amount: Amount = 1.0,
    attributes: Mapping[str, float] | None = None,
) -> Tensor:
    """Return `n` new inputs of one class ``(n, *S)``; arguments as for ``explainer.sample``."""
    lens = fitted.require("sample")
    _check(amount, attributes)
    check_count("sample", n)
    generator = fitted.generator(seed)
    classes = _classes(fitted, int(n), target)
    with fitted.asking():
        drawn: Tensor | None = None
        for chosen in classes.unique().tolist():
            rows = (classes == chosen).nonzero()[:, 0]
            of_class = lens.sample(len(rows), int(chosen), generator)
            drawn = of_class.new_zeros(int(n), *of_class.shape[1:]) if drawn is None else drawn
            drawn[rows] = of_class
        found = drawn if drawn is not None else torch.empty(0)
        if attributes:
            asks(fitted).require_decoder("sample(attributes=...)")
            codes = fitted.encode(found)
            for name, value in attributes.items():
                values = torch.tensor([float(value)], device=codes.device, dtype=codes.dtype)
                codes = traversed(fitted.lens, codes, name, values, method="sample")[:, 0]
            found = fitted.lens.decode(codes)
        return found if amount == 1 else _lessened(fitted, found, classes, amount)


def _lessened(fitted: Fitted, drawn: Tensor, classes: Tensor, amount: Amount) -> Tensor:
    """Return samples with a part of their evidence: on the way from their counterfactuals to them."""
    asks(fitted).require_decoder("sample(amount=...)")
    lens, classifier = fitted.lens, fitted.classifier
    codes = fitted.encode(drawn)
    contrast = default_contrast(classifier(lens.decode(codes)), classes, lens.reference_class)
    start = lens.counterfactual(codes, classes, contrast)
    if amount != "boundary":
        return lens.decode(torch.lerp(start, codes, float(amount)))

    def between(rows: Tensor, share: Tensor) -> Tensor:
        return lens.decode(torch.lerp(start[rows], codes[rows], share.to(codes.dtype).unsqueeze(1)))

    def over(rows: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        margin = score_margin(classifier(between(rows, share)), classes[rows], contrast[rows])
        return margin, margin >= 0

    share, reached = smallest_step(over, len(codes), _RUNGS, _HALVINGS, codes.device)
    # Where none of the evidence is enough for the class, or all of it is not, there is no boundary on the way.
    off = int((~reached | (share == 0)).sum())
    if off:
        warn(
            f"sample: {off} of {len(codes)} samples are not at the boundary: the classifier decides alike with "
            "none of their evidence and with all of it. They are the end that is nearer; draw more and keep the "
            "others, or fit longer",
            XlensWarning,
        )
    return between(torch.arange(len(codes), device=codes.device), share)


def _classes(fitted: Fitted, n: int, target: Any) -> Tensor:
    """Return the class of each sample ``(n,)``; every class in turn where none is named."""
    if target is None:
        return torch.arange(n, device=fitted.device) % fitted.spec.num_classes
    return fitted.class_of("sample", "target", target, 1).expand(n)


def _check(amount: Any, attributes: Any) -> None:
    faults = []
    if amount != "boundary" and not (is_number(amount) and 0 <= amount <= 1):
        faults.append(f"amount must be a number from 0 to 1, or 'boundary', got {amount!r}")
    if attributes is not None:
        named = isinstance(attributes, Mapping) and all(map(is_number, attributes.values()))
        if not named:
            faults.append(f"attributes must be a dict of names and finite numbers, got {attributes!r}")
    if faults:
        raise OptionError("sample: " + "; ".join(faults))
