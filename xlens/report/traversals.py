"""Traversals rendered ahead, because a report has no lens to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xlens._arguments import find_feature
from xlens._edit import directions_of
from xlens.errors import UnsupportedError
from xlens.explanation import Explanation
from xlens.plot.asked import probabilities

if TYPE_CHECKING:
    from xlens.contracts import Feature
    from xlens.explainer import LensExplainer

__all__ = ["Traversal", "render_traversals"]

_MOST = 6
_LENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
_VALUES = (-2.0, -1.0, 0.0, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Traversal:
    """One feature set to several values, for every input of an explanation.

    Args:
        feature: its name.
        steps: the T values.
        frames: ``(N, T, *S)`` the lens's decodings.
        scores: ``(N, T)`` f's score, as the explanation's, on each.
    """

    feature: str
    steps: tuple[float, ...]
    frames: Tensor
    scores: Tensor


def render_traversals(
    explainer: LensExplainer,
    explanation: Explanation,
    features: Sequence[str | int] | None = None,
    steps: Sequence[float] | None = None,
) -> tuple[Traversal, ...]:
    """Decode each input with one feature after the other set to several values.

    Args:
        explainer: the one that made the explanation.
        explanation: N inputs.
        features: names, also of directions, or positions; None takes the six class and attribute features that
            contribute most, or none where the lens does not decode to inputs.
        steps: the values; None takes lengths from 0 to 1.5 for a feature of several dimensions, and -2 to 2 for a
            direction and for a feature of one.

    Raises:
        OptionError: there is no such feature.
        UnsupportedError: features were named, and the lens does not decode to inputs.

    >>> from xlens.report import render_traversals
    >>> (one,) = render_traversals(explainer, explainer.explain(images[:2]))
    >>> one.feature, one.frames.shape
    ('evidence for class 1', torch.Size([2, 7, 1, 8, 8]))
    """
    chosen = _default(explainer, explanation) if features is None else features
    found = []
    for feature in chosen:
        name, width = _named(explainer, feature)
        values = tuple(map(float, steps)) if steps is not None else _LENGTHS if width > 1 else _VALUES
        try:
            frames = explainer.traverse(explanation.inputs, feature, values)
        except UnsupportedError:
            if features is not None:
                raise
            return ()
        scores = _scores(explainer, explanation, frames)
        found.append(Traversal(feature=name, steps=values, frames=frames, scores=scores))
    return tuple(found)


def _named(explainer: LensExplainer, feature: str | int) -> tuple[str, int]:
    """Return the name of a feature or a direction, as ``traverse`` understands it, and its width in the code."""
    if isinstance(feature, str) and feature in directions_of(explainer.lens):
        return feature, 1
    found = find_feature(explainer.features, feature, "report")
    return found.name, len(found.dims)


def _default(explainer: LensExplainer, explanation: Explanation) -> list[str]:
    known: dict[str, Feature] = {feature.name: feature for feature in explainer.features}
    weight = explanation.feature_contributions.abs().mean(0).tolist()
    ranked = sorted(zip(explanation.feature_names, weight, strict=True), key=lambda pair: -pair[1])
    return [name for name, _ in ranked if name in known and known[name].role != "nuisance"][:_MOST]


def _scores(explainer: LensExplainer, explanation: Explanation, frames: Tensor) -> Tensor:
    n, count = frames.shape[:2]
    logs = probabilities(explainer, frames.flatten(0, 1)).clamp_min(torch.finfo(torch.float32).tiny).log()
    target = explanation.target.cpu().repeat_interleave(count)
    contrast = explanation.contrast.cpu().repeat_interleave(count)
    rows = torch.arange(len(logs))
    return (logs[rows, target] - logs[rows, contrast]).view(n, count)
