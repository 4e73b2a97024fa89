"""A surrogate before the lens is trained: distilled from what the classifier says of the data, and of mixtures."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.turns import seeded
from xlens.contracts.backend import Run
from xlens.data import Data
from xlens.surrogate.distilling import Answers, Distillation
from xlens.surrogate.following import Surrogate
from xlens.surrogate.network import SurrogateNetwork
from xlens.surrogate.options import SurrogateOptions
from xlens.training.supervision import classifier_logits

__all__ = ["begin_surrogate"]

#: Inputs whose latents it learns from, at most, and latents that the classifier is asked about at once.
_MOST, _BATCH = 2048, 16


def begin_surrogate(classifier: Classifier, values: Data, run: Run, options: SurrogateOptions) -> Surrogate:
    """Surrogate of a classifier of latents, distilled from its answers; the lens's own decodings come later.

    Of the data, what the classifier says is known from the survey. Mixtures of two inputs' latents are asked about
    beside them, without gradients: the decodings of a lens lie between real inputs.

    Args:
        classifier: of latents.
        values: the data as latents.
        run: circumstances of the fit, with the spec of latents.
        options: how it is distilled.
    """
    with seeded(run.seed):
        network = SurrogateNetwork(run.spec, options.width).to(run.device).requires_grad_(False)
    known = _known(classifier, values, run)
    data = Answers(len(known) + options.mixtures)
    data.add(known.latents, known.logits)
    for latents in _mixtures(known.latents, options.mixtures, run.seed):
        latents = latents.to(run.device, torch.float32)
        with torch.no_grad():
            logits = classifier(latents)
        finite = logits.isfinite().all(1)
        data.add(latents[finite], logits[finite])
    distillation = Distillation(network, data, options.learning_rate, options.batch_size, run.seed)
    nothing = Answers(1)
    for _ in range(options.steps):
        distillation.step(nothing)
    return Surrogate(classifier, distillation, options)


def _known(classifier: Classifier, values: Data, run: Run) -> Answers:
    """Return what the classifier says of the data, or of some of them where there are many."""
    known = Answers(_MOST)
    for batch in values.batches(64, generator=torch.Generator().manual_seed(run.seed)):
        batch = batch.to(run.device)
        known.add(batch.inputs, classifier_logits(classifier, run, batch))
        if len(known) >= _MOST:
            break
    return known


def _mixtures(latents: Tensor, count: int, seed: int) -> list[Tensor]:
    """Return mixtures of two inputs' latents each, in any proportion."""
    if not count:
        return []
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randint(len(latents), (2, count), generator=generator)
    share = torch.rand(count, generator=generator)
    return [
        torch.lerp(latents[one].float(), latents[other].float(), part.view(-1, 1, 1, 1))
        for one, other, part in zip(*(each.split(_BATCH) for each in (*pairs, share)), strict=True)
    ]
