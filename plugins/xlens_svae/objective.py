"""One training step of either model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens import Classifier, Spec
from xlens.data import Batch
from xlens.training import Trainer
from xlens_svae.models import Model, SemiVAE, SupervisedVAE
from xlens_svae.networks import data_scale
from xlens_svae.terms import cross_entropy, log_likelihood, m2_bound, svae_bound

__all__ = ["Consistency", "SemiVAEStep", "SupervisedStep", "likelihood_variance"]


class Consistency:
    """KL[f(x) || f(x~)] on part of a batch: the classifier has to see the same class whatever z2 is.

    Nothing in the paper's objective stops z2 from carrying evidence; this does: the classifier itself is asked.
    Of five x~ two are decodings G(z1, z2') with z2' from N(0, s^2), one is the reconstruction G(z1, z2), two are
    carried onto the input as they will be: x + G(z1, z2 + s e) - G(z1, z2), with e from N(0, I).

    Args:
        classifier: the frozen classifier.
        spec: the data's range.
        rows: inputs of each batch that are used.
        largest: s is between 0 and this.
    """

    def __init__(self, classifier: Classifier, spec: Spec, rows: int, largest: float) -> None:
        self.classifier, self.rows, self.largest = classifier, rows, largest
        self.low, self.high = spec.per_channel("minimum"), spec.per_channel("maximum")

    def __call__(self, model: Model, inputs: Tensor, codes: Tensor, logits: Tensor, trainer: Trainer) -> Tensor:
        """Return the mean KL in nats.

        Args:
            model: the model that is trained.
            inputs: ``(N, *S)``.
            codes: ``(N, d)`` draws of their codes.
            logits: ``(N, K)`` what the classifier says of them.
            trainer: brings the generator of random numbers.
        """
        inputs, codes, logits = inputs[: self.rows], codes[: self.rows], logits[: self.rows]
        n, device = len(inputs), inputs.device
        kind = torch.arange(n, device=device) % 5
        own, carried = kind == 2, kind > 2
        scale = self.largest * torch.rand(n, 1, generator=trainer.generator, device=device)
        drawn = scale * torch.randn(n, model.nuisance, generator=trainer.generator, device=device)
        evidence, nuisance = codes.split([model.evidence, model.nuisance], 1)
        drawn = torch.where(carried[:, None], nuisance + drawn, drawn)
        varied = torch.cat([evidence, torch.where(own[:, None], nuisance, drawn)], 1)
        decoded = model.decoder(torch.cat([varied, codes[carried]]))
        variants, reconstructed = decoded.split([n, int(carried.sum())])
        moved = inputs[carried] + variants[carried] - reconstructed
        bounded = torch.maximum(torch.minimum(moved, self.high.to(moved)), self.low.to(moved))
        found = self.classifier(torch.cat([variants[~carried], bounded]))
        wanted = torch.cat([logits[~carried], logits[carried]]).softmax(1)
        return F.kl_div(found.log_softmax(1), wanted, reduction="batchmean")


class SupervisedStep:
    """Maximises the paper's bound, with the consistency of the classifier beside it.

    Args:
        trainer: brings the optimiser and the generator of random numbers.
        model: the supervised VAE.
        variance: of the likelihood, broadcast over inputs.
        alpha, beta: weights of the bound.
        predictive_weight: weight of the class loss through q(z|x), relative to alpha; 0 in the paper.
        evidence_price: what is added to the weight of z1's KL from the prior, relative to it; 0 in the paper.
        consistency: asks the classifier, or None.
        consistency_weight: its weight.
        outputs_of: gives the classifier's logits on a batch.
        classes_of: gives the class probabilities that supervise.
    """

    def __init__(
        self,
        trainer: Trainer,
        model: SupervisedVAE,
        variance: Tensor,
        *,
        alpha: float,
        beta: float,
        predictive_weight: float,
        evidence_price: float,
        consistency: Consistency | None,
        consistency_weight: float,
        outputs_of: Callable[[Batch], Tensor],
        classes_of: Callable[[Batch], Tensor],
    ) -> None:
        self.trainer, self.model, self.variance = trainer, model, variance
        self.alpha, self.beta, self.predictive_weight = alpha, beta, predictive_weight
        self.evidence_price = evidence_price
        self.consistency, self.consistency_weight = consistency, consistency_weight
        self.outputs_of, self.classes_of = outputs_of, classes_of

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Take one step and return the terms, each a mean over the batch."""
        model, trainer = self.model, self.trainer
        classes = self.classes_of(batch)
        hidden = model.trunk(batch.inputs)
        informed, predictive = model.informed(hidden, classes), model.predictive(hidden)
        noise = torch.randn(informed.mean.shape, generator=trainer.generator, device=hidden.device)
        codes = informed.draw(noise)
        terms = {
            "reconstruction": log_likelihood(batch.inputs, model.decoder(codes), self.variance),
            "prior": informed.kl(),
            "sufficiency": informed.kl(predictive),
            "classes": cross_entropy(classes, model.class_logits(codes)),
        }
        bound = svae_bound(
            terms["reconstruction"],
            terms["prior"],
            terms["sufficiency"],
            terms["classes"],
            alpha=self.alpha,
            beta=self.beta,
        )
        loss = -bound.mean()
        terms = {name: term.mean() for name, term in terms.items()}
        if self.evidence_price:
            # Style that z1 keeps is style that z2 cannot vary.
            terms["price"] = informed.part(slice(0, model.evidence)).kl().mean()
            loss = loss + self.beta * self.evidence_price * terms["price"]
        if self.predictive_weight or self.consistency is not None:
            noise = torch.randn(noise.shape, generator=trainer.generator, device=hidden.device)
            predicted = predictive.draw(noise)
        if self.predictive_weight:
            terms["predictive"] = cross_entropy(classes, model.class_logits(predicted)).mean()
            loss = loss + self.alpha * self.predictive_weight * terms["predictive"]
        if self.consistency is not None:
            terms["consistency"] = self.consistency(model, batch.inputs, predicted, self.outputs_of(batch), trainer)
            loss = loss + self.consistency_weight * terms["consistency"]
        trainer.minimise(loss, "model")
        return terms


class SemiVAEStep:
    """Maximises M2's bound with the class enumerated.

    Args:
        trainer: brings the optimiser and the generator of random numbers.
        model: M2.
        variance: of the likelihood, broadcast over inputs.
        alpha: weight of the class loss.
        consistency: asks the classifier, or None.
        consistency_weight: its weight.
        outputs_of: gives the classifier's logits on a batch.
        classes_of: gives the class probabilities that supervise.
    """

    def __init__(
        self,
        trainer: Trainer,
        model: SemiVAE,
        variance: Tensor,
        *,
        alpha: float,
        consistency: Consistency | None,
        consistency_weight: float,
        outputs_of: Callable[[Batch], Tensor],
        classes_of: Callable[[Batch], Tensor],
    ) -> None:
        self.trainer, self.model, self.variance, self.alpha = trainer, model, variance, alpha
        self.consistency, self.consistency_weight = consistency, consistency_weight
        self.outputs_of, self.classes_of = outputs_of, classes_of

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Take one step and return the terms, each a mean over the batch."""
        model, trainer = self.model, self.trainer
        classes = self.classes_of(batch)
        hidden = model.trunk(batch.inputs)
        logits = model.head(hidden)
        noise = torch.randn(len(hidden), model.nuisance, generator=trainer.generator, device=hidden.device)
        per_class = self.enumerate(batch.inputs, hidden, noise)
        loss = -m2_bound(per_class, classes, logits, self.alpha).mean()
        terms = {
            "bound": (classes * per_class).sum(1).mean(),
            "classes": cross_entropy(classes, logits).mean(),
        }
        if self.consistency is not None:
            expected = logits.softmax(1)
            codes = torch.cat([expected, model.informed(hidden, expected).draw(noise)], 1)
            terms["consistency"] = self.consistency(model, batch.inputs, codes, self.outputs_of(batch), trainer)
            loss = loss + self.consistency_weight * terms["consistency"]
        trainer.minimise(loss, "model")
        return terms

    def enumerate(self, inputs: Tensor, hidden: Tensor, noise: Tensor) -> Tensor:
        """Return U(x, c) for every class, ``(N, K)``.

        Args:
            inputs: ``(N, *S)``.
            hidden: ``(N, h)`` what the trunk gives for them.
            noise: ``(N, d)`` one draw, shared by the classes.
        """
        n, k = len(inputs), self.model.evidence
        each = torch.eye(k, device=hidden.device).repeat(n, 1)  # row i * K + c is class c for input i
        posterior = self.model.informed(hidden.repeat_interleave(k, 0), each)
        codes = torch.cat([each, posterior.draw(noise.repeat_interleave(k, 0))], 1)
        fit = log_likelihood(inputs.repeat_interleave(k, 0), self.model.decoder(codes), self.variance)
        return (fit - posterior.kl()).view(n, k)


def likelihood_variance(spec: Spec, relative: float) -> Tensor:
    """Return the variance of p(x|z) per channel: that share of the data's own, to broadcast over inputs."""
    return relative * data_scale(spec).square()
