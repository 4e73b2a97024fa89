"""``evaluate``: one suite of figures for several lenses and attribution methods on the same inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from xlens._arguments import check_explain
from xlens._explain import join
from xlens._quantus import around
from xlens.attr.edit import Carry
from xlens.classifier import Classifier, as_classifier
from xlens.errors import OptionError, XlensWarning
from xlens.evaluation.checks import (
    check_shapes,
    chosen_inputs,
    named_explainers,
    named_oracles,
    number_faults,
    rows_of,
)
from xlens.evaluation.contenders import Asked, Contender, lens_free, parse_methods
from xlens.evaluation.scores import Score, Suite, code_scores, lens_scores, map_scores, restart_scores
from xlens.evaluation.table import Evaluation, Figure, interval
from xlens.explainer import LensExplainer
from xlens.explanation import Explanation
from xlens.metrics import rank_correlation, shuffled_weights

__all__ = ["evaluate"]

_BATCH = 64
#: Inputs on which f's weights are shuffled.
_RANDOMISED = 32
_RESTART_STEPS = 200

_METHODS = ("lig", "ig_counterfactual", "integrated_gradients:mean", "saliency", "occlusion:mean", "random")

Methods = Sequence[str] | Mapping[str, Mapping[str, Any]]


def evaluate(
    explainers: LensExplainer | Mapping[str, LensExplainer] | Sequence[LensExplainer],
    data: Any,
    *,
    masks: Any = None,
    clean: Any = None,
    oracle: nn.Module | Classifier | Mapping[str, nn.Module | Classifier] | None = None,
    references: Any = None,
    factors: Any = None,
    methods: Methods = _METHODS,
    target: int | Tensor | None = None,
    contrast: int | Tensor | None = None,
    carry: Carry | None = None,
    n: int | None = None,
    smoothing: float = 0.0,
    share: float = 0.05,
    steps: int = 20,
    restarts: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    progress: bool | None = None,
) -> Evaluation:
    """Judge lenses and attribution methods by the same suite, against the truth where it is known.

    Args:
        explainers: one, several, or names with explainers; all around one classifier.
        data: the inputs to explain, as for :func:`xlens.fit`.
        masks: ``(N, 1, *spatial)`` bool, where the cause of each input is. Inputs whose mask is empty do not count
            for what needs one.
        clean: ``(N, *S)`` each input without its cause: the true counterfactual.
        oracle: an independently trained classifier, or several by name.
        references: ``(M, *S)`` other real inputs, for baselines and for realism.
        factors: ``(N, A)`` known factors of each input, for figures of codes.
        methods: attributions, or names with options. xlens's own, and Captum's in snake case with the lens's
            counterfactual as baseline, are another map for each lens. ``"METHOD:BASELINE"`` is Captum's from a
            baseline that needs no lens: ``black`` (the smallest value), ``mean`` (of the data), ``blurred``,
            ``nearest`` (of `references` that f puts in the contrast class) or ``clean``. ``"random"``, ``"edges"``
            and ``"constant"`` do not look at f.
        target, contrast: as in :meth:`LensExplainer.explain`; None for what the first explainer takes.
        carry: how lenses' changes reach the inputs, as in :meth:`LensExplainer.explain`.
        n: so many inputs, drawn by `seed`; None for all.
        smoothing: standard deviation in pixels under which every map is located once more; 0 for not.
        share: of the pixels that become grey for ``drop``.
        steps: points of the curves of deletion, insertion and COUT.
        restarts: inversions from random starts to compare (2 or more), where a lens can search; 0 for none.
        confidence: of the bootstrap intervals, over inputs.
        seed: decides which inputs, and everything random.
        progress: show a progress bar; None shows it on a terminal.

    Returns:
        the figures. Those of attributions take the magnitude where they locate, and the sign where pixels are
        exchanged: for the data's mean, for a lens's own counterfactual, and for `clean` where it is given.
        ``randomised`` is the rank correlation with the map for f with shuffled weights, on the first 32 inputs:
        near 1, a map does not look at what f has learnt.

    Raises:
        OptionError: an unknown method or a number out of range; all faults in one error.
        DataError: inputs, masks or others that do not fit.

    >>> import xlens
    >>> found = xlens.evaluate(explainer, images, methods=("lig", "random"), n=12, progress=False)
    >>> found.count, 0 <= found.get("flips", "medxgan").value <= 1
    (12, True)
    """
    named = named_explainers(explainers)
    first = next(iter(named.values()))
    given = {"references": references, "clean": clean}
    contenders, faults = parse_methods(methods, given, first.spec.is_image)
    check_explain("evaluate", first.mask is not None, carry=carry)
    faults += number_faults(n, smoothing, share, steps, restarts, confidence, seed)
    if faults:
        raise OptionError("evaluate: " + "; ".join(faults))
    inputs, index = chosen_inputs(data, n, seed, first)
    beside = {"masks": masks, "clean": clean, "factors": factors}
    rows = {name: rows_of(name, value, index, len(inputs)) for name, value in beside.items() if value is not None}
    check_shapes(rows, inputs)
    oracles = {name: as_classifier(model) for name, model in named_oracles(oracle).items()}
    with ExitStack() as stack:
        for context in (torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings()):
            stack.enter_context(context)
        # What does not hold is a figure here.
        warnings.simplefilter("ignore", XlensWarning)
        for classifier in (first.classifier, *oracles.values()):
            stack.enter_context(classifier.frozen(seed=0))
        inputs = inputs.to(first.device)
        known = {name: value.to(inputs.device) for name, value in rows.items()}
        classes = first._classes(inputs, target, contrast, _BATCH)
        real = None if references is None else first._references(references, _BATCH)
        asked = Asked(
            first.classifier,
            first.spec,
            inputs,
            *classes,
            references=None if real is None else (real.inputs, real.classes),
            clean=known["clean"].to(inputs) if "clean" in known else None,
            seed=seed,
        )
        mask = known["masks"].bool() if "masks" in known else None
        suite = Suite(asked, mask, oracles, smoothing, share, steps)
        judge = _Judge(suite, contenders, known.get("factors"), references, carry, restarts, confidence, progress)
        figures = judge.all(named)
    return Evaluation(
        figures=tuple(figures), count=len(inputs), index=index, confidence=confidence, seed=seed, notes=judge.notes
    )


class _Judge:
    """Goes through lenses and methods, and turns scores into figures with intervals."""

    def __init__(
        self,
        suite: Suite,
        contenders: list[Contender],
        factors: Tensor | None,
        references: Any,
        carry: Carry | None,
        restarts: int,
        confidence: float,
        progress: bool | None,
    ) -> None:
        self.suite, self.factors, self.references, self.carry = suite, factors, references, carry
        self.restarts, self.confidence, self.progress = restarts, confidence, progress
        self.of_lenses = [one for one in contenders if one.needs_lens]
        self.lens_free = [one for one in contenders if not one.needs_lens]
        self.notes: tuple[str, ...] = ()

    def all(self, named: Mapping[str, LensExplainer]) -> list[Figure]:
        """Return every figure."""
        chunks = len(self._chunks())
        total = len(named) * (chunks + 2) + len(self.lens_free)
        hide = None if self.progress is None else not self.progress
        found: list[Figure] = []
        with tqdm(total=total, desc="evaluate", disable=hide) as self.bar:
            for name, explainer in named.items():
                found += self._lens(name, explainer)
            for one in self.lens_free:
                found += self._lens_free(one)
                self.bar.update()
        return found

    def _lens(self, name: str, explainer: LensExplainer) -> list[Figure]:
        # Its lens may ask the classifier that it was fitted around, whichever is explained.
        with explainer.classifier.frozen(seed=0):
            return list(self._lens_figures(name, explainer))

    def _lens_figures(self, name: str, explainer: LensExplainer) -> Iterator[Figure]:
        parts = []
        for rows in self._chunks():
            parts.append(self._explained(explainer, rows))
            self.bar.update()
        explanation = join(parts)
        scores = list(lens_scores(self.suite, explanation))
        if not any(score.name == "sFID" for score in scores):
            self._note("sFID is left out: it takes more inputs than f has penultimate features (twice as many "
                       "without references)")  # fmt: skip
        scores += code_scores(self.suite, explainer, explanation.codes, self.factors)
        if self.restarts:
            found = list(restart_scores(self.suite, explainer, self.restarts, _RESTART_STEPS))
            scores += found
            if not found:
                self._note(f"restarts: the lens {name!r} cannot search for codes")
        yield from (self._figure(name, score) for score in scores)
        self.bar.update()
        if self.of_lenses:
            yield from self._maps_of(name, explainer, explanation)
        self.bar.update()

    def _maps_of(self, name: str, explainer: LensExplainer, explanation: Explanation) -> Iterator[Figure]:
        shuffled = self._shuffled(explainer)
        for one in self.of_lenses:
            maps = explanation.attributions[one.method]
            own, other = explanation.counterfactual, shuffled.attributions.get(one.method)
            yield from self._map(f"{name}: {one.name}", maps, other, own)
            if other is None:
                self._note(f"randomised: not of {one.name!r}, whose references are chosen by f's own classes")
        held = Score("trustworthy, f shuffled", shuffled.trustworthy.float(), "lower", self._few())
        yield self._figure(name, held)

    def _lens_free(self, one: Contender) -> Iterator[Figure]:
        asked = self.suite.asked
        maps = torch.cat([lens_free(one, asked, rows) for rows in self._chunks()])
        other = self._other_classifier(asked.classifier)
        with other.frozen(seed=0):
            yield from self._map(one.name, maps, lens_free(one, asked, self._few(), other))

    def _map(
        self, contender: str, maps: Tensor, shuffled: Tensor | None, own: Tensor | None = None
    ) -> Iterator[Figure]:
        for score in map_scores(self.suite, maps, own):
            yield self._figure(contender, score)
        if shuffled is None:
            return
        few = self._few()
        alike = rank_correlation(maps[few], shuffled)
        yield self._figure(contender, Score("randomised", alike, "lower", few))

    def _explained(self, explainer: LensExplainer, rows: Tensor, without: str = "") -> Explanation:
        asked = self.suite.asked
        names = {one.method: one.options for one in self.of_lenses if one.method != without}
        return explainer.explain(
            asked.inputs[rows],
            target=asked.target[rows],
            contrast=asked.contrast[rows],
            attributions=names,
            carry=self.carry,
            references=self.references if "ig_ensemble" in names else None,
        )

    def _shuffled(self, explainer: LensExplainer) -> Explanation:
        """Explain f with shuffled weights through the same lens."""
        other = around(self._other_classifier(explainer.classifier).model, explainer)
        # It may put none of the references in a class that is contrasted.
        return self._explained(other, self._few(), without="ig_ensemble")

    def _other_classifier(self, own: Classifier) -> Classifier:
        model = shuffled_weights(own.model, seed=self.suite.asked.seed)
        return Classifier(model, layer=own.layer, outputs=own.outputs, class_names=own.class_names)

    def _figure(self, contender: str, score: Score) -> Figure:
        values = score.values.detach().cpu().double()
        index = torch.arange(len(values)) if score.index is None else score.index.cpu()
        whole = not len(index)
        found = None if whole else interval(values, self.confidence, self.suite.asked.seed)
        low, high = found or (None, None)
        return Figure(
            contender=contender,
            name=score.name,
            value=float(values.mean()),
            low=low,
            high=high,
            better=score.better,
            values=values[:0] if whole else values,
            index=index,
        )

    def _chunks(self) -> tuple[Tensor, ...]:
        inputs = self.suite.asked.inputs
        return torch.arange(len(inputs), device=inputs.device).split(_BATCH)

    def _few(self) -> Tensor:
        return torch.arange(min(_RANDOMISED, len(self.suite.asked.inputs)), device=self.suite.asked.inputs.device)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes += (text,)
