"""Flip distance: how far in the code the classifier's decision is."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from xlens.classifier.margins import Classes, margin_over_rest, score_margin
from xlens.contracts.explainer import Explainer
from xlens.explaining.asking import asks
from xlens.fitted import Fitted, as_fitted
from xlens.nn.search import smallest_step

__all__ = ["FlipDistance", "flip_distance"]

_BATCH = 64
#: Points between a code and its counterfactual that are tried, and halvings of the interval found.
_POINTS, _HALVINGS = 16, 5
#: A search for the step ends at the goal, from which other batch sizes differ by rounding.
_ROUNDING = 1e-3


class FlipDistance(NamedTuple):
    """Flip distance ``(N,)``: how far along the code the decoding has to go until the classifier flips.

    Args:
        flip: ``(N,)`` distance in the code at which the classifier first predicts the contrast class; infinite
            where it never does.
        used: ``(N,)`` distance at which the counterfactual is.
        reached: ``(N,)`` bool, whether the classifier predicts the contrast class on the counterfactual's decoding,
            with at least the margin over the target class that is the median of real inputs of the contrast class
            (``spec.class_margins``). Where it puts no input of the data in that class, the median of the known
            margins stands in.
    """

    flip: Tensor
    used: Tensor
    reached: Tensor


def flip_distance(
    explainer: Explainer | Fitted, inputs: Any, *, target: Classes | None = None, contrast: Classes | None = None
) -> FlipDistance:
    """Flip distance ``(N,)``: how far in the code the classifier flips, and how far the counterfactual goes.

    Args:
        explainer: its lens decodes to inputs.
        inputs: ``(N, *S)``.
        target, contrast: as for ``explainer.explain``.

    Raises:
        UnsupportedError: the lens decodes to a hidden layer.
        DataError: wrong shape, or a class that does not exist.

    >>> from xlens.evaluation import flip_distance
    >>> found = flip_distance(explainer, images[:2])
    >>> found.flip.shape, found.used.shape, found.reached.dtype
    (torch.Size([2]), torch.Size([2]), torch.bool)
    """
    fitted = as_fitted(explainer, "flip_distance", "explainer", inputs)
    asks(fitted).require_decoder("flip_distance")
    with fitted.asking():
        source = fitted.inputs(inputs)
        moved = source.to(fitted.device)
        target, contrast = fitted.classes(moved, target, contrast, method="flip_distance")
        goals = fitted.spec.usual_margins().to(moved.device)[contrast, target]
        rows = zip(*(whole.split(_BATCH) for whole in (moved, target, contrast, goals)), strict=True)
        parts = [_distance(fitted, x, t, c, goal) for x, t, c, goal in rows]
    return FlipDistance(*(torch.cat(column).to(source.device) for column in zip(*parts, strict=True)))


def _distance(fitted: Fitted, inputs: Tensor, target: Tensor, contrast: Tensor, goal: Tensor) -> FlipDistance:
    classifier, lens = fitted.classifier, fitted.lens
    codes = lens.encode(inputs)
    end = lens.counterfactual(codes, target, contrast)

    def margin(rows: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        decoded = lens.decode(torch.lerp(codes[rows], end[rows], share.unsqueeze(1)))
        found = margin_over_rest(classifier(decoded), contrast[rows])
        return found, found > 0

    rungs = [index / _POINTS for index in range(_POINTS + 1)]
    share, found = smallest_step(margin, len(codes), rungs, _HALVINGS, codes.device)
    length = (end - codes).norm(dim=1)
    logits = classifier(lens.decode(end))
    sure = score_margin(logits, contrast, target) >= goal * (1 - _ROUNDING)
    reached = sure & (margin_over_rest(logits, contrast) > 0)
    return FlipDistance(torch.where(found, share * length, torch.inf), length, reached)
