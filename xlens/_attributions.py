"""The attributions that an explanation can carry: xlens's own, and Captum's by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from xlens.attr.captum_methods import captum_attribution, captum_names, check_captum, promises_completeness
from xlens.attr.curve import Curve, Segment
from xlens.attr.edit import Edit
from xlens.attr.integral import path_integral
from xlens.attr.paths import CodePath, code_path, guided
from xlens.attr.shift import latent_shift
from xlens.classifier import Classifier
from xlens.contracts import Lens
from xlens.errors import DataError, did_you_mean
from xlens.nn.features import score_margin

__all__ = ["OWN", "Attribution", "Question", "References", "Request", "attribute", "check_attributions"]

#: xlens's own attributions, and what they are in a few words.
OWN = {
    "lig": "the line integral along the generative path",
    "ig_counterfactual": "the line integral along the straight line from the counterfactual",
    "idgi": "important-direction gradients along the generative path",
    "lig_paper": "equation 7 of Dravid et al. (2022) as printed, not complete",
    "guided_ig": "the line integral along the pixel path that f responds to least",
    "ig_ensemble": "the mean over the counterfactual and the nearest real inputs of the contrast class",
    "latent_shift": "mean absolute change along the gradient in codes",
}
#: Whose sum is the score difference, or the explanation does not hold.
_COMPLETE = ("lig", "ig_counterfactual", "idgi", "guided_ig", "ig_ensemble")
_NEAREST = 4


@dataclass(frozen=True)
class References:
    """Real inputs to explain against.

    Args:
        inputs: ``(M, *S)``.
        classes: ``(M,)`` f's predictions on them.
    """

    inputs: Tensor
    classes: Tensor

    def nearest(self, points: Tensor, contrast: Tensor, k: int) -> Tensor:
        """Return the `k` inputs of each row's contrast class that are nearest to its point, ``(N, k, *S)``.

        Raises:
            DataError: there are fewer of a class that is needed.
        """
        chosen = []
        for point, wanted in zip(points, contrast.tolist(), strict=True):
            candidates = self.inputs[self.classes == wanted]
            if len(candidates) < k:
                raise DataError(
                    "explain: too few references of a contrast class",
                    given=f"{len(candidates)} that f puts in class {wanted}",
                    allowed=f"{k} or more for 'ig_ensemble'",
                    do="pass more real inputs as references",
                )
            distance = (candidates - point).flatten(1).norm(dim=1)
            chosen.append(candidates[distance.argsort()[:k]])
        return torch.stack(chosen)


@dataclass(frozen=True)
class Request:
    """What is asked of each batch.

    Args:
        attributions: name -> Captum's options for it (empty for xlens's own).
        n_steps, tolerance: of path integrals.
        batch, code_batch: points in flight, of f alone and of f behind the generator.
        path: the path between the codes.
        references: real inputs, where there are any.
    """

    attributions: Mapping[str, Mapping[str, Any]]
    n_steps: int
    tolerance: float
    batch: int
    code_batch: int
    path: CodePath
    references: References | None = None


@dataclass(frozen=True)
class Attribution:
    """One attribution of a batch.

    Args:
        values: ``(N, *S)``.
        delta: ``(N,)`` sum minus what it should be, or None for a method that promises no sum.
        total: ``(N,)`` what it should sum to, where the explanation does not hold unless it does; else None.
    """

    values: Tensor
    delta: Tensor | None = None
    total: Tensor | None = None


@dataclass(frozen=True)
class Question:
    """One batch with all that is known of it."""

    classifier: Classifier
    lens: Lens
    edit: Edit
    target: Tensor
    contrast: Tensor
    request: Request
    span: float

    @cached_property
    def codes(self) -> Curve:
        """The path between the codes."""
        z0, z = self.edit.counterfactual_codes, self.edit.codes
        return code_path(self.request.path, z0, z, self.lens.decode, self.score, self.request.code_batch)

    @cached_property
    def curve(self) -> Curve:
        """What that path becomes on the inputs; with ``path="pixel"``, the straight line."""
        if self.request.path == "pixel":
            return Segment(self.edit.start, self.edit.end)
        return self.edit.along(self.codes)

    def score(self, points: Tensor, rows: Tensor) -> Tensor:
        """Return f_c of points ``(M, *S)`` that belong to these rows."""
        return score_margin(self.classifier(points), self.target[rows], self.contrast[rows])

    def integrate(self, curve: Curve, integrator: str = "lig", score: Any = None) -> tuple[Tensor, Tensor]:
        """Return a path integral and its delta; of another score than f_c where one is given."""
        return path_integral(
            score or self.score,
            curve,
            len(self.target),
            device=self.target.device,
            n_steps=self.request.n_steps,
            tolerance=self.request.tolerance,
            internal_batch_size=self.request.code_batch if score else self.request.batch,
            integrator=integrator,
        )


class _Margin(nn.Module):
    """f_c as a module that holds the model, as Captum's methods of layers and hooks want it."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.model = classifier.model
        self._classifier = [classifier]

    def forward(self, points: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        (classifier,) = self._classifier
        return score_margin(classifier(points), target, contrast)


def check_attributions(attributions: Any) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Return the attributions by name with their options, and what is wrong with them."""
    if isinstance(attributions, Mapping):
        wanted = dict(attributions)
    elif isinstance(attributions, str) or not isinstance(attributions, Sequence):
        message = "attributions must be a mapping of names to options or a sequence of names"
        return {}, [f"{message}, got {attributions!r}"]
    else:
        wanted = {name: {} for name in attributions}
    faults = []
    known = (*OWN, *captum_names()) if set(wanted) - set(OWN) else tuple(OWN)
    for name, options in wanted.items():
        if not isinstance(options, Mapping):
            faults.append(f"the options of {name!r} must be a mapping, got {options!r}")
        elif name in OWN and options:
            faults.append(f"{name!r} takes no options of its own, got {', '.join(options)}")
        elif name not in OWN:
            wrong = check_captum(str(name), options)
            if wrong and name not in known:
                wrong[0] += f".{did_you_mean(str(name), known)} Known: {', '.join(known)}"
            faults += wrong
    return wanted, faults


def attribute(question: Question, name: str) -> Attribution:
    """Attribute the score difference of one batch to its pixels."""
    edit = question.edit
    straight = Segment(edit.start, edit.end)
    if name == "ig_ensemble":
        return _ensemble(question, straight)
    if name == "latent_shift":
        return _shifted(question)
    if name == "guided_ig":
        found = question.integrate(guided(edit.start, edit.end, question.score, batch=question.request.batch))
    elif name == "ig_counterfactual":
        found = question.integrate(straight)
    elif name in OWN:
        found = question.integrate(question.curve, name)
    else:
        return _captum(question, name)
    return Attribution(*found, _difference(question) if name in _COMPLETE else None)


def _ensemble(question: Question, straight: Segment) -> Attribution:
    """Return the mean of integrals from several counterfactuals, as expected gradients take it over baselines."""
    references = question.request.references
    real = references.nearest(straight.start, question.contrast, _NEAREST).unbind(1)
    starts = (straight.start, *real)
    parts = [question.integrate(Segment(start, straight.end)) for start in starts]
    values, deltas = (torch.stack(column).mean(0) for column in zip(*parts, strict=True))
    return Attribution(values, deltas, values.flatten(1).sum(1) - deltas)


def _shifted(question: Question) -> Attribution:
    rows = torch.arange(len(question.target), device=question.target.device)
    heat = []
    for part in rows.split(question.request.code_batch):
        shift = latent_shift(
            lambda points, part=part: question.score(points, part),
            question.lens.decode,
            question.edit.codes[part],
            span=question.span,
        )
        heat.append(shift.heatmap)
    return Attribution(torch.cat(heat))


def _captum(question: Question, name: str) -> Attribution:
    values = captum_attribution(
        name,
        _Margin(question.classifier),
        question.edit.end,
        question.edit.start,
        (question.target, question.contrast),
        options=question.request.attributions[name],
        batch=question.request.batch,
    )
    if not promises_completeness(name) or "baselines" in question.request.attributions[name]:
        return Attribution(values)
    return Attribution(values, values.double().flatten(1).sum(1) - _difference(question))


def _difference(question: Question) -> Tensor:
    rows = torch.arange(len(question.target), device=question.target.device)
    ends = []
    for points in (question.edit.end, question.edit.start):
        size = question.request.batch
        parts = zip(points.split(size), rows.split(size), strict=True)
        ends.append(torch.cat([question.score(p, r) for p, r in parts]))
    return ends[0] - ends[1]
