"""The SVAE lens: codes (z1, z2), of which only z1 says anything about the class."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens import Classifier, Feature, Lens, Spec
from xlens.nn import margin_over_rest, score_margin, smallest_step
from xlens_svae.models import Model

__all__ = ["SVAELens"]

#: Shares of the way from z1 to the centre of the contrast class that are tried, in this order, until the classifier
#: is as sure as of real inputs.
_WAYS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0, 1.2, 1.4)


class SVAELens(Lens):
    """A supervised VAE, or M2, around a classifier.

    Args:
        classifier: the user's classifier.
        spec: the data and the classes.
        model: the generative model.
        redraws: whether :meth:`invariances` draws z2 anew from N(0, scale^2), and not around the input's own.
    """

    margins: Tensor
    centres: Tensor
    factors: Tensor

    def __init__(self, classifier: Classifier, spec: Spec, model: Model, redraws: bool = False) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is neither submodule nor state
        self.spec, self.model, self.redraws = spec, model, redraws
        self.register_buffer("margins", spec.usual_margins(), persistent=False)
        # What z1 is on inputs of each class: its mean, and a factor of its covariance.
        self.register_buffer("centres", torch.zeros(spec.num_classes, model.evidence))
        self.register_buffer("factors", torch.eye(model.evidence).repeat(spec.num_classes, 1, 1))

    @property
    def classifier(self) -> Classifier:
        """The classifier that the lens was fitted around."""
        return self._classifier[0]

    @property
    def features(self) -> list[Feature]:
        """Each dimension of z1 (``class evidence``) and of z2 (``nuisance``) on its own, counted from 1."""
        d1 = self.model.evidence
        evidence = [Feature(f"class evidence {i + 1}", (i,), "class") for i in range(d1)]
        return evidence + [Feature(f"nuisance {i + 1}", (d1 + i,), "nuisance") for i in range(self.model.nuisance)]

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to the mean of q(z|x), ``(N, d)``."""
        return self.model.encode(inputs)

    def encode_draws(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return codes ``(M, N, d)`` from q(z|x), for noise ``(M, d)``."""
        return self.model.draws(inputs, noise)

    def predict(self, inputs: Tensor, noise: Tensor | None) -> Tensor:
        """Return what the lens itself takes inputs for, ``(N, K)``.

        Args:
            inputs: ``(N, *S)``.
            noise: ``(M, d)``; p(y|z1) is averaged over M draws of q(z1|x) (paper, eq. 7). None: at its mean.
        """
        if noise is None:
            return self.class_probabilities(self.encode(inputs))
        drawn = self.model.draws(inputs, noise)
        return self.class_probabilities(drawn.flatten(0, 1)).view(len(noise), len(inputs), -1).mean(0)

    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``."""
        return self.model.decoder(codes)

    def class_probabilities(self, codes: Tensor) -> Tensor:
        """Return p(y|z1) for codes ``(N, d)``, ``(N, K)``: what the lens itself takes them for."""
        return self.model.class_logits(codes).softmax(1)

    @torch.no_grad()
    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Move z1 toward the centre of the contrast class, and keep z2.

        It stops as soon as the classifier's margin over `target` on the decoding is its median on real
        inputs of the contrast class, with that class on top; where that is never so, at the best step.
        """
        d1 = self.model.evidence
        start, kept = codes[:, :d1], codes[:, d1:]
        goal = self.margins[contrast, target]

        def moved(rows: Tensor, share: Tensor) -> Tensor:
            z1 = torch.lerp(start[rows], self.centres[contrast[rows]], share[:, None].to(start.dtype))
            return torch.cat([self.model.admissible(z1), kept[rows]], 1)

        def score(rows: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
            to = contrast[rows]
            logits = self.classifier(self.decode(moved(rows, share))).to(goal.dtype)
            # What is missing, of the margin over the target and of being on top at all; 0 where it is reached.
            missing = goal[rows] - score_margin(logits, to, target[rows])
            lack = torch.maximum(missing, -margin_over_rest(logits, to)).clamp_min(0)
            return -lack, lack <= 0

        share, _ = smallest_step(score, len(codes), _WAYS, 0, codes.device)
        return moved(torch.arange(len(codes), device=codes.device), share)

    @torch.no_grad()
    def sample(self, n: int, target: int, generator: torch.Generator) -> Tensor:
        """Return `n` new inputs ``(n, *S)``: z1 from the codes of class `target`, z2 from its prior."""
        device = self.centres.device
        noise = torch.randn(n, self.model.evidence + self.model.nuisance, generator=generator, device=device)
        d1 = self.model.evidence
        noise[:, :d1] = self.model.admissible(self.centres[target] + noise[:, :d1] @ self.factors[target].T)
        return self.decode(noise)

    @torch.no_grad()
    def invariances(self, codes: Tensor, n: int, scale: float, generator: torch.Generator, vary: str) -> Tensor:
        """Return codes ``(N, n, d)``: one part drawn around itself, the other held.

        The paper draws z2 from N(0, scale^2) instead, which :meth:`redrawn` does, and this one where the lens
        `redraws`. Around the input's own z2 the change that is carried onto the input is smaller, and the
        classifier keeps its class more often.

        Args:
            codes: ``(N, d)``.
            n: variants per input.
            scale: standard deviation, in those of the prior for z2, and of the classes' centres for z1.
            generator: draws it.
            vary: ``"nuisance"`` for z2, ``"class"`` for z1.
        """
        if self.redraws and vary == "nuisance":
            return self.redrawn(codes, n, scale, generator)
        d1 = self.model.evidence
        varied = codes.unsqueeze(1).repeat(1, n, 1)
        part = slice(d1, None) if vary == "nuisance" else slice(0, d1)
        unit = 1.0 if vary == "nuisance" else self.centres.std(0)
        noise = torch.randn(varied[:, :, part].shape, generator=generator, device=codes.device)
        varied[:, :, part] += scale * unit * noise
        if vary == "class":
            varied[:, :, part] = self.model.admissible(varied[:, :, part])
        return varied

    @torch.no_grad()
    def redrawn(self, codes: Tensor, n: int, scale: float, generator: torch.Generator) -> Tensor:
        """Return codes ``(N, n, d)`` with z2 from N(0, scale^2) and z1 held (the paper's invariance test)."""
        varied = codes.unsqueeze(1).repeat(1, n, 1)
        shape = (len(codes), n, self.model.nuisance)
        varied[:, :, self.model.evidence :] = scale * torch.randn(shape, generator=generator, device=codes.device)
        return varied

    def divergence(self, inputs: Tensor, variants: Tensor, part: str) -> Tensor:
        """Return KL[q(z_k|x) || q(z_k|x~)], ``(N,)``; gradients flow (paper, eq. 9)."""
        return self.model.divergence(inputs, variants, part)
