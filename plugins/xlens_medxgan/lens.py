"""The medXGAN lens: codes (z1, z2), of which only z2 carries class evidence."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens import Classifier, Feature, Lens, Spec
from xlens.nn import score_margin, smallest_step
from xlens_medxgan.evidence import Evidence
from xlens_medxgan.inversion import Inversion
from xlens_medxgan.networks import Encoder, Generator, Prior

__all__ = ["MedXGANLens"]

#: Amounts of evidence that are tried, in this order, until the classifier is as sure as of real inputs.
_AMOUNTS = (1.0, 1.25, 1.5)


class MedXGANLens(Lens):
    """Encoder, generator and prior around a classifier.

    A code is ``(z1, z2)``: z1 is everything but the class evidence, z2 holds one block per class but
    the reference class. The amount of evidence comes from the classifier itself, its kind from the encoder.

    Args:
        classifier: the user's classifier.
        spec: the data and the classes.
        reference: the class whose blocks are all zero.
        nuisance_code: width d1 of z1.
        class_code: width d2 of a block of z2.
        width: channels of the networks.
        linear: whether z1 reaches the image through principal components too.
        encoder: whether there is an encoder; without one every code is found by inversion.
        inversion_steps: Adam steps that refine a code.
        inversion_weights: of the classifier's disagreement and of the prior, in a search for a code.
        gaussian: whether the kind of evidence is drawn from N(0, I), and not on a sphere.
        dense: width of fully connected networks, in place of convolutions; None for convolutions.
    """

    usual: Tensor

    def __init__(
        self,
        classifier: Classifier,
        spec: Spec,
        *,
        reference: int,
        nuisance_code: int,
        class_code: int,
        width: int,
        linear: bool,
        encoder: bool,
        inversion_steps: int,
        inversion_weights: tuple[float, float],
        gaussian: bool,
        dense: int | None = None,
    ) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is neither submodule nor state
        self.spec, self.nuisance_code, self.class_code = spec, nuisance_code, class_code
        self.inversion_steps, self.inversion_weights = inversion_steps, inversion_weights
        self.reference_class = reference
        self.encodes_directly = inversion_steps == 0
        self.evidence = Evidence(spec, reference, class_code, gaussian)
        self.generator = Generator(spec, self.evidence, nuisance_code, width, linear, dense)
        self.encoder = Encoder(spec, nuisance_code, class_code, width, dense) if encoder else None
        self.prior = Prior(nuisance_code)
        # One kind of evidence for each class, trained on all inputs, for those that have none of their own.
        # (The mean of a class's own kinds will not do: the generator knows them on that class alone.)
        usual = self.evidence.draw(spec.num_classes, torch.Generator().manual_seed(0))
        self.register_buffer("usual", usual)

    @property
    def classifier(self) -> Classifier:
        """The classifier that the lens was fitted around."""
        return self._classifier[0]

    @property
    def inversion(self) -> Inversion:
        """The search for the code of an input."""
        return Inversion(
            self.decode,
            self.classifier,
            self.prior,
            self.generator.span,
            self.nuisance_code,
            *self.inversion_weights,
        )

    @property
    def features(self) -> list[Feature]:
        """``everything else``, and one block of evidence per class but the reference class."""
        d1, d2 = self.nuisance_code, self.class_code
        names = self.classifier.names(self.spec.num_classes)
        parts = [Feature("everything else", tuple(range(d1)), "nuisance")]
        for i, c in enumerate(self.evidence.classes.tolist()):
            dims = tuple(range(d1 + i * d2, d1 + (i + 1) * d2))
            parts.append(Feature(f"evidence for {names[c]}", dims, "class", c))
        return parts

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to codes ``(N, d)``."""
        codes = self.initial(inputs)
        if self.inversion_steps:
            codes = self.inversion.search(inputs, codes, steps=self.inversion_steps)
        return codes

    def initial(self, inputs: Tensor) -> Tensor:
        """Return the codes at which inversion begins: the encoder's, or the centre of the prior."""
        with torch.no_grad():
            classes, amount = self.evidence.of_logits(self.classifier(inputs).to(inputs.dtype))
            if self.encoder is None:
                z1 = self.prior.mean.expand(len(inputs), -1)
                kind = self.usual[classes]
            else:
                z1, kind = self.encoder(inputs)
            return torch.cat([z1, self.evidence.place(classes, amount, kind)], 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to images ``(N, *S)``."""
        return self.generator(codes[:, : self.nuisance_code], codes[:, self.nuisance_code :])

    @torch.no_grad()
    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Keep z1 and give z2 to the contrast class (all zero for the reference class).

        Evidence for another class keeps the kind that the input has, or gets the usual one, and grows
        until the classifier's margin on the decoding is its median on real inputs of that class.
        """
        z1, blocks = codes[:, : self.nuisance_code], codes[:, self.nuisance_code :]
        own = self.evidence.take(blocks, contrast)
        has_own = own.norm(dim=1, keepdim=True) > 1e-3 * self.class_code**0.5
        kind = torch.where(has_own, self.evidence.on_sphere(own), self.usual[contrast])
        goal = self.evidence.margins[contrast, target]

        def given(rows: Tensor, amount: Tensor) -> Tensor:
            return torch.cat([z1[rows], self.evidence.place(contrast[rows], amount.to(kind.dtype), kind[rows])], 1)

        def score(rows: Tensor, amount: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.classifier(self.decode(given(rows, amount)))
            margin = score_margin(logits, contrast[rows], target[rows])
            return margin, margin >= goal[rows]

        amount, _ = smallest_step(score, len(codes), _AMOUNTS, 0, codes.device)
        return given(torch.arange(len(codes), device=codes.device), amount)

    @torch.no_grad()
    def sample(self, n: int, target: int, generator: torch.Generator) -> Tensor:
        """Return `n` new images ``(n, *S)`` of class `target`, as the paper samples them."""
        z1 = self.prior.draw(n, generator)
        classes = torch.full((n,), target, device=z1.device)
        amount = torch.ones(n, device=z1.device)
        blocks = self.evidence.place(classes, amount, self.evidence.draw(n, generator))
        return self.decode(torch.cat([z1, blocks], 1))

    @torch.no_grad()
    def invariances(self, codes: Tensor, n: int, scale: float, generator: torch.Generator, vary: str) -> Tensor:
        """Return codes ``(N, n, d)``: z1 redrawn around itself with z2 held, or the reverse.

        Args:
            codes: ``(N, d)``.
            n: variants per input.
            scale: standard deviation of the change, in those of the prior.
            generator: draws it.
            vary: ``"nuisance"`` for z1; ``"class"`` for the kind of evidence, its amount held.
        """
        varied = codes.repeat_interleave(n, 0)
        if vary == "nuisance":
            change = self.prior.draw(len(varied), generator) - self.prior.mean
            varied[:, : self.nuisance_code] += scale * change
            return varied.view(len(codes), n, -1)
        blocks = varied[:, self.nuisance_code :].view(len(varied), -1, self.class_code)
        length = blocks.norm(dim=2, keepdim=True)
        noise = self.evidence.draw(len(varied), generator)[:, None, :]
        moved = blocks + scale * noise * length / self.class_code**0.5
        redrawn = moved * length / moved.norm(dim=2, keepdim=True).clamp_min(1e-12)
        varied[:, self.nuisance_code :] = redrawn.flatten(1)
        return varied.view(len(codes), n, -1)

    def invert(self, inputs: Tensor, *, steps: int, restarts: int, generator: torch.Generator) -> Tensor:
        """Search for codes from independent starts in the prior, ``(restarts, N, d)`` (paper, eq. 5).

        Which block may be used is the classifier's to say; what is in it, and z1, is drawn anew for each start.
        """
        found = []
        for _ in range(restarts):
            z1 = self.prior.draw(len(inputs), generator)
            with torch.no_grad():
                classes, _ = self.evidence.of_logits(self.classifier(inputs).to(inputs.dtype))
            amount = torch.rand(len(inputs), generator=generator, device=inputs.device)
            # From N(0, I), as z1 is, and not from somewhere on the way there.
            amount = torch.ones_like(amount) if self.evidence.gaussian else amount
            kind = self.evidence.draw(len(inputs), generator)
            start = torch.cat([z1, self.evidence.place(classes, amount, kind)], 1)
            found.append(self.inversion.search(inputs, start, steps=steps))
        return torch.stack(found)
