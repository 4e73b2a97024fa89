"""The figures of maps and of counterfactuals, as values per input or of the whole set."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from xlens import metrics
from xlens.classifier.margins import score_margin
from xlens.contracts.additions import JudgedMaps, MapMetric
from xlens.errors import PluginError
from xlens.evaluation.contenders import blurred
from xlens.evaluation.realism import realism
from xlens.evaluation.suite import Score, Suite
from xlens.explanation import Explanation

__all__ = ["lens_scores", "map_scores"]


def map_scores(suite: Suite, maps: Tensor, own: Tensor | None = None) -> Iterator[Score]:
    """Judge one map of each input, ``(N, *S)``; `own` ``(N, *S)`` are the counterfactuals that it came with."""
    asked, where, masks = suite.asked, suite.masked, suite.masks
    if masks is not None and len(where):
        yield from _localisation(maps[where], masks[where], where, "")
        if suite.smoothing and maps.dim() == 4:
            smooth = blurred(maps[where].sum(1, keepdim=True).float(), suite.smoothing)
            yield from _localisation(smooth, masks[where], where, ", smoothed")
    grey = asked.spec.per_channel("mean").to(asked.inputs).expand_as(asked.inputs)
    # Grey is something that the classifier has never seen, so what it says of it need not be about the cause.
    for label, fill in (("", grey), (", own fill", own)):
        if fill is not None:
            yield from _exchanged(suite, maps, fill, label)
    if asked.clean is not None and len(truly := suite.has_clean.nonzero()[:, 0]):
        yield from _exchanged(suite, maps, asked.clean, ", true fill", truly)
    dropped = metrics.intensity_drop(asked.classifier, asked.inputs, maps, asked.target, share=suite.share)
    yield Score("drop", dropped, "higher")
    yield Score("sparseness", metrics.sparseness(maps))
    for metric in suite.added:
        yield _added(suite, metric, maps, own)


def _added(suite: Suite, metric: MapMetric, maps: Tensor, own: Tensor | None) -> Score:
    """Judge maps by a third party's figure.

    Raises:
        PluginError: what it returns is not one number per map.
    """
    asked = suite.asked

    def score(points: Tensor) -> Tensor:
        return score_margin(asked.classifier(points), asked.target, asked.contrast)

    found = metric.measure(JudgedMaps(asked.inputs, maps, own, suite.masks, score, suite.span))
    if not isinstance(found, Tensor) or found.shape != (len(maps),) or not bool(found.isfinite().all()):
        raise PluginError(
            f"metric {metric.name!r}: what it returns is not a finite number for each map",
            given=tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__,
            allowed=f"({len(maps)},)",
        )
    return Score(metric.name, found, metric.better)


def _exchanged(suite: Suite, maps: Tensor, fill: Tensor, label: str, rows: Tensor | None = None) -> Iterator[Score]:
    asked = suite.asked
    parts = (asked.inputs, maps, asked.target, fill)
    given = (asked.classifier, *(parts if rows is None else (part[rows] for part in parts)))
    deleted = metrics.deletion(*given, points=suite.points)
    inserted = metrics.insertion(*given, points=suite.points)
    yield Score("deletion" + label, deleted, "lower", rows)
    yield Score("insertion" + label, inserted, "higher", rows)
    yield Score("DiffID" + label, inserted - deleted, "higher", rows)


def _localisation(maps: Tensor, masks: Tensor, where: Tensor, label: str) -> Iterator[Score]:
    yield Score("pointing" + label, metrics.pointing_game(maps, masks), "higher", where)
    yield Score("IoU" + label, metrics.mask_iou(maps, masks), "higher", where)
    if not label:
        yield Score("mass", metrics.relevance_mass(maps, masks), "higher", where)
        yield Score("rank", metrics.relevance_rank(maps, masks), "higher", where)


def lens_scores(suite: Suite, explanation: Explanation) -> Iterator[Score]:
    """Judge a lens and its counterfactuals by one explanation of all inputs."""
    fidelity = explanation.fidelity
    yield Score("agrees", fidelity.agrees.float(), "higher")
    yield Score("score gap", fidelity.score_gap, "lower")
    yield Score("MSE", fidelity.mse, "lower")
    yield Score("SSIM", fidelity.ssim, "higher")
    yield Score("monotone", fidelity.monotone, "higher")
    yield Score("trustworthy", explanation.trustworthy.float(), "higher")
    yield Score("flips", fidelity.flips.float(), "higher")
    yield Score("decoding flips", fidelity.decoding_flips.float(), "higher")
    yield from _other_labels(explanation)
    yield Score("coverage", fidelity.coverage, "lower")
    x, edited, asked = explanation.inputs, explanation.counterfactual, suite.asked
    yield Score("L1", metrics.proximity(x, edited), "lower")
    yield Score("L2", metrics.proximity(x, edited, norm=2), "lower")
    yield Score("pixels changed", metrics.sparsity(x, edited, suite.span), "lower")
    both = (asked.target, asked.contrast)
    yield Score("COUT", metrics.cout(asked.classifier, x, edited, *both, points=suite.points), "higher")
    yield from _oracles(suite, edited)
    where, masks = suite.masked, suite.masks
    if masks is not None and len(where):
        energy = (edited - x).square()[where]
        inside = (energy * masks[where]).flatten(1).sum(1)
        share = inside / energy.flatten(1).sum(1).clamp_min(1e-12)
        yield Score("edit inside the mask", share, "higher", where)
    yield from realism(suite, edited)


def _other_labels(explanation: Explanation) -> Iterator[Score]:
    """Judge whether edits are about their label alone, where the classifier has others."""
    if not explanation.other_labels:
        return
    before, after = torch.stack(list(explanation.other_labels.values()), 1).unbind(2)
    kept = ((before > 0.5) == (after > 0.5)).all(1)
    yield Score("flips alone", (explanation.fidelity.flips & kept).float(), "higher")
    yield Score("other labels moved", (after - before).abs().mean(1), "lower")


def _oracles(suite: Suite, edited: Tensor) -> Iterator[Score]:
    asked = suite.asked
    for name, oracle in suite.oracles.items():
        found = metrics.oracle_validity(oracle, asked.inputs, edited, asked.target, asked.contrast)
        counted = found.counted.nonzero()[:, 0]
        if len(counted):
            yield Score(f"{name}: flips", found.flipped[counted].float(), "higher", counted)
        else:
            suite.note(f"{name}: flips is left out: it sees the class to explain in none of the inputs")
        truly = (found.counted & suite.has_clean).nonzero()[:, 0]
        if asked.clean is not None and len(truly):
            right = metrics.validity(oracle, asked.clean[truly], asked.contrast[truly])
            yield Score(f"{name}: true original", right.float(), "", truly)
        yield Score(f"{name}: unedited", found.unedited.float())
