"""From an edit to an explanation: attributions, path and the figures that judge them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xlens._attributions import FEATURE_MAPS, Attribution, Question, Request, attribute
from xlens._feature_maps import feature_maps
from xlens.attr.edit import Carry, Edit, make_edit
from xlens.attr.memory import points_in_flight
from xlens.errors import DataError
from xlens.explanation import Explanation, Fidelity
from xlens.metrics.fidelity import monotone_share, ssim
from xlens.nn.features import score_margin

if TYPE_CHECKING:
    from xlens.explainer import LensExplainer

__all__ = [
    "FRAMES",
    "explain_batch",
    "finite_or_refuse",
    "in_flight",
    "join",
    "not_local",
    "problems_of",
    "shared_fields",
]

#: Frames of a path that are shown.
FRAMES = 11
#: Above this share of the lens's whole change, and of the image's area, an edit is not local.
_LOCAL = 0.6
_LOCAL_AREA = 0.2
#: A reconstruction on which f's probability is further off does not stand for the input.
_PROBABILITY_GAP = 0.25


def in_flight(
    explainer: LensExplainer, inputs: Tensor, size: int | None, memory_budget: int | None
) -> tuple[int, int]:
    """Return how many points fit at once: of f alone, and of f behind the generator."""
    if size is not None:
        return size, size
    classifier, lens, on_layer = explainer.classifier, explainer.lens, explainer.on_layer
    codes = lens.encode(inputs[:1])

    def gradient(points: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(logits(points).sum(), points)[0]

    def of_codes(points: Tensor) -> Tensor:
        decoded = lens.decode(points)
        return classifier.tail(decoded, inputs[:1]) if on_layer else classifier(decoded)

    def on_the_path() -> Tensor:
        if on_layer:
            return gradient(inputs[:1], lens.encode)
        # The generator runs without a graph before f runs with one.
        return gradient(lens.decode(codes), classifier)

    batch = points_in_flight(on_the_path, inputs.device, memory_budget)
    return batch, points_in_flight(lambda: gradient(codes, of_codes), inputs.device, memory_budget)


def explain_batch(
    explainer: LensExplainer,
    inputs: Tensor,
    target: Tensor,
    contrast: Tensor,
    carry: Carry,
    request: Request,
) -> Explanation:
    """Explain one batch ``(N, *S)`` that lies on the lens's device, inside the frozen context."""
    classifier, lens, spec = explainer.classifier, explainer.lens, explainer.spec
    edit = make_edit(classifier, lens, spec, explainer.mask, inputs, target, contrast, carry)
    finite_or_refuse(
        {
            "code": edit.codes,
            "counterfactual code": edit.counterfactual_codes,
            "reconstruction": edit.reconstruction,
            "decoded counterfactual": edit.decoded,
        }
    )
    span = max(spec.maximum) - min(spec.minimum)
    question = Question(classifier, lens, edit, target, contrast, request, span)
    found: dict[str, Attribution] = {}
    for name in request.attributions:
        found |= feature_maps(question) if name == FEATURE_MAPS else {name: attribute(question, name)}
    per_code, code_delta = question.integrate(
        question.codes,
        score=lambda points, rows: question.score(lens.decode(points), rows),
        batch=request.code_batch,
    )
    path, path_scores = _frames(question)
    logits = {
        "inputs": classifier(inputs),
        "reconstruction": classifier(edit.reconstruction),
        "start": classifier(edit.start),
        "decoded": classifier(edit.decoded),
    }
    margins = {name: score_margin(values, target, contrast) for name, values in logits.items()}
    fidelity = _fidelity(edit, span, logits, margins, path_scores, contrast)
    incomplete = {
        name: (one.delta.float(), one.total.float().abs()) for name, one in found.items() if one.total is not None
    }
    decoded_difference = (margins["reconstruction"] - margins["decoded"]).abs()
    incomplete["feature_contributions"] = (code_delta.float(), decoded_difference)
    already = logits["inputs"].argmax(1) == contrast
    problems = problems_of(fidelity, margins, incomplete, already, request.tolerance)
    return Explanation(
        inputs=inputs,
        reconstruction=edit.reconstruction,
        edit=edit.start - inputs,
        counterfactual=edit.start,
        mask=edit.mask,
        target=target,
        contrast=contrast,
        scores=margins["reconstruction"] if carry == "none" else margins["inputs"],
        reconstruction_scores=margins["reconstruction"],
        counterfactual_scores=margins["start"],
        attributions={name: one.values.detach() for name, one in found.items()},
        convergence_delta={name: one.delta.float() for name, one in found.items() if one.delta is not None},
        path=path,
        path_scores=path_scores,
        codes=edit.codes,
        counterfactual_codes=edit.counterfactual_codes,
        fidelity=fidelity,
        **shared_fields(explainer, per_code, problems),
    )


def shared_fields(
    explainer: LensExplainer, per_code: Tensor, problems: tuple[tuple[str, ...], ...]
) -> dict[str, Any]:
    """Return the fields that any explanation fills in alike, from what each dimension contributes ``(N, d)``."""
    spec, features = explainer.spec, explainer.lens.features
    return {
        "code_attributions": per_code.detach(),
        "feature_names": tuple(feature.name for feature in features),
        "feature_contributions": torch.stack([per_code[:, list(f.dims)].sum(1) for f in features], 1).detach(),
        "trustworthy": torch.tensor([not rows for rows in problems], device=per_code.device),
        "problems": problems,
        "class_names": explainer.class_names,
        "data_range": (min(spec.minimum), max(spec.maximum)),
        "channel_ranges": tuple(zip(spec.minimum, spec.maximum, strict=True)),
    }


