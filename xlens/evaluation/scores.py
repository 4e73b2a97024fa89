"""The figures themselves, as values per input or of the whole set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens import metrics
from xlens.classifier import Classifier
from xlens.contracts import SupportsInversion
from xlens.evaluation.contenders import Asked, blurred
from xlens.explainer import LensExplainer
from xlens.explanation import Explanation
from xlens.nn.features import Penultimate

__all__ = ["Score", "Suite", "code_scores", "lens_scores", "map_scores", "restart_scores"]

#: Draws of values, and of everything else for each, in the causal influence.
_DRAWS = 16
_FEW = 64


@dataclass(frozen=True)
class Score:
    """A figure before it has an interval: values ``(m,)`` of the inputs `index`, or one value of the whole set."""

    name: str
    values: Tensor
    better: str = ""
    index: Tensor | None = None


@dataclass(frozen=True)
class Suite:
    """What everybody is judged by.

    Args:
        asked: the inputs and what is known of them.
        masks: ``(N, 1, *spatial)`` bool, or None.
        oracles: name -> independent classifier, frozen by the caller.
        smoothing: standard deviation in pixels of the Gaussian under which maps are judged once more; 0 for not.
        share: of the pixels, for the drop.
        steps: of deletion, insertion and COUT.
    """

    asked: Asked
    masks: Tensor | None
    oracles: Mapping[str, Classifier]
    smoothing: float
    share: float
    steps: int

    @property
    def span(self) -> float:
        """Largest minus smallest value of the data."""
        return (max(self.asked.spec.maximum) - min(self.asked.spec.minimum)) or 1.0

    @property
    def masked(self) -> Tensor:
        """Positions of the inputs that have a mask with something in it."""
        if self.masks is None:
            return torch.empty(0, dtype=torch.long)
        return self.masks.flatten(1).any(1).nonzero()[:, 0]


def map_scores(suite: Suite, maps: Tensor, own: Tensor | None = None) -> Iterator[Score]:
    """Judge one map of each input, ``(N, *S)``; `own` ``(N, *S)`` are the counterfactuals that it came with."""
    asked, where = suite.asked, suite.masked
    if len(where):
        yield from _localisation(maps[where], suite.masks[where], where, "")
        if suite.smoothing and maps.dim() == 4:
            smooth = blurred(maps[where].sum(1, keepdim=True).float(), suite.smoothing)
            yield from _localisation(smooth, suite.masks[where], where, ", smoothed")
    grey = asked.spec.per_channel("mean").to(asked.inputs).expand_as(asked.inputs)
    # Grey is something that f has never seen, so what it says of it need not be about the cause.
    for label, fill in (("", grey), (", own fill", own), (", true fill", asked.clean)):
        if fill is not None:
            yield from _exchanged(suite, maps, fill, label)
    dropped = metrics.intensity_drop(asked.classifier, asked.inputs, maps, asked.target, share=suite.share)
    yield Score("drop", dropped, "higher")
    yield Score("sparseness", metrics.sparseness(maps))


def _exchanged(suite: Suite, maps: Tensor, fill: Tensor, label: str) -> Iterator[Score]:
    asked = suite.asked
    given = (asked.classifier, asked.inputs, maps, asked.target, fill)
    deleted = metrics.deletion(*given, steps=suite.steps)
    inserted = metrics.insertion(*given, steps=suite.steps)
    yield Score("deletion" + label, deleted, "lower")
    yield Score("insertion" + label, inserted, "higher")
    yield Score("DiffID" + label, inserted - deleted, "higher")


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
    yield Score("coverage", fidelity.coverage, "lower")
    x, edited, asked = explanation.inputs, explanation.counterfactual, suite.asked
    yield Score("L1", metrics.proximity(x, edited), "lower")
    yield Score("L2", metrics.proximity(x, edited, norm=2), "lower")
    yield Score("pixels changed", metrics.sparsity(x, edited, suite.span), "lower")
    both = (asked.target, asked.contrast)
    yield Score("COUT", metrics.cout(asked.classifier, x, edited, *both, steps=suite.steps), "higher")
    yield from _oracles(suite, edited)
    where = suite.masked
    if len(where):
        energy = (edited - x).square()[where]
        inside = (energy * suite.masks[where]).flatten(1).sum(1)
        share = inside / energy.flatten(1).sum(1).clamp_min(1e-12)
        yield Score("edit inside the mask", share, "higher", where)
    if (realism := _realism(suite, edited)) is not None:
        yield Score("sFID", torch.tensor([realism]), "lower", torch.empty(0, dtype=torch.long))


def _oracles(suite: Suite, edited: Tensor) -> Iterator[Score]:
    asked = suite.asked
    for name, oracle in suite.oracles.items():
        found = metrics.oracle_validity(oracle, asked.inputs, edited, asked.target, asked.contrast)
        counted = found.counted.nonzero()[:, 0]
        if len(counted):
            yield Score(f"{name}: flips", found.flipped[counted].float(), "higher", counted)
            if asked.clean is not None:
                truly = metrics.validity(oracle, asked.clean[counted], asked.contrast[counted])
                yield Score(f"{name}: true original", truly.float(), "", counted)
        yield Score(f"{name}: unedited", found.unedited.float())


def _realism(suite: Suite, edited: Tensor) -> float | None:
    """Return the Frechet distance in f's own features, or None where there are too few inputs for its width."""
    asked = suite.asked
    penultimate = Penultimate(asked.classifier, asked.classifier.model, asked.inputs)

    def features(images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([penultimate(part)[1] for part in images.split(256)])

    real = asked.inputs
    if asked.references is not None:
        images, classes = asked.references
        wanted = torch.isin(classes, asked.contrast)
        real = images[wanted]
    if min(len(edited), len(real)) // (1 if asked.references is not None else 2) <= penultimate.width:
        return None
    if asked.references is not None:
        return metrics.frechet_distance(features(real), features(edited))
    return metrics.split_frechet_distance(features(real), features(edited), seed=asked.seed)


def code_scores(suite: Suite, explainer: LensExplainer, codes: Tensor, factors: Tensor | None) -> Iterator[Score]:
    """Judge what the parts of a code do to f, and what they know of known factors."""
    none = torch.empty(0, dtype=torch.long)
    asked = suite.asked
    yield from _influences(suite, explainer, codes)
    if factors is None:
        return
    yield Score("MIG", torch.tensor([metrics.mutual_information_gap(codes, factors)]), "higher", none)
    yield Score("SAP", torch.tensor([metrics.separated_attribute_predictability(codes, factors)]), "higher", none)
    found = metrics.dci(codes, factors, seed=asked.seed)
    for name in ("disentanglement", "completeness", "informativeness"):
        yield Score(f"DCI {name}", torch.tensor([getattr(found, name)]), "higher", none)


def _influences(suite: Suite, explainer: LensExplainer, codes: Tensor) -> Iterator[Score]:
    asked = suite.asked
    if not decodes_to_inputs(suite, explainer):
        return
    influence = metrics.causal_influence(
        asked.classifier,
        explainer.lens.decode,
        codes,
        [feature.dims for feature in explainer.features],
        values=_DRAWS,
        others=_DRAWS,
        seed=asked.seed,
    )
    for feature, value in zip(explainer.features, influence, strict=True):
        yield Score(f"influence of {feature.name}", value.view(1), "", torch.empty(0, dtype=torch.long))


def decodes_to_inputs(suite: Suite, explainer: LensExplainer) -> bool:
    """Whether the lens decodes to inputs, and not to a hidden layer's activations."""
    one = suite.asked.inputs[:1]
    with torch.no_grad():
        return explainer.lens.decode(explainer.lens.encode(one)).shape == one.shape


def restart_scores(suite: Suite, explainer: LensExplainer, restarts: int, steps: int) -> Iterator[Score]:
    """Judge how alike several inversions of the first inputs are, where the lens can search."""
    if not isinstance(explainer.lens, SupportsInversion) or not decodes_to_inputs(suite, explainer):
        return
    generator = torch.Generator(suite.asked.inputs.device).manual_seed(suite.asked.seed)
    few = suite.asked.inputs[:_FEW]
    codes = explainer.lens.invert(few, steps=steps, restarts=restarts, generator=generator)
    with torch.no_grad():
        decoded = torch.stack([explainer.lens.decode(code) for code in codes])
    cosine, alike = metrics.restart_stability(codes, decoded, suite.span)
    index = torch.arange(len(few))
    yield Score("restarts: cosine of codes", cosine, "higher", index)
    yield Score("restarts: SSIM of images", alike, "higher", index)
