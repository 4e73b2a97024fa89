"""Figures of a lens's codes: what their parts do to the classifier, what they know of factors, and whether restarts
agree."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from xlens import metrics
from xlens.contracts import SupportsInversion
from xlens.errors import DataError
from xlens.evaluation.suite import Score, Suite, of_all
from xlens.explaining.asking import asks
from xlens.fitted import Fitted
from xlens.metrics.disentanglement import factor_fault

__all__ = ["code_scores", "restart_scores"]

#: Draws of values, and of everything else, in the causal influence.
_VALUES, _OTHERS = 16, 32
#: Inputs that are inverted several times.
_FEW = 64
#: Share of the rows that the interpretability metric is fitted on.
_FITTED = 0.75


def code_scores(suite: Suite, fitted: Fitted, codes: Tensor, factors: Tensor | None) -> Iterator[Score]:
    """Judge what the parts of a code do to the classifier, and what they know of known factors."""
    yield from _influences(suite, fitted, codes)
    if factors is not None:
        yield from _factors(suite, codes, factors)


def _influences(suite: Suite, fitted: Fitted, codes: Tensor) -> Iterator[Score]:
    classify = asks(fitted).outcome(suite.asked.inputs)
    if isinstance(classify, str):
        suite.note(f"influence is left out: {classify}")
        return
    influence = metrics.causal_influence(
        classify,
        fitted.lens.decode,
        codes.to(fitted.device),
        [feature.dims for feature in fitted.lens.features],
        values=_VALUES,
        others=_OTHERS,
        seed=suite.asked.seed,
    )
    for feature, value in zip(fitted.lens.features, influence, strict=True):
        yield of_all(f"influence of {feature.name}", float(value))


def _factors(suite: Suite, codes: Tensor, factors: Tensor) -> Iterator[Score]:
    seed = suite.asked.seed
    # The figures hold the last rows out, and the user's may come class by class.
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    z, s = (values.detach().cpu().double()[order] for values in (codes, factors))
    faults = {j: factor_fault(column.numpy()) for j, column in enumerate(s.T)}
    for j, fault in faults.items():
        if fault:
            suite.note(f"factor {j} {fault} among these inputs, and counts for nothing")
    s = s[:, [j for j, fault in faults.items() if not fault]]
    if not s.shape[1]:
        return
    if z.shape[1] < 2:
        suite.note("MIG, SAP, DCI: not of a code of one dimension")
    else:
        yield of_all("MIG", metrics.mutual_information_gap(z, s), "higher")
        yield of_all("SAP", metrics.separated_attribute_predictability(z, s), "higher")
        found = metrics.dci(z, s, seed=seed)
        for name in ("disentanglement", "completeness", "informativeness"):
            yield of_all(f"DCI {name}", getattr(found, name), "higher")
    fitted = int(_FITTED * len(z))
    try:
        told = metrics.interpretability(
            z[:fitted], s[:fitted], test_codes=z[fitted:], test_side_info=s[fitted:], seed=seed
        )
    except DataError as fault:
        suite.note(f"interpretability is left out: {fault}")
        return
    yield of_all("interpretability", float(told.probability.mean()), "higher")


def restart_scores(suite: Suite, fitted: Fitted, restarts: int, steps: int) -> Iterator[Score]:
    """Judge how alike several inversions of the first inputs are, where the lens can search."""
    if not isinstance(fitted.lens, SupportsInversion) or asks(fitted).shows_real_inputs:
        return
    generator = torch.Generator(fitted.device).manual_seed(suite.asked.seed)
    few = suite.asked.inputs[:_FEW].to(fitted.device)
    codes = fitted.lens.invert(few, steps=steps, restarts=restarts, generator=generator)
    with torch.no_grad():
        decoded = torch.stack([fitted.lens.decode(code) for code in codes])
    cosine, alike = metrics.restart_stability(codes, decoded, suite.span)
    index = torch.arange(len(few))
    yield Score("restarts: cosine of codes", cosine, "higher", index)
    yield Score("restarts: SSIM of images", alike, "higher", index)
