"""The DIF backend: its options, and how a lens is fitted."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

import xlens
from xlens import Classifier, Run, Spec, param
from xlens.data import Batch, Data
from xlens.errors import OptionError, XlensWarning
from xlens.nn import is_dense
from xlens.training import Trainer, processes, supervising_logits, warmed_and_decayed
from xlens_dif.health import Health, examine
from xlens_dif.lens import DIFLens
from xlens_dif.objective import Objective, Terms
from xlens_dif.separation import Statistic, hardly_compared
from xlens_dif.sparse import PENALTIES

__all__ = ["DIF"]

#: Largest gradient norm: losses are sums over values, so this only catches outliers.
_CLIP = 200.0


@xlens.options
class DIF(xlens.Backend):
    """An introspective autoencoder whose code is pulled apart by class, and the few features that tell the classes.

    Nothing in it sees the classifier's gradient: it gives the classes of the data, once. ``game="none",
    separation="none"`` is a VAE. ``DIF.paper()`` has the paper's objective.

    It is not taught: its names are of the classifier's own classes, of which nothing is unknown. What people say is
    learned on its codes, by a lens over it: ``xlens.fit(model, data, "ilvm", over=explainer, side_info=...)``.

    References:
        Hu, Sejdinovic, Robust Deep Interpretable Features for Binary Image Classification; Huang et al. (2018),
        IntroVAE; Daniel, Tamar (2021), Soft-IntroVAE.
    """

    name = "dif"
    capabilities = ("sample", "directions", "invariances", "representations")

    steps: int = param(2000, ge=1, help="training steps")
    batch_size: int = param(128, ge=8, help="inputs per step")
    code: int = param(24, ge=2, help="width of the code")
    bound: float = param(3.0, gt=0, help="codes lie between -bound and bound (C)")
    game: str = param(
        "exponential",
        choices=("exponential", "margin", "none"),
        formerly="introspection",
        values_formerly={"soft": "exponential"},
        help="how decoder and encoder play: a penalty after Soft-IntroVAE, IntroVAE's margin, or not (a VAE)",
    )
    separation: str = param("me", choices=("me", "logistic", "none"), help="what pulls the classes apart")
    drawn_classes: bool = param(
        True, help="each step draws an input's class from the classifier's probabilities, not the most probable"
    )
    separation_share: float = param(0.1, ge=0, help="value of the separation term over that of the reconstruction")
    eta: float | None = param(
        None, gt=0, help="fixed weight of Lambda itself (|eta|, paper); None: of its logarithm, by separation_share"
    )
    nu: float = param(1.0, gt=0, help="scale of the linear kernel of separation='me'; counts where gamma is given")
    gamma: float | None = param(
        None, gt=0, help="added to the covariance of separation='me' (paper); None: a thousandth of its mean"
    )
    feature_penalty: float = param(0.01, choices=PENALTIES, help="strength of L1 whose weights select features")
    top: int = param(3, ge=1, help="features of one class, and of one counterfactual, at the most")
    network: str = param(
        "auto",
        choices=("auto", "dense", "convolutional"),
        help="kind of networks; auto is dense up to 4096 values an input",
    )
    hidden: int = param(384, ge=8, help="width of the hidden layers of dense networks")
    width: int = param(24, ge=4, help="channels of convolutional networks at full resolution")
    learning_rate: float = param(1e-3, gt=0, help="Adam's")
    ema: float = param(0.995, ge=0, lt=1, help="decay of the averaged weights that are kept")
    reconstruction_weight: float = param(10.0, gt=0, help="squared error, summed over values, in ranges")
    prior_weight: float = param(1.0, ge=0, help="KL to the prior")
    play_weight: float = param(1.0, gt=0, help="introspective terms")
    margin: float = param(1.25, gt=1, help="of game='margin', in multiples of the real inputs' KL")
    fixed_margin: float | None = param(
        None, gt=0, help="of game='margin', in nats of KL (m, paper); None: margin times the real inputs' KL"
    )
    sharpness: float = param(0.3, gt=0, help="of game='exponential', per nat of KL")
    schedule: str = param(
        "decayed", choices=("decayed", "constant"), help="learning rates that warm up and fall, or stay as they are"
    )
    restarts: int = param(2, ge=0, help="how often a fit whose health test fails is begun anew")

    @classmethod
    def paper(cls, **options: Any) -> DIF:
        """Return the paper's objective (eqs. 2 to 5): a fixed margin, fixed eta and nu, hard classes, C = 10.

        It states neither eta, nu, gamma nor m: those here are ours, as are the networks, Adam's rate and the
        clipping of gradients. The width of its code follows from its shares of features on MNIST. Beyond two
        classes the statistic is the mean over one-vs-rest comparisons, which the paper has no word of.

        Args:
            **options: fields that should differ.
        """
        faithful: dict[str, Any] = {
            "game": "margin",
            "fixed_margin": 40.0,
            "eta": 1e-2,
            "nu": 1e-2,
            "gamma": 1e-3,
            "schedule": "constant",
            "restarts": 0,
            "drawn_classes": False,
            "bound": 10.0,
            "code": 16,
            "feature_penalty": 0.1,
            "network": "convolutional",
            "width": 32,
            "learning_rate": 2e-4,
            "ema": 0.0,
        }
        return cls(**{**faithful, **options})

    def __post_init__(self) -> None:
        """Refuse a scale of the kernel that cancels.

        Raises:
            OptionError: nu without gamma.
        """
        if self.nu != 1 and self.gamma is None:
            raise OptionError(
                "dif: nu changes nothing while what is added to the covariance is relative to it",
                given=f"nu={self.nu:g} and gamma=None",
                do="set gamma as well, or leave nu at 1",
            )

    def build(self, classifier: Classifier, spec: Spec) -> DIFLens:
        """Return an untrained lens.

        Raises:
            OptionError: the code is too narrow for a logistic separation.
            UnsupportedError: convolutions for what is no image, or too small a one.
        """
        if self.separation == "logistic" and self.code < spec.num_classes:
            raise OptionError(
                "dif: the code is too narrow for separation='logistic'",
                given=f"code={self.code} for {spec.num_classes} classes",
                allowed=f"at least {spec.num_classes}, one dimension for each class",
            )
        return DIFLens(
            classifier,
            spec,
            code=self.code,
            hidden=self.hidden,
            width=self.width,
            dense=is_dense(spec, self.network),
            bound=self.bound,
            penalty=self.feature_penalty,
            top=self.top,
            played=self.game != "none",
        )

    def fit(self, classifier: Classifier, data: Data, run: Run) -> DIFLens:
        """Fit a lens; see :func:`xlens.fit`.

        Warns:
            XlensWarning: the health test failed. The fit is begun anew; after the last time, it says what is wrong.
                Or batches hold too little of a class for ``separation="me"``.
        """
        lens, health = self._attempt(classifier, data, run, 0)
        for attempt in range(1, self.restarts + 1):
            if not health.problems:
                break
            warnings.warn(f"fit: begun anew, because {'; '.join(health.problems)}", XlensWarning, stacklevel=3)
            lens, health = self._attempt(classifier, data, run, attempt)
        if problems := health.problems:
            warnings.warn(
                f"fit: the lens is not sound, also after {self.restarts} restarts: {'; '.join(problems)}. See "
                "explainer.lens.health; lower learning_rate or separation_share, or set game='none'",
                XlensWarning,
                stacklevel=3,
            )
        codes, logits, rows = _encoded(lens, classifier, data, run)
        lens.find_features(codes, logits.argmax(1))
        if self.separation == "me":
            rows = min(rows, self.batch_size) if data.indexed else rows
            self._say_what_was_hardly_compared(lens, logits, run, rows)
        return lens

    def _say_what_was_hardly_compared(self, lens: DIFLens, logits: Tensor, run: Run, rows: int) -> None:
        share = rows / processes(run.device).count
        certain = F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
        classes = hardly_compared(logits.softmax(1) if self._draws(run) else certain, share)
        if classes:
            named = ", ".join(repr(lens.class_names[c]) for c in classes[:3])
            named += " and others" if len(classes) > 3 else ""
            warnings.warn(
                f"fit: separation='me' could hardly pull {named} from the rest, of which batches of {share:g} hold "
                "fewer than 4 rows; raise batch_size, pass more of such inputs, or set separation='logistic'",
                XlensWarning,
                stacklevel=4,
            )

    def _draws(self, run: Run) -> bool:
        # Labels are certain, so there is nothing to draw from.
        return self.drawn_classes and run.supervision == "classifier"

    def _attempt(self, classifier: Classifier, data: Data, run: Run, attempt: int) -> tuple[DIFLens, Health]:
        """Train a lens from new weights and examine it."""
        # Built anew each time, so that an attempt starts alike when it is the first of a resumed run.
        torch.manual_seed(run.seed + attempt)
        # Nor does an attempt after the first begin with an earlier lens, which it would never get away from.
        run = dataclasses.replace(run, start_from=None) if attempt else run
        lens = self.build(classifier, run.spec).to(run.device, torch.float32)
        networks = {"encoder": lens.encoder, "decoder": lens.decoder}
        trainer = Trainer(
            run,
            "dif" if not attempt else f"dif-{attempt + 1}",
            networks=networks,
            optimizers={
                name: torch.optim.Adam(network.parameters(), self.learning_rate)
                for name, network in networks.items()
            },
            steps=self.steps,
            schedule=warmed_and_decayed if self.schedule == "decayed" else _constant,
            ema=dict.fromkeys(networks, self.ema),
            clip=_CLIP,
        )
        trainer.generator.manual_seed(run.seed + attempt)
        span = run.spec.span().to(run.device)

        def predicted(batch: Batch) -> Tensor:
            return supervising_logits(classifier, run, batch).argmax(1)

        def drawn(batch: Batch) -> Tensor:
            probabilities = supervising_logits(classifier, run, batch).softmax(1)
            return torch.multinomial(probabilities, 1, generator=trainer.generator)[:, 0]

        objective = Objective(
            trainer,
            self._terms(),
            span,
            num_classes=run.spec.num_classes,
            classes_of=drawn if self._draws(run) else predicted,
        )
        strata = None
        if data.indexed and self.separation != "none":
            strata = torch.cat([predicted(batch.to(run.device)).cpu() for batch in data.batches()])
        trainer.fit(data, objective, batch_size=self.batch_size, strata=strata)
        for name, network in networks.items():
            network.load_state_dict(trainer.averaged(name).state_dict())
        lens.eval()
        played = self.game != "none"
        health = examine(lens.encoder, lens.decoder, data, span, seed=run.seed, bound=self.bound, played=played)
        lens.health_figures.copy_(torch.tensor([health.real_kl, health.fake_kl, health.error]))
        return lens, health

    def _terms(self) -> Terms:
        return Terms(
            game=cast(Any, self.game),
            separation=cast(Any, self.separation),
            reconstruction=self.reconstruction_weight,
            prior=self.prior_weight,
            play=self.play_weight,
            margin=self.margin,
            fixed_margin=self.fixed_margin,
            sharpness=self.sharpness,
            share=self.separation_share,
            eta=self.eta,
            statistic=Statistic(logarithm=self.eta is None, nu=self.nu, gamma=self.gamma),
            bound=self.bound,
        )


def _constant(done: float) -> float:
    return 1.0


@torch.no_grad()
def _encoded(lens: DIFLens, classifier: Classifier, data: Data, run: Run) -> tuple[Tensor, Tensor, int]:
    """Return codes ``(n, d)`` and supervising logits ``(n, K)`` of all data, and the most rows of a batch."""
    codes, logits = [], []
    for batch in data.batches():
        moved = batch.to(run.device)
        codes.append(lens.encode(moved.inputs))
        logits.append(supervising_logits(classifier, run, moved))
    rows = sum(map(len, codes)) if data.indexed else max(map(len, codes))
    return torch.cat(codes), torch.cat(logits), rows
