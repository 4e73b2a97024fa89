"""How real edited inputs look to the classifier: Frechet distances, and beside them what real inputs get."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from xlens import metrics
from xlens.classifier.taps import Penultimate
from xlens.evaluation.suite import Score, Suite, of_all

__all__ = ["realism"]

#: Inputs per feature from which on a Frechet distance is about that of the distributions.
_MANY = 10
_BATCH = 256

Features = Callable[[Tensor], Tensor]


def realism(suite: Suite, edited: Tensor) -> Iterator[Score]:
    """Judge counterfactuals ``(N, *S)`` in the classifier's own penultimate features; nothing where these are too
    many."""
    asked = suite.asked
    penultimate = Penultimate(asked.classifier, asked.classifier.model, asked.inputs)
    few = len(edited) // 2
    if asked.references is not None:
        few = min(len(edited), int(torch.isin(asked.references[1], asked.contrast).sum()))
    if few <= penultimate.width:
        suite.note(
            "sFID is left out: it takes more inputs than the classifier has penultimate features (twice as many "
            "without references, else as many references of the contrast classes)"
        )
        return
    if few < _MANY * penultimate.width:
        suite.note(
            f"sFID rests on {few} inputs for {penultimate.width} features, which makes it too large: read it "
            "beside what real inputs get"
        )

    def features(images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([penultimate(part)[1] for part in images.split(_BATCH)])

    if asked.references is None:
        yield from _halves(suite, features, edited)
    else:
        yield from _against_references(suite, asked.references, features, edited, penultimate.width)


def _halves(suite: Suite, features: Features, edited: Tensor) -> Iterator[Score]:
    real, seed = features(suite.asked.inputs), suite.asked.seed
    yield of_all("sFID", metrics.split_frechet_distance(real, features(edited), seed=seed), "lower")
    yield of_all("sFID, unedited", metrics.split_frechet_distance(real, real, seed=seed))


def _against_references(
    suite: Suite, references: tuple[Tensor, Tensor], features: Features, edited: Tensor, width: int
) -> Iterator[Score]:
    asked = suite.asked
    images, classes = references
    wanted = torch.isin(classes, asked.contrast)
    real, classes = features(images[wanted]), classes[wanted]
    weights = _shares(classes, asked.contrast)
    yield of_all("sFID", metrics.frechet_distance(real, features(edited), weights=weights), "lower")
    generator = torch.Generator().manual_seed(asked.seed)
    drawn = torch.multinomial(weights.cpu(), min(len(edited), len(real) // 2), generator=generator)
    held = torch.zeros(len(real), dtype=torch.bool)
    held[drawn] = True
    held = held.to(real.device)
    rest = _shares(classes[~held], classes[held])
    if len(drawn) > width and float(rest.sum()) > 0:
        yield of_all("sFID, references", metrics.frechet_distance(real[~held], real[held], weights=rest))


def _shares(classes: Tensor, wanted: Tensor) -> Tensor:
    """Return weights ``(m,)`` that give each of the classes ``(m,)`` the share that it has in `wanted`."""
    counts = torch.bincount(classes, minlength=int(wanted.max()) + 1)
    shares = torch.bincount(wanted, minlength=len(counts))
    return shares[classes].double() / counts[classes]