def finite_or_refuse(made: Mapping[str, Tensor]) -> None:
    """Refuse a lens that makes NaN or infinity, before its codes are integrated."""
    broken = [name for name, values in made.items() if not bool(values.isfinite().all())]
    if broken:
        raise DataError(
            f"explain: what the lens makes is not finite: {', '.join(broken)}",
            do="check the inputs' range; if the lens was fitted on others, fit it again",
        )


def join(parts: Sequence[Explanation]) -> Explanation:
    """Join explanations of consecutive batches into one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    joined = {}
    for field in dataclasses.fields(Explanation):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], Tensor):
            joined[field.name] = torch.cat(values)
        elif isinstance(values[0], Fidelity):
            names = [f.name for f in dataclasses.fields(Fidelity)]
            joined[field.name] = Fidelity(**{k: torch.cat([getattr(v, k) for v in values]) for k in names})
        elif isinstance(values[0], dict):
            joined[field.name] = {k: torch.cat([value[k] for value in values]) for k in values[0]}
        elif field.name == "problems":
            joined[field.name] = tuple(row for value in values for row in value)
        else:
            joined[field.name] = getattr(first, field.name)
    return Explanation(**joined)


def _frames(question: Question) -> tuple[Tensor, Tensor]:
    """Return frames along the curve ``(N, T, *S)`` and f_c on them ``(N, T)``."""
    inputs, batch = question.edit.inputs, question.request.batch
    n = len(inputs)
    rows = torch.arange(n, device=inputs.device).repeat_interleave(FRAMES)
    alphas = torch.linspace(0, 1, FRAMES, device=inputs.device).repeat(n)
    pairs = zip(rows.split(batch), alphas.split(batch), strict=True)
    frames = torch.cat([question.curve(r, a) for r, a in pairs])
    pairs = zip(frames.split(batch), rows.split(batch), strict=True)
    scores = torch.cat([question.score(points, r) for points, r in pairs])
    return frames.view(n, FRAMES, *inputs.shape[1:]), scores.view(n, FRAMES)


def _fidelity(
    edit: Edit,
    span: float,
    logits: dict[str, Tensor],
    margins: dict[str, Tensor],
    path_scores: Tensor,
    contrast: Tensor,
) -> Fidelity:
    whole = (edit.decoded - edit.inputs).abs().flatten(1).sum(1)
    let_through = whole
    if edit.mask is not None:
        let_through = (edit.mask * (edit.decoded - edit.inputs).abs()).flatten(1).sum(1)
    predicted = {name: values.argmax(1) for name, values in logits.items()}
    return Fidelity(
        score_gap=(margins["inputs"] - margins["reconstruction"]).abs(),
        mse=(edit.reconstruction - edit.inputs).square().flatten(1).mean(1),
        ssim=ssim(edit.reconstruction, edit.inputs, span),
        agrees=predicted["reconstruction"] == predicted["inputs"],
        flips=predicted["start"] == contrast,
        decoding_flips=predicted["decoded"] == contrast,
        monotone=monotone_share(path_scores),
        coverage=let_through / whole.clamp_min(1e-12),
    )


def problems_of(
    fidelity: Fidelity,
    margins: dict[str, Tensor],
    deltas: dict[str, tuple[Tensor, Tensor]],
    already: Tensor,
    tolerance: float,
) -> tuple[tuple[str, ...], ...]:
    """Say in words, per input, why its explanation does not hold; an empty tuple where it does.

    Args:
        fidelity: the figures.
        margins: f's score on the inputs and on the lens's decodings.
        deltas: name -> what an integral is off by, and what it should sum to, each ``(N,)``.
        already: ``(N,)`` whether f predicts the contrast class on the input itself.
        tolerance: largest relative error of an integral.
    """
    gap = (margins["inputs"].sigmoid() - margins["reconstruction"].sigmoid()).abs()
    found: list[tuple[str, ...]] = []
    for i in range(len(gap)):
        rows = []
        if already[i]:
            rows.append("f predicts the contrast class already, so there is no evidence to take away")
        if not fidelity.agrees[i]:
            rows.append("f sees another class in the lens's reconstruction")
        elif gap[i] > _PROBABILITY_GAP:
            rows.append(f"f's probability on the reconstruction is off by {gap[i]:.2f}")
        if not fidelity.flips[i]:
            rows.append("the counterfactual does not change f's decision to the contrast class")
        for name, (delta, total) in deltas.items():
            # A little more than the tolerance, for rounding between batches.
            if delta[i].abs() > 1.02 * tolerance * total[i].clamp_min(1e-3) + 1e-5:
                rows.append(f"{name} is incomplete by {delta[i]:.3g} of {total[i]:.3g}")
        found.append(tuple(rows))
    return tuple(found)


def not_local(fidelity: Fidelity, mask: Tensor) -> Tensor:
    """Where an edit covers much of the input and most of what the lens would change, ``(N,)``.

    A lens that changes little is let through whole, and its edit is local all the same.
    """
    return (fidelity.coverage > _LOCAL) & (mask.flatten(1).mean(1) > _LOCAL_AREA)
