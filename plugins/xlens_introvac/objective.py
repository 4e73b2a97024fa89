"""The losses of one training step: VAC, and the game that makes it IntroVAC.

The game is about classes and about what is real, and about attributes where that is asked for; otherwise encoder
and head learn them from real inputs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens.data import Attributes, Batch
from xlens.nn import held
from xlens.training import Trainer
from xlens_introvac.networks import LinearHead

__all__ = ["Objective", "Weights", "attribute_loss", "class_loss", "prior_loss"]


@dataclass(frozen=True)
class Weights:
    """Weights of the terms: b_AE, b_CL, b_reg, b_EC, b_G of the paper, and one for the attributes."""

    reconstruction: float
    classes: float
    attributes: float
    prior: float
    detect: float
    fool: float


def prior_loss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, I)), averaged over rows and dimensions (L_reg)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def class_loss(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Return the binary cross entropies of real inputs, summed over the K + 1 logits (L_CL); they are not fake.

    Args:
        logits: ``(N, K + 1)``.
        probabilities: ``(N, K)`` the classifier's own.
    """
    wanted = F.pad(probabilities, (0, 1))
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1).mean()


def attribute_loss(read: Tensor, values: Tensor, binary: Tensor) -> Tensor:
    """Return the loss of the attributes, over what is observed: cross entropy, or half the squared error.

    Args:
        read, values: ``(N, A)``; NaN in `values` where not observed.
        binary: ``(A,)``.
    """
    seen = values.isfinite()
    wanted = torch.where(seen, values, torch.zeros_like(values))
    logistic = F.binary_cross_entropy_with_logits(read, wanted.clamp(0, 1), reduction="none")
    each = torch.where(binary, logistic, 0.5 * (read - wanted).square())
    # Per observation and not per row, so that a rarely observed attribute counts as much as another.
    count = seen.sum(0).clamp_min(1)
    return (torch.where(seen, each, torch.zeros_like(each)).sum(0) / count).sum()


