"""The losses: what each network is trained for in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.data import Batch
from xlens.nn import Penultimate, held
from xlens.training import Trainer
from xlens_medxgan.critics import ClassifierCritic, ProjectionDiscriminator, shifted
from xlens_medxgan.evidence import Evidence
from xlens_medxgan.networks import Generator, Prior

__all__ = ["Objective", "Weights"]

#: Real pairs with the wrong class count as much as edited inputs, for the critic.
_WRONG_CLASS = 0.5
#: Noise on z1 in reconstructions, in its standard deviations, so that near codes decode alike.
_NOISE = 0.05


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the lens's loss."""

    mse: float
    l1: float
    features: float
    logits: float
    classes: float
    critic: float
    adversarial: float
    sparsity: float
    cycle: float


@dataclass(frozen=True)
class _Edits:
    """Decodings whose class is ours to say.

    Args:
        images: ``(M, *S)``.
        classes: ``(M,)`` class that each should be of.
        blocks: ``(M,)`` class whose block is used.
        amount: ``(M,)`` evidence in it.
        pure: ``(M,)`` whether it is meant to be of one class and not half-way.
    """

    images: Tensor
    classes: Tensor
    blocks: Tensor
    amount: Tensor
    pure: Tensor


class Objective:
    """Computes one training step.

    Args:
        trainer: brings networks, optimisers and the generator of random numbers.
        evidence: the layout of z2.
        prior: follows the encoder's z1.
        usual: ``(K, d2)`` the kind of evidence that is given to inputs that have none of their own.
        perceive: the classifier's logits and features.
        weights: the weights.
        soft: whether amounts between 0 and 1 are drawn, with soft class targets.
        hinge: hinge losses for the discriminator, or the paper's cross entropy.
        warm_up: steps of reconstruction alone.
        shifts: in which steps the discriminator sees shifted images: its own, the generator's too, or none. The
            critic sees them in both, unless there are none.
        outputs_of: gives the classifier's logits on a batch.
        labels_of: gives the logits whose largest is the class that supervises.
    """

    def __init__(
        self,
        trainer: Trainer,
        evidence: Evidence,
        prior: Prior,
        usual: Tensor,
        perceive: Penultimate,
        weights: Weights,
        *,
        soft: bool,
        hinge: bool,
        warm_up: int,
        shifts: str,
        outputs_of: Callable[[Batch], Tensor],
        labels_of: Callable[[Batch], Tensor],
    ) -> None:
        self.trainer, self.evidence, self.prior, self.perceive = trainer, evidence, prior, perceive
        self.usual = usual
        self.weights, self.soft, self.hinge, self.warm_up = weights, soft, hinge, warm_up
        self.shifts, self.outputs_of, self.labels_of = shifts, outputs_of, labels_of
        self.networks = trainer.networks

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Take one step of every network and return the losses."""
        inputs, logits = batch.inputs, self.outputs_of(batch)
        labels = self.labels_of(batch).argmax(1)
        n = len(inputs)
        classes, amount = self.evidence.of_logits(logits)
        terms: dict[str, Tensor] = {}
        editing = self.trainer.step_index >= self.warm_up or "encoder" not in self.networks
        if "encoder" in self.networks:
            z1, kind = self.networks["encoder"](inputs)
            self.prior.follow(z1.detach(), self.trainer.processes)
            noise = torch.randn(z1.shape, generator=self.trainer.generator, device=z1.device)
            plans = [(z1 + _NOISE * noise, self.evidence.place(classes, amount, kind))]
            if editing:
                edits = self._plan_edits(labels, classes, kind)
                samples = self._plan_samples(max(n // 3, 2), n)
                plans += [(z1, edits[0]), samples[:2]]
            unbounded = self._generate(plans)
            images = self._bound(unbounded)
            if editing:
                images = torch.cat([images[:n], self._carried(inputs, unbounded), images[2 * n :]])
            found, seen = self.perceive(images)
            terms |= self._reconstruction(inputs, logits, images[:n], found[:n], seen[:n])
            if not editing:
                self.trainer.minimise(self._total(terms), "lens")
                return terms
            edited = _Edits(images[n : 2 * n], *edits[1:])
            sampled = _Edits(images[2 * n :], *samples[2:])
            # Unclamped, so that an edit cannot hide beyond the range.
            terms["sparsity"] = (unbounded[n : 2 * n] - unbounded[:n].detach()).abs().mean() / self._span
            terms["cycle"] = self._cycle(edited, sampled, z1, samples[0])
            both = _join(edited, sampled)
            terms["classes"] = self._class_term(found[n:], both)
            self._train_judges(inputs, labels, edited, sampled)
            terms |= self._judged(edited, sampled)
        else:
            samples = self._plan_samples(n, n)
            sampled = _Edits(self._bound(self._generate([samples[:2]])), *samples[2:])
            terms["classes"] = self._class_term(self.perceive(sampled.images)[0], sampled)
            nothing = _Edits(*(part[:0] for part in vars(sampled).values()))
            self._train_judges(inputs, labels, nothing, sampled)
            terms |= self._judged(nothing, sampled)
        self.trainer.minimise(self._total(terms), "lens")
        return terms

    @property
    def _generator(self) -> Generator:
        return cast(Generator, self.networks["generator"])

    @property
    def _span(self) -> Tensor:
        return self._generator.span.mean()

    def _total(self, terms: Mapping[str, Tensor]) -> Tensor:
        ramp = min(1.0, (self.trainer.step_index - self.warm_up) / 100) if "encoder" in self.networks else 1.0
        ramped = ("critic", "adversarial")
        parts = (
            getattr(self.weights, name) * (ramp if name in ramped else 1.0) * term for name, term in terms.items()
        )
        return sum(parts, torch.zeros((), device=self.prior.mean.device))

    def _generate(self, plans: list[tuple[Tensor, Tensor]]) -> Tensor:
        z1 = torch.cat([plan[0] for plan in plans])
        return self._generator.unbounded(z1, torch.cat([plan[1] for plan in plans]))

    def _carried(self, inputs: Tensor, unbounded: Tensor) -> Tensor:
        """Return half of the edits as decoded, and half carried onto the real inputs, as they will be used."""
        n = len(inputs)
        reconstruction, edited = unbounded[:n], unbounded[n : 2 * n]
        onto_input = self._coin(n, 0.5).view(-1, *([1] * (inputs.dim() - 1)))
        return self._bound(torch.where(onto_input, inputs + edited - reconstruction, edited))

    def _bound(self, images: Tensor) -> Tensor:
        return self._generator.bound(images)

    def _plan_edits(
        self, predicted: Tensor, classes: Tensor, kind: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Plan an edit of each input toward another class; a quarter of them stop on the way."""
        evidence, n = self.evidence, len(predicted)
        positive = predicted != evidence.reference
        other = self._other_class(predicted, classes)
        to_reference = positive & ((other == evidence.reference) | self._coin(n, 0.5))
        blocks = torch.where(to_reference, classes, other)
        blocks = torch.where(blocks == evidence.reference, classes, blocks)
        drawn = evidence.draw(n, self.trainer.generator)
        drawn = torch.where(self._coin(n, 0.4)[:, None], self.usual[blocks], drawn)
        own = to_reference | self._coin(n, 0.4)
        kind = torch.where(own[:, None], kind, drawn)
        amount = torch.where(to_reference, 0.0, 1.0)
        between = self._coin(n, 0.25 if self.soft else 0.0)
        amount = torch.where(between, self._uniform(n), amount)
        wanted = torch.where(to_reference, torch.full_like(blocks, evidence.reference), blocks)
        return evidence.place(blocks, amount, kind), wanted, blocks, amount, ~between

    def _plan_samples(self, count: int, like: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Plan decodings of the prior: 40% without evidence, 30% with it, the rest between."""
        evidence = self.evidence
        choice = torch.randint(
            len(evidence.drawable), (count,), generator=self.trainer.generator, device=evidence.drawable.device
        )
        blocks = evidence.drawable[choice]
        draw = self._uniform(count)
        ends = (0.4, 0.7) if self.soft else (0.5, 1.0)
        amount = torch.where(draw < ends[0], 0.0, torch.where(draw < ends[1], 1.0, self._uniform(count)))
        wanted = torch.where(amount > 0.5, blocks, torch.full_like(blocks, evidence.reference))
        pure = (amount == 0) | (amount == 1)
        z1 = self.prior.draw(count, self.trainer.generator)
        kind = evidence.draw(count, self.trainer.generator)
        return z1, evidence.place(blocks, amount, kind), wanted, blocks, amount, pure

    def _reconstruction(
        self, inputs: Tensor, logits: Tensor, images: Tensor, found: Tensor, seen: Tensor
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            _, real = self.perceive(inputs)
        error = (images - inputs) / self._span
        scale = self.evidence.above.median().clamp_min(1e-3)
        return {
            "mse": error.square().mean(),
            "l1": error.abs().mean(),
            "features": (seen - real).abs().mean() / real.abs().mean().clamp_min(1e-3),
            "logits": 4 * F.smooth_l1_loss(found, logits) / scale,
        }

    def _class_term(self, logits: Tensor, edits: _Edits) -> Tensor:
        """KL from the wanted class probabilities to the classifier's, on the classifier's logits."""
        wanted = self.evidence.target(edits.blocks, edits.amount, self.soft)
        return F.kl_div(logits.log_softmax(1), wanted, reduction="batchmean")

    def _cycle(self, edited: _Edits, sampled: _Edits, z1: Tensor, sampled_z1: Tensor) -> Tensor:
        """Edited and sampled images have to keep the z1 of what they were made from."""
        k = max(len(sampled_z1) // 2, 1)
        again, _ = self.networks["encoder"](torch.cat([edited.images[:k], sampled.images[:k]]))
        return F.mse_loss(again, torch.cat([z1[:k].detach(), sampled_z1[:k]]))

    def _train_judges(self, inputs: Tensor, classes: Tensor, edited: _Edits, sampled: _Edits) -> None:
        n, sampled_count = len(inputs), len(sampled.images)
        if "critic" in self.networks:
            critic = cast(ClassifierCritic, self.networks["critic"])
            pure = edited.pure
            batch = torch.cat([inputs, edited.images[pure].detach(), sampled.images.detach()])
            logits, features = critic(self._seen(batch))
            shown = (logits[:n], features[:n])
            end = n + int(pure.sum())
            loss = F.relu(1 - critic.judge(shown, classes)).mean()
            wrong = self._other_class(classes, classes)
            loss = loss + _WRONG_CLASS * F.relu(1 + critic.judge(shown, wrong)).mean()
            fake = F.relu(1 + critic.judge((logits[n:end], features[n:end]), edited.classes[pure]))
            made = F.relu(1 + critic.judge((logits[end:], features[end:]), sampled.classes)) * sampled.pure
            share = 0.7 if len(fake) else 0.0
            blamed = share * (fake.mean() if len(fake) else 0.0) + (1 - share) * made.mean()
            self.trainer.minimise(loss + (1 - _WRONG_CLASS) * blamed, "critic")
        if "discriminator" in self.networks:
            judge = cast(ProjectionDiscriminator, self.networks["discriminator"])
            some = _first(edited, sampled_count)
            fakes = _join(some, sampled)
            features = judge(self._seen(torch.cat([inputs, fakes.images.detach()])))
            real = judge.judge(features[:n], classes)
            made = judge.judge(features[n:], fakes.classes)
            if self.hinge:
                loss = F.relu(1 - real).mean() + F.relu(1 + made).mean()
            else:
                loss = F.softplus(-real).mean() + F.softplus(made).mean()
            self.trainer.minimise(loss, "discriminator")

    def _judged(self, edited: _Edits, sampled: _Edits) -> dict[str, Tensor]:
        """What the lens has to change to convince its judges, which are held still."""
        terms: dict[str, Tensor] = {}
        if "critic" in self.networks:
            critic = cast(ClassifierCritic, self.networks["critic"])
            pure, count = edited.pure, int(edited.pure.sum())
            with held(critic):
                batch = torch.cat([edited.images[pure], sampled.images])
                seen = critic(self._seen(batch))
                scores = critic.judge(seen, torch.cat([edited.classes[pure], sampled.classes]))
            terms["critic"] = -0.5 * (scores[count:] * sampled.pure).mean()
            if count:
                terms["critic"] = terms["critic"] - scores[:count].mean()
        if "discriminator" in self.networks:
            judge = cast(ProjectionDiscriminator, self.networks["discriminator"])
            fakes = _join(_first(edited, len(sampled.images)), sampled)
            with held(judge):
                images = self._seen(fakes.images) if self.shifts == "both" else fakes.images
                scores = judge.judge(judge(images), fakes.classes)
            terms["adversarial"] = -scores.mean() if self.hinge else F.softplus(-scores).mean()
        return terms

    def _seen(self, images: Tensor) -> Tensor:
        """Return images as judges see them."""
        return images if self.shifts == "none" else shifted(images, self.trainer.generator)

    def _other_class(self, predicted: Tensor, classes: Tensor) -> Tensor:
        """Return another class for each input: the one that explaining would choose, or any."""
        evidence, k = self.evidence, self.evidence.num_classes
        reference = torch.full_like(predicted, evidence.reference)
        usual = torch.where(predicted == evidence.reference, classes, reference)
        usual = torch.where(usual == predicted, (predicted + 1) % k, usual)
        offset = torch.randint(1, k, predicted.shape, generator=self.trainer.generator, device=predicted.device)
        drawn = (predicted + offset) % k
        return torch.where(self._coin(len(predicted), 0.5) | ~evidence.seen[drawn], usual, drawn)

    def _uniform(self, n: int) -> Tensor:
        return torch.rand(n, generator=self.trainer.generator, device=self.prior.mean.device)

    def _coin(self, n: int, probability: float) -> Tensor:
        return self._uniform(n) < probability


def _join(first: _Edits, second: _Edits) -> _Edits:
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return _Edits(*(torch.cat(pair) for pair in pairs))


def _first(edits: _Edits, count: int) -> _Edits:
    return _Edits(*(part[:count] for part in vars(edits).values()))
