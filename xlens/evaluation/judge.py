"""The judge: goes through lenses and methods, and turns scores into figures with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.counterfactual.carry import Carry
from xlens.errors import ModelError
from xlens.evaluation.checks import same_network
from xlens.evaluation.codes import code_scores, restart_scores
from xlens.evaluation.contenders import CONTROLS, Contender, lens_free
from xlens.evaluation.scores import lens_scores, map_scores
from xlens.evaluation.suite import Score, Suite
from xlens.evaluation.table import Figure, interval
from xlens.explaining.asking import asks
from xlens.explaining.distributed import join
from xlens.explaining.explain import explain
from xlens.explanation import Explanation
from xlens.fitted import Fitted
from xlens.metrics import rank_correlation, shuffled_weights
from xlens.training.bar import Bar

__all__ = ["Judge", "possible"]

_BATCH = 64
#: Inputs on which the classifier's weights are shuffled.
_RANDOMISED = 32
_RESTART_STEPS = 200


def possible(suite: Suite, contenders: Sequence[Contender], *, must: bool) -> list[Contender]:
    """Return the contenders without those that Captum cannot do for this model, tried on one input.

    Raises:
        ModelError: there is such a one, and it `must` be judged; better now than after all others.
    """
    one_row = torch.zeros(1, dtype=torch.long, device=suite.asked.inputs.device)
    found = []
    for one in contenders:
        try:
            if not one.needs_lens and one.method not in CONTROLS:
                lens_free(one, suite.asked, one_row)
        except ModelError as fault:
            if must:
                raise
            suite.note(f"{one.name} is left out: {fault}")
        else:
            found.append(one)
    return found


class Judge:
    """Goes through lenses and methods.

    Args:
        suite: what everybody is judged by.
        contenders: the methods.
        relabelled: the same model, trained on shuffled labels, or None.
        factors: ``(N, A)`` or None.
        references: ``(M, *S)`` or None.
        carry, restarts, confidence, progress: as for :func:`xlens.evaluate`.
    """

    def __init__(
        self,
        suite: Suite,
        contenders: Sequence[Contender],
        relabelled: nn.Module | None,
        factors: Tensor | None,
        references: Tensor | None,
        carry: Carry | None,
        restarts: int,
        confidence: float,
        progress: bool | None,
    ) -> None:
        self.suite, self.factors, self.references, self.carry = suite, factors, references, carry
        self.relabelled = relabelled
        self.restarts, self.confidence, self.progress = restarts, confidence, progress
        self.of_lenses = [one for one in contenders if one.needs_lens]
        self.lens_free = [one for one in contenders if not one.needs_lens]

    def all(self, named: Mapping[str, Fitted]) -> list[Figure]:
        """Return every figure."""
        self._say_what_is_missing()
        chunks = len(self._chunks())
        total = len(named) * (chunks + 2) + len(self.lens_free)
        hide = None if self.progress is None else not self.progress
        found: list[Figure] = []
        with Bar(total=total, desc="evaluate", disable=hide) as self.bar:
            for name, fitted in named.items():
                found += self._lens(name, fitted)
            for one in self.lens_free:
                found += self._lens_free(one)
                self.bar.update()
        return found

    def _say_what_is_missing(self) -> None:
        suite, asked = self.suite, self.suite.asked
        if suite.masks is not None and not len(suite.masked):
            suite.note("location is left out: all masks are empty")
        if suite.smoothing and asked.inputs.dim() != 4:
            suite.note("smoothing is left out: inputs are no images")
        if asked.clean is not None and not bool(suite.has_clean.any()):
            suite.note("true fill and true original are left out: no input differs from its clean version")
        for name, oracle in suite.oracles.items():
            if same_network(oracle, asked.classifier):
                suite.note(f"{name} is the classifier itself: that it is convinced proves nothing")

    def _lens(self, name: str, fitted: Fitted) -> list[Figure]:
        # Its lens may ask the classifier that it was fitted around, whichever is explained.
        with fitted.classifier.frozen(seed=0):
            return list(self._lens_figures(name, fitted))

    def _lens_figures(self, name: str, fitted: Fitted) -> Iterator[Figure]:
        parts = []
        for rows in self._chunks():
            parts.append(self._explained(fitted, rows))
            self.bar.update()
        explanation = join(parts)
        if asks(fitted).shows_real_inputs:
            self.suite.note(
                f"{name!r} decodes to {fitted.classifier.layer!r}: its MSE and SSIM are of activations, and its "
                "counterfactuals are real inputs that it keeps"
            )
        scores = list(lens_scores(self.suite, explanation))
        scores += code_scores(self.suite, fitted, explanation.codes, self.factors)
        if self.restarts:
            found = list(restart_scores(self.suite, fitted, self.restarts, _RESTART_STEPS))
            scores += found
            if not found:
                self.suite.note(f"restarts: the lens {name!r} cannot search for codes")
        yield from (self._figure(name, score) for score in scores)
        self.bar.update()
        if self.of_lenses:
            yield from self._maps_of(name, fitted, explanation)
        self.bar.update()

    def _maps_of(self, name: str, fitted: Fitted, explanation: Explanation) -> Iterator[Figure]:
        shuffled = self._explained_by(fitted, fitted.classifier.around(self._shuffled_model))
        other_labels = self.relabelled
        relabelled = (
            None if other_labels is None else self._explained_by(fitted, fitted.classifier.around(other_labels))
        )
        for one in self.of_lenses:
            maps = explanation.attributions[one.method]
            own, other = explanation.counterfactual, shuffled.attributions.get(one.method)
            taught = None if relabelled is None else relabelled.attributions.get(one.method)
            yield from self._map(f"{name}: {one.name}", maps, other, taught, own)
            if other is None:
                self.suite.note(
                    f"randomised: not of {one.name!r}, whose references are chosen by the classifier's own classes"
                )
        held = Score("trustworthy, the classifier shuffled", shuffled.trustworthy.float(), "lower", self._few())
        yield self._figure(name, held)

    def _lens_free(self, one: Contender) -> Iterator[Figure]:
        asked = self.suite.asked
        # What does not look at the classifier is one pass over all inputs, and draws for all of them at once.
        parts = (torch.cat(self._chunks()),) if one.method in CONTROLS else self._chunks()
        maps = torch.cat([lens_free(one, asked, rows) for rows in parts])
        others = {"randomised": self._shuffled_model, "relabelled": self.relabelled}
        found = {
            name: self._lens_free_by(one, maps, asked.classifier.around(other))
            for name, other in others.items()
            if other is not None
        }
        yield from self._map(one.name, maps, found["randomised"], found.get("relabelled"))

    def _lens_free_by(self, one: Contender, maps: Tensor, classifier: Classifier) -> Tensor:
        """Return the map of the first rows for another classifier."""
        if one.method in CONTROLS:
            return maps[self._few()]
        with classifier.frozen(seed=0):
            return lens_free(one, self.suite.asked, self._few(), classifier)

    def _map(
        self,
        contender: str,
        maps: Tensor,
        shuffled: Tensor | None,
        relabelled: Tensor | None,
        own: Tensor | None = None,
    ) -> Iterator[Figure]:
        for score in map_scores(self.suite, maps, own):
            yield self._figure(contender, score)
        few = self._few()
        for name, other in (("randomised", shuffled), ("relabelled", relabelled)):
            if other is not None:
                yield self._figure(contender, Score(name, rank_correlation(maps[few], other), "lower", few))

    def _explained(self, fitted: Fitted, rows: Tensor, without: str = "") -> Explanation:
        """Explain some rows; of what comes back, only what is judged is kept."""
        asked = self.suite.asked
        names = {one.method: one.options for one in self.of_lenses if one.method != without}
        found = explain(
            fitted,
            asked.inputs[rows],
            target=asked.target[rows],
            contrast=asked.contrast[rows],
            attributions=names,
            carry=self.carry,
            references=self.references if "ig_ensemble" in names else None,
        )
        # Frames of the path alone are eleven times the inputs.
        return dataclasses.replace(
            found,
            reconstruction=None,
            edit=None,
            mask=None,
            attributions={name: found.attributions[name] for name in names},
            path=found.path[:, :0].clone(),
            path_scores=found.path_scores[:, :0].clone(),
        )

    def _explained_by(self, fitted: Fitted, classifier: Classifier) -> Explanation:
        """Explain another classifier, with shuffled weights or shuffled labels, through the same lens."""
        # It may put none of the references in a class that is contrasted.
        return self._explained(fitted.around(classifier), self._few(), without="ig_ensemble")

    @cached_property
    def _shuffled_model(self) -> nn.Module:
        """The classifier's model with permuted weights; every explainer's has the same ones."""
        return shuffled_weights(self.suite.asked.classifier.model, seed=self.suite.asked.seed)

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
