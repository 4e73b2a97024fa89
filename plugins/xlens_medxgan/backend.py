"""The medXGAN backend: its options, and how a lens is fitted."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import xlens
from xlens import Classifier, Run, Spec, param
from xlens.data import Batch, Data
from xlens.errors import OptionError
from xlens.nn import Penultimate, is_dense
from xlens.training import Trainer, classifier_logits, supervising_logits
from xlens_medxgan.critics import ClassifierCritic, ProjectionDiscriminator
from xlens_medxgan.lens import MedXGANLens
from xlens_medxgan.networks import Encoder, PrincipalComponents
from xlens_medxgan.objective import Objective, Weights

__all__ = ["MedXGAN"]

#: Channels of what is a picture, at most.
_CHANNELS = 4


@xlens.options
class MedXGAN(xlens.Backend):
    """A GAN with an encoder whose code separates class evidence from everything else.

    The defaults extend the paper: an encoder, soft amounts of evidence, and a critic that begins as a
    copy of the classifier. ``MedXGAN.paper()`` gives the paper's own settings.

    References:
        Dravid et al. (2022), medXGAN: Visual Explanations for Medical Classifiers through a Generative
        Latent Space.
    """

    name = "medxgan"
    capabilities = ("sample", "invariances", "invert", "representations")
    follows_gradients = True

    steps: int = param(700, ge=1, help="training steps")
    batch_size: int = param(48, ge=2, help="inputs per step")
    reference: int = param(0, ge=0, help="the reference class ('healthy'), whose evidence blocks are all zero")
    nuisance_code: int = param(64, ge=1, formerly="nuisance", help="width of z1, everything but the class evidence")
    class_code: int = param(16, ge=1, formerly="block", help="width of a block of z2, the evidence for one class")
    network: str = param(
        "auto",
        choices=("auto", "dense", "convolutional"),
        help="kind of networks; auto is convolutional for images of 1 to 4 channels and at least 8 pixels a side",
    )
    hidden: int = param(256, ge=8, help="width of the hidden layers of dense networks")
    width: int = param(24, ge=4, help="channels of convolutional networks at full resolution")
    linear: bool = param(True, help="z1 also reaches the image through the data's principal components")
    encoder: bool = param(True, help="train an encoder; without one codes are found by inversion alone")
    class_prior: str = param(
        "sphere",
        choices=("sphere", "gaussian"),
        help="what kinds of evidence are drawn from: the sphere of radius sqrt(class_code), or N(0, I) (paper)",
    )
    inversion_steps: int = param(0, ge=0, help="Adam steps that refine each code when explaining")
    inversion_weight: float = param(
        0.1, ge=0, help="the classifier's disagreement in a search for a code; paper: 1"
    )
    inversion_prior: float = param(1e-4, ge=0, help="distance of z1 from its prior in such a search; paper: 0")
    soft: bool = param(True, help="draw amounts of evidence between 0 and 1, with soft class targets")
    hinge: bool = param(True, help="hinge loss for the discriminator; False is the paper's cross entropy")
    conditional: bool = param(True, help="the discriminator sees the classifier's class")
    spectral: bool = param(True, help="spectral normalisation of the discriminator; the paper has none")
    shifts: str = param(
        "discriminator",
        choices=("discriminator", "both", "none"),
        help="whose steps see images shifted by a few pixels: the discriminator's, the generator's too, or none",
    )
    warm_up: float = param(0.15, ge=0, lt=1, help="share of the steps spent on reconstruction alone")
    learning_rate: float = param(1e-3, gt=0, help="Adam's, for encoder and generator")
    critic_rate: float = param(3e-4, gt=0, help="Adam's, for the critic that begins as a copy of the classifier")
    discriminator_rate: float = param(8e-4, gt=0, help="Adam's, for the discriminator")
    schedule: str = param(
        "decayed", choices=("decayed", "constant"), help="learning rates that warm up and fall, or stay as they are"
    )
    clip: float | None = param(5.0, gt=0, help="largest norm of a gradient; None: no limit")
    ema: float = param(0.998, ge=0, lt=1, help="decay of the averaged weights that are kept")
    mse_weight: float = param(40.0, ge=0, help="squared error of the reconstruction")
    l1_weight: float = param(10.0, ge=0, help="absolute error of the reconstruction")
    feature_weight: float = param(0.2, ge=0, help="the classifier's penultimate features of the reconstruction")
    logit_weight: float = param(0.1, ge=0, help="the classifier's logits of the reconstruction")
    class_weight: float = param(0.5, ge=0, help="the classifier's class of edits and samples (lambda in the paper)")
    critic_weight: float = param(0.2, ge=0, help="the critic that begins as the classifier's copy; 0: none")
    adversarial_weight: float = param(0.04, ge=0, help="the discriminator; 0 leaves it out")
    sparsity_weight: float = param(1.5, ge=0, help="absolute change that an edit makes")
    cycle_weight: float = param(0.1, ge=0, help="edits and samples keep the z1 that they were made from")

    @classmethod
    def paper(cls, **options: Any) -> MedXGAN:
        """Return the paper's settings (eqs. 1 to 5): no encoder, z2 zero or from N(0, I), cross entropies alone.

        Codes are as wide as for its MRI; for its X-rays ``nuisance_code=100, class_code=10``. What it does not say
        is ours: the networks, Adam's rates, 500 steps of inversion (10,000 in its section 5), from the centre of
        z1's prior and not from a draw (:func:`xlens_medxgan.invert` draws), and a generator that gains as the
        discriminator's logit rises (the non-saturating form of eq. 4). The classes are the classifier's.

        Args:
            **options: fields that should differ.
        """
        faithful: dict[str, Any] = {
            "linear": False,
            "encoder": False,
            "nuisance_code": 1000,
            "class_code": 100,
            "class_prior": "gaussian",
            "inversion_steps": 500,
            "inversion_weight": 1.0,
            "inversion_prior": 0.0,
            "soft": False,
            "hinge": False,
            "conditional": False,
            "spectral": False,
            "shifts": "none",
            "schedule": "constant",
            "clip": None,
            "learning_rate": 2e-4,
            "discriminator_rate": 2e-4,
            "ema": 0.0,
            "critic_weight": 0.0,
            "adversarial_weight": 1.0,
            "class_weight": 1.0,
        }
        return cls(**{**faithful, **options})

    def build(self, classifier: Classifier, spec: Spec) -> MedXGANLens:
        """Return an untrained lens.

        Raises:
            UnsupportedError: convolutions for what is no picture.
            OptionError: the reference class does not exist, or nothing would find codes.
        """
        if self.reference >= spec.num_classes:
            raise OptionError(
                "medxgan: the reference class does not exist",
                given=f"reference={self.reference}",
                allowed=f"0 to {spec.num_classes - 1}",
            )
        if not self.encoder and not self.inversion_steps:
            raise OptionError(
                "medxgan: without an encoder codes are found by inversion alone",
                given="encoder=False and inversion_steps=0",
                do="set inversion_steps, e.g. to 500",
            )
        return MedXGANLens(
            classifier,
            spec,
            reference=self.reference,
            nuisance_code=self.nuisance_code,
            class_code=self.class_code,
            width=self.width,
            linear=self.linear,
            encoder=self.encoder,
            inversion_steps=self.inversion_steps,
            inversion_weights=(self.inversion_weight, self.inversion_prior),
            gaussian=self.class_prior == "gaussian",
            dense=self._dense(spec),
        )

    def _dense(self, spec: Spec) -> int | None:
        # Every picture gets convolutions.
        return self.hidden if is_dense(spec, self.network, up_to=0, channels=_CHANNELS, who="medxgan") else None

    def fit(self, classifier: Classifier, data: Data, run: Run) -> MedXGANLens:
        """Fit a lens; see :func:`xlens.fit`."""
        lens = self.build(classifier, run.spec).to(run.device, torch.float32)
        probe = next(data.batches(2)).inputs.to(run.device)
        # Where neither network has components, the mean is all that is taken.
        count = self.nuisance_code if self.linear or self.encoder else 1
        basis = PrincipalComponents.of(_some(data, run).to(run.device), count)
        lens.generator.set_components(basis)
        if lens.encoder is not None:
            lens.encoder.set_components(basis)
        trainer = self._trainer(classifier, lens, run, probe)

        def outputs_of(batch: Batch) -> Tensor:
            return classifier_logits(classifier, run, batch)

        def labels_of(batch: Batch) -> Tensor:
            return supervising_logits(classifier, run, batch)

        objective = Objective(
            trainer,
            lens.evidence,
            lens.prior,
            lens.usual,
            Penultimate(classifier, classifier.model, probe),
            self._weights(),
            soft=self.soft,
            hinge=self.hinge,
            warm_up=int(self.warm_up * self.steps),
            shifts=self.shifts,
            outputs_of=outputs_of,
            labels_of=labels_of,
        )
        trainer.fit(data, objective, batch_size=self.batch_size)
        lens.generator.load_state_dict(trainer.averaged("generator").state_dict())
        if lens.encoder is not None:
            lens.encoder.load_state_dict(trainer.averaged("encoder").state_dict())
            _settle(lens.eval(), lens.encoder, data, run)
        return lens

    def _weights(self) -> Weights:
        return Weights(
            mse=self.mse_weight,
            l1=self.l1_weight,
            features=self.feature_weight,
            logits=self.logit_weight,
            classes=self.class_weight,
            critic=self.critic_weight,
            adversarial=self.adversarial_weight,
            sparsity=self.sparsity_weight,
            cycle=self.cycle_weight,
        )

    def _trainer(self, classifier: Classifier, lens: MedXGANLens, run: Run, probe: Tensor) -> Trainer:
        networks = {"generator": lens.generator, "prior": lens.prior}
        kept = {"generator": self.ema}
        if lens.encoder is not None:
            networks["encoder"] = lens.encoder
            kept["encoder"] = self.ema
        direct = [p for p in (lens.generator.components,) if p is not None]
        weights = [
            p for network in networks.values() for p in network.parameters() if all(p is not d for d in direct)
        ]
        groups: list[dict[str, Any]] = [{"params": weights}]
        if direct:
            groups.append({"params": direct, "lr": self.learning_rate / 5})
        optimizers = {"lens": torch.optim.Adam(groups, self.learning_rate, (0.5, 0.99))}
        if self.critic_weight:
            critic = ClassifierCritic(classifier, probe, float(lens.evidence.above.median()))
            critic = critic.to(run.device, torch.float32)
            networks["critic"] = critic
            optimizers["critic"] = torch.optim.Adam(critic.parameters(), self.critic_rate, (0.5, 0.99))
        if self.adversarial_weight:
            judge = ProjectionDiscriminator(
                run.spec, conditional=self.conditional, dense=self._dense(run.spec), spectral=self.spectral
            )
            judge = judge.to(run.device, torch.float32)
            networks["discriminator"] = judge
            optimizers["discriminator"] = torch.optim.Adam(judge.parameters(), self.discriminator_rate, (0.5, 0.99))
        return Trainer(
            run,
            "medxgan",
            networks=networks,
            optimizers=optimizers,
            steps=self.steps,
            schedule=_schedule if self.schedule == "decayed" else _constant,
            ema=kept,
            clip=self.clip,
        )


def _some(data: Data, run: Run) -> Tensor:
    """Return up to 4096 inputs (fewer large ones), drawn from all of the data where they have an order."""
    count = max(512, min(4096, 2**26 // math.prod(run.spec.shape)))
    parts: list[Tensor] = []
    for batch in data.batches(generator=torch.Generator().manual_seed(run.seed)):
        parts.append(batch.inputs)
        if sum(map(len, parts)) >= count:
            break
    return torch.cat(parts)[:count]


def _schedule(done: float) -> float:
    """Warm up over 3% of the steps, hold, and fall to a twentieth over the last 40%."""
    rise = min(1.0, (done + 1e-3) / 0.03)
    return rise * (1.0 if done < 0.6 else 0.05 + 0.95 * (1 - done) / 0.4)


def _constant(done: float) -> float:
    return 1.0


@torch.no_grad()
def _settle(lens: MedXGANLens, encoder: Encoder, data: Data, run: Run) -> None:
    """Take the prior from what the final encoder gives on the data."""
    codes: list[Tensor] = []
    for batch in data.batches(generator=torch.Generator().manual_seed(run.seed)):
        batch = batch.to(run.device)
        codes.append(encoder(batch.inputs)[0])
        if sum(map(len, codes)) >= 8192:
            break
    z1 = torch.cat(codes)
    lens.prior.mean.copy_(z1.mean(0))
    centred = z1 - lens.prior.mean
    lens.prior.covariance.copy_(centred.T @ centred / len(z1))
    lens.prior.refresh()
