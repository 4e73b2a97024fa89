"""The IntroVAC backend: its options, and how a lens is fitted."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import xlens
from xlens import Classifier, Run, Spec, param
from xlens.data import Attributes, Batch, Data, attributes_of
from xlens.errors import OptionError, XlensWarning
from xlens.nn import is_dense
from xlens.training import Trainer, supervising_logits, warmed_and_decayed
from xlens_introvac.course import CollapsedError, Course
from xlens_introvac.health import examine
from xlens_introvac.lens import IntroVACLens
from xlens_introvac.objective import Objective, Weights

__all__ = ["IntroVAC"]


#: Added to the seed of the fit, so that the codes calibrated on are none of those that sampling begins with.
_CALIBRATION_SEED = 1_000_003
#: Steps between two looks at whether the game is lost.
_ASKED_EVERY = 25


@xlens.options
class IntroVAC(xlens.Backend):
    """A variational autoencoder with a direction for each class and attribute, sharpened by introspection.

    Nothing in it sees the classifier's gradient: it gives class probabilities of the data, once.
    ``introspection=False`` is VAC.
    The defaults are smaller and faster than the paper's; ``IntroVAC.paper()`` goes back to its weights, widths and
    sampler, and says what still differs. Attributes are learned by encoder and head alone, unless
    ``attribute_game`` is set: the decoder is held to them by the reconstruction, and takes no part in them when it
    plays against the other two.

    References:
        Maggipinto, Terzi, Susto (2020), IntroVAC: Introspective Variational Classifiers for Learning
        Interpretable Latent Subspaces.
    """

    name = "introvac"
    capabilities = ("sample", "directions", "side_info", "representations")

    steps: int = param(1500, ge=1, help="training steps")
    batch_size: int = param(64, ge=2, help="inputs per step")
    code: int = param(24, ge=2, help="width of the code; more than classes and attributes together")
    introspection: bool = param(True, help="the decoder plays against encoder and head; False is VAC")
    classed_samples: bool = param(True, help="introspection gives prior samples the class that the head reads")
    network: str = param(
        "auto",
        choices=("auto", "dense", "convolutional", "residual"),
        help="kind of networks; auto is dense up to 4096 values an input, residual the paper's",
    )
    hidden: int = param(512, ge=8, help="width of the hidden layers of dense networks")
    width: int = param(24, ge=4, help="channels of convolutional networks at full resolution")
    attributes: tuple[str, ...] = param((), help="names of the columns of side_info")
    learning_rate: float = param(1e-3, gt=0, help="Adam's")
    ema: float = param(0.995, ge=0, lt=1, help="decay of the averaged weights that are kept")
    reconstruction_weight: float = param(100.0, ge=0, help="absolute error of the reconstruction (b_AE)")
    class_weight: float = param(1.0, ge=0, help="cross entropies of the linear head, summed (b_CL)")
    attribute_game: bool = param(
        False,
        help="attributes take part in the game: the decoder also makes decodings that are read as they are (paper)",
    )
    attribute_weight: float = param(3.0, ge=0, help="losses of the attributes, summed")
    prior_weight: float = param(3.0, ge=0, help="KL to the prior per dimension (b_reg)")
    detect_weight: float = param(0.3, ge=0, help="encoder and head tell decodings from real inputs (b_EC)")
    fool_weight: float = param(1.0, ge=0, help="the decoder fools encoder and head (b_G)")
    game_share: float | None = param(
        0.5,
        gt=0,
        help="most that the game pulls on the decoder, relative to the reconstruction; None: no limit (paper)",
    )
    restarts: int = param(2, ge=0, help="how often a fit whose game destroys the reconstruction is begun anew")
    schedule: str = param(
        "decayed",
        choices=("decayed", "halved", "constant"),
        help="learning rates that warm up and fall, are halved at .4, .6 and .8 of the steps (paper), or stay",
    )
    clip: float | None = param(20.0, gt=0, help="largest norm of a gradient; None: no limit (paper)")
    longest_step: float = param(8.0, gt=0, help="how far a counterfactual may go in the code")
    calibrated: bool = param(True, help="sampling uses the head calibrated on the classifier's answers")
    langevin_step: float = param(0.2, gt=0, help="step of the Langevin iteration, to begin with")
    langevin_steps: int = param(400, ge=4, help="number of its steps")
    sharpness: float = param(4.0, gt=0, help="power of p(class|code) that is sampled from; 1 is the posterior")
    metropolis: bool = param(True, help="accept or reject each of its steps; False is the paper's iteration")

    @classmethod
    def paper(cls, **options: Any) -> IntroVAC:
        """Return the paper's weights, width of the code, game and sampler.

        What differs from the paper still: its networks normalise groups of channels of each input and not batches;
        ``steps`` and ``batch_size`` are this backend's defaults; the classes are the classifier's K classes with
        its own probabilities, where the paper learns a labelled attribute; attributes have a linear read-out with a
        bias, and a weight of their own beside that of the game. Reconstruction errors are in units of each
        channel's range, and a counterfactual's length is searched for and not fixed. The paper's plain VAC, which
        has no decay, is ``IntroVAC.paper(introspection=False, schedule="constant")`` with four times the steps.

        Args:
            **options: fields that should differ.
        """
        faithful: dict[str, Any] = {
            "code": 256,
            "classed_samples": False,
            "network": "residual",
            "width": 32,
            "learning_rate": 2e-4,
            "ema": 0.0,
            # The paper averages two logits (one attribute and "fake") where this sums.
            "class_weight": 5.0,
            "detect_weight": 0.01,
            "fool_weight": 5.0,
            "game_share": None,
            "attribute_game": True,
            "attribute_weight": 5.0,
            "schedule": "halved",
            "clip": None,
            "restarts": 0,
            "calibrated": False,
            "langevin_step": 2e-4,
            "langevin_steps": 5000,
            "metropolis": False,
            "sharpness": 1.0,
        }
        return cls(**{**faithful, **options})

    def build(self, classifier: Classifier, spec: Spec) -> IntroVACLens:
        """Return an untrained lens.

        Raises:
            OptionError: the code is too narrow.
            UnsupportedError: convolutions for what is no image, or too small a one.
        """
        self._check_width(spec, 0)
        return IntroVACLens(
            classifier,
            spec,
            code=self.code,
            hidden=self.hidden,
            width=self.width,
            dense=is_dense(spec, self.network),
            residual=self.network == "residual",
            longest_step=self.longest_step,
            langevin_step=self.langevin_step,
            langevin_steps=self.langevin_steps,
            metropolis=self.metropolis,
            sharpness=self.sharpness,
            attribute_names=self.attributes,
        )

    def fit(self, classifier: Classifier, data: Data, run: Run) -> IntroVACLens:
        """Fit a lens; see :func:`xlens.fit`.

        Raises:
            OptionError: attributes do not fit `side_info`, or are called like something else.
            DataError: a column of `side_info` holds nothing to learn.

        Warns:
            XlensWarning: the game destroyed the reconstruction, and the fit is begun anew with a quarter of its
                share; or the lens fails its health test, with what is wrong.
        """
        attributes = self._attributes(run)
        for attempt in range(self.restarts):
            try:
                lens = self._attempt(classifier, data, run, attributes, attempt)
                break
            except CollapsedError as collapse:
                warnings.warn(f"fit: begun anew, because {collapse}", XlensWarning, stacklevel=3)
        else:
            lens = self._attempt(classifier, data, run, attributes, self.restarts)
        if problems := lens.health.problems:
            warnings.warn(
                f"fit: the lens is not sound: {'; '.join(problems)}. See explainer.lens.health; raise steps, lower "
                "game_share or fool_weight, or set introspection=False",
                XlensWarning,
                stacklevel=3,
            )
        return lens

    def _attempt(
        self, classifier: Classifier, data: Data, run: Run, attributes: Attributes | None, attempt: int
    ) -> IntroVACLens:
        """Train a lens from new weights and examine it.

        Raises:
            CollapsedError: the game is destroying the reconstruction, and this is not the last attempt.
        """
        # Built anew each time, so that an attempt starts alike when it is the first of a resumed run.
        torch.manual_seed(run.seed + attempt)
        # Nor does an attempt after the first begin with an earlier lens, whose game may be lost already.
        run = dataclasses.replace(run, start_from=None) if attempt else run
        lens = self.build(classifier, run.spec)
        if attributes is not None:
            lens.head.add_attributes(attributes.values.shape[1])
        lens = lens.to(run.device, torch.float32)
        networks = {name: getattr(lens, name) for name in ("encoder", "decoder", "head")}
        judges = [*lens.encoder.parameters(), *lens.head.parameters()]
        course = Course()
        trainer = Trainer(
            run,
            "introvac" if not attempt else f"introvac-{attempt + 1}",
            networks={**networks, "course": course},
            optimizers={
                "encoder": torch.optim.Adam(judges, self.learning_rate),
                "decoder": torch.optim.Adam(lens.decoder.parameters(), self.learning_rate),
            },
            steps=self.steps,
            schedule=_SCHEDULES[self.schedule],
            ema=dict.fromkeys(networks, self.ema),
            clip=self.clip,
        )
        trainer.generator.manual_seed(run.seed + attempt)

        def probabilities_of(batch: Batch) -> Tensor:
            return supervising_logits(classifier, run, batch).softmax(1)

        objective = Objective(
            trainer,
            self._weights(),
            run.spec.span().to(run.device),
            introspection=self.introspection,
            # The last game was too rough for these data.
            share=None if self.game_share is None else self.game_share / 4**attempt,
            classed_samples=self.classed_samples,
            attributes=attributes,
            attribute_game=self.attribute_game,
            probabilities_of=probabilities_of,
        )

        def step(batch: Batch) -> Mapping[str, Tensor]:
            # Asked seldom, as the answer has to come from the device; before the step, when all processes agree.
            if attempt < self.restarts and trainer.step_index % _ASKED_EVERY == 0 and course.lost:
                times = f"{course.worsening:.1f} times as bad as it had been"
                raise CollapsedError(f"at step {trainer.step_index} the reconstruction is {times}")
            losses = objective(batch)
            course.follow(losses["reconstruction"], first=trainer.step_index == 0)
            return losses

        trainer.fit(data, step, batch_size=self.batch_size)
        for name, network in networks.items():
            network.load_state_dict(trainer.averaged(name).state_dict())
        lens.eval().turn()
        if self.calibrated:
            lens.calibrate(torch.Generator(run.device).manual_seed(run.seed + _CALIBRATION_SEED))
        lens.keep(examine(lens, classifier, data, run, worsening=course.worsening))
        return lens

    def _weights(self) -> Weights:
        return Weights(
            reconstruction=self.reconstruction_weight,
            classes=self.class_weight,
            attributes=self.attribute_weight,
            prior=self.prior_weight,
            detect=self.detect_weight,
            fool=self.fool_weight,
        )

    def _attributes(self, run: Run) -> Attributes | None:
        found = attributes_of(self.name, run.side_info, self.attributes)
        if found is not None:
            self._check_width(run.spec, found.values.shape[1])
        return found

    def _check_width(self, spec: Spec, attributes: int) -> None:
        least = spec.num_classes + attributes
        if self.code < least:
            raise OptionError(
                "introvac: the code is too narrow for its directions",
                given=f"code={self.code} for {spec.num_classes} classes and {attributes} attributes",
                allowed=f"at least {least}",
                do=f"set code={least + 16}",
            )


def _halved(done: float) -> float:
    """Halve at epochs 60, 90 and 120 of 150."""
    return 0.5 ** sum(done >= at for at in (0.4, 0.6, 0.8))


def _constant(done: float) -> float:
    return 1.0


_SCHEDULES = {"decayed": warmed_and_decayed, "halved": _halved, "constant": _constant}
