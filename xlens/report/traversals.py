"""Traversals rendered ahead, because a report has no lens to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.codes.moves import directions_of, find_feature
from xlens.codes.variants import traverse
from xlens.contracts.explainer import Explainer
from xlens.contracts.lens import Feature
from xlens.deprecated import renamed, renamed_fields
from xlens.errors import UnsupportedError
from xlens.explanation import Explanation
from xlens.fitted import Fitted, as_fitted

__all__ = ["Traversal", "render_traversals"]

_MOST = 6
_LENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
_VALUES = (-2.0, -1.0, 0.0, 1.0, 2.0)


@renamed_fields(steps="values")
@dataclass(frozen=True, kw_only=True, eq=False)
class Traversal:
    """One feature set to several values, for every input of an explanation.

    Args:
        feature: its name.
        values: the T values.
        frames: ``(N, T, *S)`` the lens's decodings.
        scores: ``(N, T)`` the score, as the explanation's, on each.
    """

    feature: str
    values: tuple[float, ...]
    frames: Tensor
    scores: Tensor


@renamed(steps="values")
def render_traversals(
    explainer: Explainer | Fitted,
    explanation: Explanation,
    features: Sequence[str | int] | None = None,
    values: Sequence[float] | None = None,
) -> tuple[Traversal, ...]:
    """Decode each input with one feature after the other set to several values.

    Args:
        explainer: the one that made the explanation.
        explanation: N inputs.
        features: names, also of directions, or positions; None takes the six class and attribute features that
            contribute most, or none where the lens does not decode to inputs.
        values: the values; None takes lengths from 0 to 1.5 for a feature of several dimensions, and -2 to 2 for a
            direction and for a feature of one.

    Raises:
        OptionError: there is no such feature.
        UnsupportedError: features were named, and the lens does not decode to inputs.

    >>> from xlens.report import render_traversals
    >>> (one,) = render_traversals(explainer, explainer.explain(images[:2]))
    >>> one.feature, one.frames.shape
    ('evidence for class 1', torch.Size([2, 7, 1, 8, 8]))
    """
    fitted = as_fitted(explainer, "report", "explainer", explanation.inputs)
    chosen = _default(fitted, explanation) if features is None else features
    found = []
    for feature in chosen:
        name, width = _named(fitted, feature)
        points = tuple(map(float, values)) if values is not None else _LENGTHS if width > 1 else _VALUES
        try:
            frames = traverse(fitted, explanation.inputs, feature, points, None, "none")
        except UnsupportedError:
            if features is not None:
                raise
            return ()
        scores = _scores(fitted, explanation, frames)
        found.append(Traversal(feature=name, values=points, frames=frames, scores=scores))
    return tuple(found)


def _named(fitted: Fitted, feature: str | int) -> tuple[str, int]:
    """Return the name of a feature or a direction, as ``traverse`` understands it, and its width in the code."""
    if isinstance(feature, str) and feature in directions_of(fitted.lens):
        return feature, 1
    found = find_feature(fitted.lens.features, feature, "report")
    return found.name, len(found.dims)


def _default(fitted: Fitted, explanation: Explanation) -> list[str]:
    known: dict[str, Feature] = {feature.name: feature for feature in fitted.lens.features}
    weight = explanation.feature_contributions.abs().mean(0).tolist()
    ranked = sorted(zip(explanation.feature_names, weight, strict=True), key=lambda pair: -pair[1])
    return [name for name, _ in ranked if name in known and known[name].role != "nuisance" and known[name].taught][
        :_MOST
    ]


def _scores(fitted: Fitted, explanation: Explanation, frames: Tensor) -> Tensor:
    n, count = frames.shape[:2]
    logs = fitted.probabilities(frames.flatten(0, 1)).clamp_min(torch.finfo(torch.float32).tiny).log()
    target = explanation.target.cpu().repeat_interleave(count)
    contrast = explanation.contrast.cpu().repeat_interleave(count)
    rows = torch.arange(len(logs))
    return (logs[rows, target] - logs[rows, contrast]).view(n, count)