def _norm(gradients: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([gradient.norm() for gradient in gradients]).norm()


class Objective:
    """Computes one training step.

    Args:
        trainer: brings the networks ``encoder``, ``decoder``, ``head``, their optimisers and random numbers.
        weights: the weights.
        span: range of each channel, in whose units errors are measured.
        introspection: whether the decoder plays against encoder and head (IntroVAC), or not (VAC).
        share: the game's pull on the decoder's weights is at the most this many times that of the reconstruction;
            None leaves it as it is.
        classed_samples: whether it also has to give prior samples the class that the head reads in their code.
        attributes: side information, or None; encoder and head learn it from real inputs, and the decoder is not
            asked to bring it out, but through the reconstruction.
        attribute_game: whether the decoder is asked to, so that reconstructions are read as what was observed.
        probabilities_of: gives the class probabilities ``(n, K)`` that supervise a batch.
    """

    def __init__(
        self,
        trainer: Trainer,
        weights: Weights,
        span: Tensor,
        *,
        introspection: bool,
        share: float | None,
        classed_samples: bool,
        attributes: Attributes | None,
        attribute_game: bool,
        probabilities_of: Callable[[Batch], Tensor],
    ) -> None:
        self.trainer, self.weights, self.span = trainer, weights, span
        self.introspection, self.share = introspection, share
        self.classed_samples, self.attributes, self.attribute_game = classed_samples, attributes, attribute_game
        self.probabilities_of = probabilities_of

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Take one step of every network and return the losses."""
        inputs, classes = batch.inputs, self.probabilities_of(batch)
        mean, log_variance = self._network("encoder")(inputs)
        codes = mean + self._noise(mean.shape) * (0.5 * log_variance).exp()
        terms = {
            "classes": class_loss(self._network("head")(codes), classes),
            "prior": prior_loss(mean, log_variance),
        }
        if self.attributes is not None:
            terms["attributes"] = self._attribute_loss(codes, batch)
        if self.introspection:
            return terms | self._play(batch, classes, codes, self._total(terms))
        terms["reconstruction"] = self._error(self._network("decoder")(codes), inputs)
        self.trainer.minimise(self._total(terms), "encoder", "decoder")
        return terms

    def _attribute_loss(self, codes: Tensor, batch: Batch) -> Tensor:
        """Return the loss of reading these codes ``(N, d)`` as what was observed of the batch's inputs."""
        known = cast(Attributes, self.attributes)
        index = cast(Tensor, batch.index).cpu()
        read = cast(LinearHead, self._network("head")).read_attributes(codes)
        return attribute_loss(read, known.values[index].to(read.device), known.binary.to(read.device))

    def _play(self, batch: Batch, classes: Tensor, codes: Tensor, loss: Tensor) -> dict[str, Tensor]:
        """Step encoder and head, who learn to tell decodings, and then the decoder, who learns to fool them.

        The reconstruction is decoded once, from detached codes: its error reaches the encoder through its
        gradient in those codes, and the decoder in the decoder's own step, together with what it gains there.
        """
        inputs, n, decoder = batch.inputs, len(batch.inputs), self._network("decoder")
        leaf = codes.detach().requires_grad_()
        drawn = self._noise(codes.shape)
        decoded = decoder(torch.cat([leaf, drawn]))
        error = self._error(decoded[:n], inputs)
        (pull,) = torch.autograd.grad(self.weights.reconstruction * error, leaf, retain_graph=True)
        fake = self._network("head")(self._codes(decoded.detach()))[:, -1]
        detect = F.softplus(-fake[:n]).mean() + F.softplus(-fake[n:]).mean()
        self.trainer.minimise(loss + (codes * pull).sum() + self.weights.detect * detect, "encoder")
        with held(self._network("encoder"), self._network("head")):
            # Judged anew, by those who have just learned.
            again = self._codes(decoded)
            logits = self._network("head")(again)
            own = self._network("head")(drawn)[:, :-1].softmax(1)
            read = self._attribute_loss(again[:n], batch) if self._attributes_play else None
        fool = class_loss(logits[:n], classes)
        if read is not None:
            fool = fool + read
        if self.classed_samples:
            fool = fool + class_loss(logits[n:], own)
        else:
            fool = fool + F.softplus(logits[n:, -1]).mean()
        kept, game = self.weights.reconstruction * error, self.weights.fool * fool
        self.trainer.minimise(kept + self._allowed(kept, game) * game, "decoder")
        return {"reconstruction": error, "detect": detect, "fool": fool}

    def _allowed(self, kept: Tensor, game: Tensor) -> Tensor:
        """Return the factor, at most 1, that keeps the game's pull on the decoder within its share.

        What fools is unbounded: the encoder's logits of poor decodings grow without end, and with them the pull,
        which then makes decodings poorer still. How strong the reconstruction's own pull is depends on the data.
        """
        if self.share is None:
            return game.new_ones(())
        weights = list(self._network("decoder").parameters())
        own, other = (_norm(torch.autograd.grad(term, weights, retain_graph=True)) for term in (kept, game))
        return (self.share * own / other.clamp_min(1e-12)).clamp(max=1)

    @property
    def _attributes_play(self) -> bool:
        return self.attribute_game and self.attributes is not None

    def _codes(self, images: Tensor) -> Tensor:
        return self._network("encoder")(images)[0]

    def _error(self, decoded: Tensor, inputs: Tensor) -> Tensor:
        return ((decoded - inputs) / self.span).abs().mean()

    def _noise(self, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=self.trainer.generator, device=self.span.device)

    def _total(self, terms: Mapping[str, Tensor]) -> Tensor:
        return sum(getattr(self.weights, name) * term for name, term in terms.items())

    def _network(self, name: str) -> nn.Module:
        return self.trainer.networks[name]
