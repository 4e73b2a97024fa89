"""The losses of one training step: the autoencoder, its introspection, and the separation of the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from xlens.data import Batch
from xlens.nn import held
from xlens.training import Trainer
from xlens_dif.posterior import Posterior, bounded
from xlens_dif.separation import Statistic, logistic_separation, mean_embedding_separation

__all__ = ["Objective", "Terms", "penalty"]

#: Exponent beyond which the soft penalty grows only linearly. Decodings resemble real inputs, so what lifts their
#: KL lifts the other, which is the mark: with a slope above that of the prior's term both run away together.
_STEEPEST = 0.5


@dataclass(frozen=True)
class Terms:
    """Kinds and weights of the terms.

    Args:
        game: how encoder and decoder play against each other.
        separation: what pulls classes apart.
        reconstruction: weight of the squared error, summed over the values of an input.
        prior: weight of the KL.
        play: weight of the introspective terms.
        margin: of ``"margin"``, in multiples of the real inputs' KL.
        fixed_margin: the same in nats (m), in its place; None for none.
        sharpness: of ``"exponential"``, per nat.
        share: of the separation, relative to the value of the reconstruction term: that of eta Lambda, or of the
            logistic loss at chance.
        eta: fixed weight of the separation, in the place of a share; None for none.
        statistic: what ``"me"`` maximises.
        bound: C.
    """

    game: Literal["exponential", "margin", "none"]
    separation: Literal["me", "logistic", "none"]
    reconstruction: float
    prior: float
    play: float
    margin: float
    fixed_margin: float | None
    sharpness: float
    share: float
    eta: float | None
    statistic: Statistic
    bound: float


def penalty(fake: Tensor, real: Tensor, terms: Terms) -> Tensor:
    """Return what the encoder pays for decodings whose KL is not above that of real inputs, ``()``.

    Both kinds follow the KL of real inputs: with a fixed margin (the paper's m, on request), or a fixed exponent,
    the play ends by itself as soon as real inputs lie above it.

    Args:
        fake: ``(m,)`` KL of decodings.
        real: ``(n,)`` KL of real inputs.
        terms: ``"margin"`` is [m - KL]+ of IntroVAE; ``"exponential"`` is after Soft-IntroVAE, and not it: its
            authors have exp(-2 s ELBO) of decodings that are decoded again, with a KL that weighs 256 times the
            error; here it is of the KL alone, against that of real inputs.
    """
    usual = real.detach().mean()
    if terms.game == "margin":
        margin = terms.margin * usual if terms.fixed_margin is None else terms.fixed_margin
        return (margin - fake).clamp_min(0).mean()
    exponent = terms.sharpness * (usual - fake)
    # Beyond the steepest point as the tangent, so that no fake can blow the step up.
    steep = exponent.clamp(max=_STEEPEST).exp()
    return ((steep * (1 + (exponent - _STEEPEST).clamp_min(0))) / terms.sharpness).mean()


class Objective:
    """Computes one training step.

    Args:
        trainer: brings the networks ``encoder`` and ``decoder``, their optimisers and random numbers.
        terms: kinds and weights of the losses.
        span: range of each channel, in whose units errors are measured.
        num_classes: K.
        classes_of: gives the classes ``(n,)`` of a batch, asked once a step.
    """

    def __init__(
        self,
        trainer: Trainer,
        terms: Terms,
        span: Tensor,
        *,
        num_classes: int,
        classes_of: Callable[[Batch], Tensor],
    ) -> None:
        self.trainer, self.terms, self.span = trainer, terms, span
        self.num_classes, self.classes_of = num_classes, classes_of

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Take one step of each network and return the losses."""
        inputs, terms = batch.inputs, self.terms
        posterior = self._posterior(inputs)
        codes = posterior.draw(self._noise(posterior.mean.shape), terms.bound)
        real = posterior.kl()
        losses = {"kl": real.mean()}
        loss = terms.prior * losses["kl"]
        if terms.game == "none":
            error = self._error(self._network("decoder")(codes), inputs)
            loss = loss + terms.reconstruction * error + self._separate(codes, batch, error, losses)
            self.trainer.minimise(loss, "encoder", "decoder")
            return losses | {"reconstruction": error}
        return losses | self._play(batch, codes, real, loss, losses)

    def _play(
        self, batch: Batch, codes: Tensor, real: Tensor, loss: Tensor, losses: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Step the encoder, which learns to give decodings a larger KL, and then the decoder, which lowers it.

        The reconstruction is decoded once, from detached codes: its error reaches the encoder through its gradient
        in those codes, and the decoder in its own step, in which the encoder that has just learned is held.
        """
        n, terms = len(batch.inputs), self.terms
        leaf = codes.detach().requires_grad_()
        drawn = bounded(self._noise(codes.shape), terms.bound)
        decoded = self._network("decoder")(torch.cat([leaf, drawn]))
        error = self._error(decoded[:n], batch.inputs)
        (pull,) = torch.autograd.grad(terms.reconstruction * error, leaf, retain_graph=True)
        fake = self._posterior(decoded.detach()).kl()
        # Once for reconstructions and once for samples, so twice the mean over both, halved.
        push = terms.play * penalty(fake, real, terms)
        loss = loss + (codes * pull).sum() + push + self._separate(codes, batch, error, losses)
        self.trainer.minimise(loss, "encoder")
        with held(self._network("encoder")):
            lowered = self._posterior(decoded).kl().mean()
        self.trainer.minimise(terms.reconstruction * error + terms.play * lowered, "decoder")
        return {"reconstruction": error, "fake_kl": fake[n:].mean(), "penalty": push}

    def _separate(self, codes: Tensor, batch: Batch, error: Tensor, losses: dict[str, Tensor]) -> Tensor:
        """Return the separation term, weighted by the reconstruction's where its weight is not given."""
        terms = self.terms
        if terms.separation == "none":
            return codes.new_zeros(())
        scale = terms.share * terms.reconstruction * error.detach() if terms.eta is None else terms.eta
        classes = self.classes_of(batch)
        if terms.separation == "logistic":
            losses["separation"] = logistic_separation(codes, classes, self.num_classes)
            return scale * losses["separation"]
        found = mean_embedding_separation(codes, classes, self.trainer.generator, terms.statistic)
        if found is None:
            return codes.new_zeros(())
        losses["separation"] = found
        # Of a logarithm: its gradient is that of eta Lambda with eta such that eta Lambda is the share.
        return -scale * found

    def _posterior(self, inputs: Tensor) -> Posterior:
        return Posterior(*self._network("encoder")(inputs))

    def _error(self, decoded: Tensor, inputs: Tensor) -> Tensor:
        """Return the squared error in units of the range, summed over values, averaged over rows."""
        return ((decoded - inputs) / self.span).square().flatten(1).sum(1).mean()

    def _noise(self, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=self.trainer.generator, device=self.span.device)

    def _network(self, name: str) -> nn.Module:
        return self.trainer.networks[name]
