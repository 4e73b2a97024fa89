"""The IntroVAC lens: a code in which classes and attributes are directions."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens import Classifier, Feature, Spec
from xlens.errors import XlensWarning
from xlens.nn import AskingLens, CodeDecoder, GaussianEncoder, margin_over_rest, step_that_reaches
from xlens_introvac.calibration import calibrate
from xlens_introvac.health import Health
from xlens_introvac.langevin import langevin
from xlens_introvac.networks import LinearHead
from xlens_introvac.sampling import Draw, check_draw, holds, log_likelihood

__all__ = ["Draw", "IntroVACLens"]

_BATCH = 256
_ROUNDS = 12
_CALIBRATED_ON = 4096


class IntroVACLens(AskingLens):
    """Encoder, decoder and a linear head on the code.

    The code is turned so that its first K - 1 dimensions span the classes and the next A the attributes (as far
    as they are not in that span already); nothing else of the head lies in the others. An attribute's feature is
    therefore only the part of its direction that neither classes nor earlier attributes hold, under the same
    name: ``edit``, ``traverse`` and ``directions`` mean the whole direction by it, contributions the dimension.

    Args:
        classifier: the user's classifier.
        spec: the data and the classes.
        code: width d of the code.
        hidden, width, dense, residual: the networks.
        longest_step: how far a counterfactual may go.
        langevin_step, langevin_steps, metropolis, sharpness: how new codes are drawn.
        attribute_names: names of the attributes; numbered where there are none.
    """

    basis: Tensor
    scale: Tensor
    offsets: Tensor
    health_figures: Tensor
    examined = True

    def __init__(
        self,
        classifier: Classifier,
        spec: Spec,
        *,
        code: int,
        hidden: int,
        width: int,
        dense: bool,
        residual: bool,
        longest_step: float,
        langevin_step: float,
        langevin_steps: int,
        metropolis: bool,
        sharpness: float,
        attribute_names: tuple[str, ...],
    ) -> None:
        super().__init__(classifier, spec)
        self.code, self.longest_step = code, longest_step
        self.langevin_step, self.langevin_steps = langevin_step, langevin_steps
        self.metropolis, self.sharpness = metropolis, sharpness
        self._attribute_names = attribute_names
        self.encoder = GaussianEncoder(spec, code, hidden, width, dense, residual)
        self.decoder = CodeDecoder(spec, code, hidden, width, dense, residual)
        self.head = LinearHead(code, spec.num_classes)
        self.register_buffer("basis", torch.eye(code))
        # Where the classifier's own boundary is on decodings; used for sampling, not for directions.
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("offsets", torch.zeros(spec.num_classes))
        self.register_buffer("health_figures", torch.zeros(len(dataclasses.fields(Health))))

    @property
    def health(self) -> Health:
        """What the health test found when the lens was fitted."""
        return Health(*self.health_figures.tolist())

    def keep(self, health: Health) -> None:
        """Keep what the health test found with the lens."""
        self.health_figures.copy_(torch.tensor(dataclasses.astuple(health)))

    @property
    def _evidence_names(self) -> tuple[str, ...]:
        return tuple(f"evidence for {name}" for name in self.class_names)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Names of the attributes."""
        return self._attribute_names or tuple(f"attribute {a}" for a in range(len(self.head.attributes)))

    @property
    def features(self) -> list[Feature]:
        """``everything else``, the class evidence, and one dimension per attribute.

        An attribute's dimension is what Gram and Schmidt leave of its direction after the classes and the
        attributes before it; see the class.
        """
        own, count = self.spec.num_classes - 1, len(self.head.attributes)
        several = own > 1
        name = "class evidence" if several else self._evidence_names[1]
        parts = [
            Feature("everything else", tuple(range(own + count, self.code)), "nuisance"),
            Feature(name, tuple(range(own)), "class", None if several else 1),
        ]
        return parts + [Feature(n, (own + a,), "attribute") for a, n in enumerate(self.attribute_names)]

    @property
    def directions(self) -> Mapping[str, Tensor]:
        """Name -> unit vector ``(d,)``: one per class, against the mean of the others, and one per attribute."""
        rows = self.head.classes[:-1]
        k = len(rows)
        against = rows - (rows.sum(0) - rows) / (k - 1)
        pairs = zip([*self._evidence_names, *self.attribute_names], [*against, *self.head.attributes], strict=True)
        return {name: F.normalize(w.detach(), dim=0) for name, w in pairs}

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to codes ``(N, d)``: the encoder's mean."""
        return self.encoder(inputs)[0] @ self.basis

    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``."""
        return self.decoder(codes @ self.basis.T)

    @torch.no_grad()
    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Move along the unit vector of ``w_contrast - w_target`` until the classifier is sure of `contrast`.

        The step is the smallest found at which the classifier's margin on the decoding is its median on real
        inputs of the contrast class; where no step reaches that, the one with the best margin.
        """
        direction = F.normalize(self.head.classes[contrast] - self.head.classes[target], dim=1)

        def score(rows: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
            moved = codes[rows] + steps[:, None] * direction[rows]
            return self.convinces(moved, target[rows], contrast[rows])

        steps, _ = step_that_reaches(score, len(codes), self.longest_step, codes.device)
        return codes + steps[:, None] * direction

    def encode_draws(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return codes ``(M, N, d)`` from q(z|x), for noise ``(M, d)``."""
        mean, log_variance = self.encoder(inputs)
        return (mean + (0.5 * log_variance).exp() * noise.unsqueeze(1)) @ self.basis

    def potential(
        self, codes: Tensor, target: int | None, attributes: Mapping[str, bool | float] | None = None
    ) -> Tensor:
        """Return ``U(z) = -s log p(target, attributes|z) + |z|^2 / 2`` per row, ``(N,)``, with s the sharpness.

        Given the code, class and attributes are independent of each other. What an attribute may be, :meth:`draw`
        says; without a target any class will do.

        p is the head's: independent logistic classes, given that exactly one holds, are a softmax. s = 1 is the
        posterior; half of it lies close to the boundary, where real inputs are rare. s > 1 is the posterior given
        that many labels that agree.
        """
        prior = codes.square().sum(1) / 2
        if not attributes and target is not None:
            return -self.sharpness * self.class_logits(codes).log_softmax(1)[:, target] + prior
        log_p = torch.zeros_like(prior)
        if target is not None:
            log_p = log_p + self.class_logits(codes).log_softmax(1)[:, target]
        return -self.sharpness * (log_p + log_likelihood(self._read(codes), attributes or {})) + prior

    def _read(self, codes: Tensor) -> dict[str, Tensor]:
        """Return what the head reads of each attribute, ``(N,)`` by its name."""
        return dict(zip(self.attribute_names, self.head.read_attributes(codes).T, strict=True))

    def class_logits(self, codes: Tensor) -> Tensor:
        """Return the head's logits ``(N, K)``, calibrated to the classifier on decodings where that was asked."""
        return self.scale * self.head(codes)[:, :-1] + self.offsets

    def sample(self, n: int, target: int, generator: torch.Generator) -> Tensor:
        """Return `n` inputs ``(n, *S)`` that the classifier puts in class `target`.

        :meth:`draw` says how they were found.

        Raises:
            OptionError, SamplingError: as :meth:`draw`.

        Warns:
            XlensWarning: the classifier accepts too few; the nearest fill the gap.
        """
        drawn = self.draw(n, target, generator)
        missing = int((~drawn.kept).sum())
        if missing:
            warnings.warn(
                f"sample: the classifier puts only {drawn.accepted_by_classifier:.0%} of the decodings in class "
                f"{target}; {missing} of {n} samples are the nearest to it that were found",
                XlensWarning,
                stacklevel=2,
            )
        return drawn.inputs

    @torch.no_grad()
    def draw(
        self,
        n: int,
        target: int | None,
        generator: torch.Generator,
        attributes: Mapping[str, bool | float] | None = None,
    ) -> Draw:
        """Run Langevin chains from the prior, decode, and reject what the classifier does not call `target`.

        Args:
            n: inputs wanted.
            target: their class; None for any, where attributes are given.
            generator: draws everything.
            attributes: name -> True or False, of what is yes or no; or a number, in standard deviations of a
                measured one, which is read with a deviation of 1. What is not read so off the decoding, encoded
                again, is rejected too: the head's own word, as the classifier knows no attributes.

        Raises:
            OptionError: `n` is no whole number of at least 1, or there is no such class or attribute.
            SamplingError: chains diverged (without the Metropolis test only).
        """
        attributes = {} if attributes is None else attributes
        check_draw(n, target, self.spec.num_classes, attributes, self.attribute_names)
        device = self.basis.device
        codes: list[Tensor] = []
        margins: list[Tensor] = []
        heads: list[Tensor] = []
        chains = []
        for _ in range(_ROUNDS):
            start = torch.randn(max(n, 32), self.code, generator=generator, device=device)
            chains.append(
                langevin(
                    lambda z: self.potential(z, target, attributes),
                    start,
                    step=self.langevin_step,
                    steps=self.langevin_steps,
                    generator=generator,
                    metropolis=self.metropolis,
                )
            )
            found = chains[-1].codes
            codes.append(found)
            margins.append(self._margins(found, target, attributes))
            held = holds(self._read(found), attributes).expand(len(found))
            heads.append(held if target is None else held & (self.class_logits(found).argmax(1) == target))
            if int((torch.cat(margins) > 0).sum()) >= n:
                break
        every, margin, by_head = torch.cat(codes), torch.cat(margins), torch.cat(heads)
        accepted = margin > 0
        # The accepted in the order in which they were drawn, so that sure ones are not preferred.
        order = torch.where(accepted, torch.inf, margin).sort(descending=True, stable=True).indices[:n]
        chosen = every[order]
        inputs = torch.cat([self.decode(part) for part in chosen.split(_BATCH)])
        return Draw(
            inputs=inputs,
            codes=chosen,
            accepted_by_classifier=float(accepted.float().mean()),
            accepted_by_head=float(accepted[by_head].float().mean()) if bool(by_head.any()) else 0.0,
            acceptance=sum(c.acceptance for c in chains) / len(chains),
            r_hat=max(c.r_hat for c in chains),
            kept=accepted[order],
            read=torch.cat([self.head.read_attributes(self.encode(part)) for part in inputs.split(_BATCH)]),
        )

    def _margins(self, codes: Tensor, target: int | None, attributes: Mapping[str, bool | float]) -> Tensor:
        """Return by how much the classifier accepts decodings of codes, ``(N,)``; above 0 it does.

        Where attributes are asked for that are not read off the decoding, it is below anything that is accepted.
        """
        decoded = torch.cat([self.decode(part) for part in codes.split(_BATCH)])
        margin = torch.ones(len(codes), device=codes.device)
        if target is not None:
            logits = torch.cat([self.classifier(part) for part in decoded.split(_BATCH)])
            margin = margin_over_rest(logits, torch.full((len(codes),), target, device=codes.device))
            # What the classifier gives no number is worth less than anything else.
            margin = torch.where(margin.isfinite(), margin, -torch.inf)
        if attributes:
            again = torch.cat([self.encode(part) for part in decoded.split(_BATCH)])
            margin = torch.where(holds(self._read(again), attributes), margin, margin.clamp_max(0) - 1)
        return margin

    @torch.no_grad()
    def turn(self) -> None:
        """Turn the code so that classes and attributes have dimensions of their own (once, after training)."""
        rows = self.head.classes[:-1].double()
        # From the second class on against the first: K - 1 vectors that span all differences.
        spanned = torch.cat([rows[1:] - rows[:1], self.head.attributes.double()])
        every = torch.cat([spanned, torch.eye(self.code, dtype=torch.float64, device=rows.device)])
        basis, triangle = torch.linalg.qr(every.T)
        # QR leaves the signs open; each dimension is to grow with what it stands for.
        signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0)
        basis = (basis * signs).to(self.basis.dtype)
        self.basis.copy_(self.basis @ basis)
        for weights in (self.head.classes, self.head.attributes):
            weights.copy_(weights @ basis)

    @torch.no_grad()
    def calibrate(self, generator: torch.Generator) -> None:
        """Fit scale and offsets of the class logits to the classifier's answers on decodings of the prior."""
        device = self.basis.device
        codes = torch.randn(_CALIBRATED_ON, self.code, generator=generator, device=device)
        answers = torch.cat([self.classifier(self.decode(part)).argmax(1) for part in codes.split(_BATCH)])
        scale, offsets = calibrate(self.head(codes)[:, :-1], answers.to(device))
        self.scale.copy_(scale)
        self.offsets.copy_(offsets)
