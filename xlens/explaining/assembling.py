"""Assembling: one batch of an explanation, from the edit to the verdict."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import score_margin
from xlens.counterfactual.carry import Carry
from xlens.counterfactual.edit import Edit
from xlens.errors import DataError
from xlens.explaining.asking import Asks
from xlens.explaining.credit import credited
from xlens.explaining.on_layer import OnLayer
from xlens.explaining.request import Request
from xlens.explaining.verdict import judge
from xlens.explanation import Explanation, Fidelity
from xlens.metrics.fidelity import monotone_share

__all__ = ["explain_batch"]


def explain_batch(
    lens: Asks, inputs: Tensor, target: Tensor, contrast: Tensor, carry: Carry, request: Request
) -> Explanation:
    """Explain one batch ``(N, *S)`` that lies on the lens's device, within ``fitted.asking()``."""
    edit = lens.carry(inputs, target, contrast, carry)
    _finite_or_refuse(lens.made(edit))
    question = lens.question(edit, target, contrast, request)
    per_code, code_delta, code_total = lens.contributions(question)
    found = lens.attributions(question, per_code)
    path, path_scores = lens.frames(question)
    logits = lens.judged(edit)
    margins = {name: score_margin(values, target, contrast) for name, values in logits.items()}
    predicted = {name: values.argmax(1) for name, values in logits.items()}
    fidelity = Fidelity(
        score_gap=(margins["inputs"] - margins["reconstruction"]).abs(),
        agrees=predicted["reconstruction"] == predicted["inputs"],
        flips=predicted["start"] == contrast,
        decoding_flips=predicted["decoded"] == contrast,
        monotone=monotone_share(path_scores),
        **lens.likeness(edit),
    )
    if code_total is None:
        code_total = margins["reconstruction"] - margins["decoded"]
    incomplete = {
        name: (one.delta.float(), one.total.float().abs())
        for name, one in found.items()
        if one.total is not None and one.delta is not None
    }
    incomplete["feature_contributions"] = (code_delta.float(), code_total.float().abs())
    already = predicted["inputs"] == contrast
    judged = judge(lens, edit, fidelity, margins, incomplete, already, target, contrast, request.tolerance)
    fitted = lens.fitted
    features = fitted.lens.features
    named = credited(features)
    return Explanation(
        inputs=inputs,
        counterfactual=edit.start,
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
        code_attributions=per_code.detach(),
        feature_names=tuple(name for name, _ in named),
        feature_contributions=torch.stack([per_code[:, dims].sum(1) for _, dims in named], 1).detach(),
        not_taught=tuple(feature.name for feature in features if not feature.taught),
        fidelity=fidelity,
        verdicts=judged.verdicts,
        trustworthy=judged.trustworthy,
        problems=judged.problems,
        class_names=fitted.class_names,
        data_range=(min(fitted.spec.minimum), max(fitted.spec.maximum)),
        channel_ranges=tuple(zip(fitted.spec.minimum, fitted.spec.maximum, strict=True)),
        other_labels=_other_labels(fitted.classifier, edit),
        decoded_from_layer=isinstance(lens, OnLayer) and lens.show == "decode",
        display_ranges=fitted.display_ranges,
        decisions=torch.stack([predicted["inputs"], predicted["start"]], 1),
        **lens.pictures(edit),
    )


def _other_labels(classifier: Classifier, edit: Edit) -> dict[str, Tensor]:
    """Return the probability of each label that is not asked about, on the input and on the counterfactual."""
    if classifier.label is None:
        return {}
    every = classifier.about(None)
    pairs = torch.stack([every.probabilities(edit.inputs), every.probabilities(edit.start)], 2)
    names = every.names(pairs.shape[1])
    return {name: pairs[:, k].detach() for k, name in enumerate(names) if k != classifier.label}


def _finite_or_refuse(made: Mapping[str, Tensor]) -> None:
    """Refuse a lens that makes NaN or infinity, before its codes are integrated."""
    broken = [name for name, values in made.items() if not bool(values.isfinite().all())]
    if broken:
        raise DataError(
            f"explain: what the lens makes is not finite: {', '.join(broken)}",
            do="check the inputs' range; if the lens was fitted on others, fit it again",
        )
