"""The SVAE backend: its options, and how a lens is fitted."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import torch
from torch import Tensor

import xlens
from xlens import Classifier, Run, Spec, param
from xlens.data import Batch, Data
from xlens.errors import OptionError
from xlens.nn import is_dense
from xlens.training import Trainer, classifier_logits, supervising_logits
from xlens_svae.lens import SVAELens
from xlens_svae.models import SemiVAE, SupervisedVAE
from xlens_svae.objective import Consistency, SemiVAEStep, SupervisedStep, likelihood_variance

__all__ = ["SVAE"]

_NOT_IN_M2 = ("class_code", "beta", "predictive_weight", "evidence_price")


@xlens.options
class SVAE(xlens.Backend):
    """A VAE whose code is split: z1 is distilled from the classifier, z2 is what the classifier ignores.

    The defaults extend the paper: the classifier's probabilities instead of its decision, a class loss through
    q(z|x), which is what predicts later, and the classifier itself asked whether z2 is ignored. ``SVAE.paper()``
    gives the paper's own objective, ``SVAE.semi()`` its baseline M2.

    References:
        Nguyen, Rodriguez Martinez (2020), Learning Invariances for Interpretability using Supervised VAE.

    >>> import xlens
    >>> explainer = xlens.fit(classifier, images, "svae", steps=30, hidden=64, progress=False)
    >>> found = explainer.invariances(images[:2], 3)
    >>> found.kept.shape  # does the classifier predict the same class on each variant?
    torch.Size([2, 3])
    >>> xlens.evaluation.divergence_attributions(explainer, images[:2], found.variants).attributions.shape
    torch.Size([2, 3, 1, 8, 8])
    """

    name = "svae"
    capabilities = ("sample", "invariances", "divergence", "representations")
    follows_gradients = True

    variant: str = param("svae", choices=("svae", "semivae"), help="the supervised VAE, or the baseline M2")
    steps: int = param(3000, ge=1, help="training steps")
    batch_size: int = param(128, ge=2, help="inputs per step")
    class_code: int = param(
        6, ge=1, formerly="evidence", help="width of z1, the class evidence (M2 has one dimension per class)"
    )
    nuisance_code: int = param(16, ge=1, formerly="nuisance", help="width of z2, everything else")
    network: str = param(
        "auto",
        choices=("auto", "dense", "convolutional"),
        formerly="architecture",
        values_formerly={"conv": "convolutional"},
        help="kind of networks; auto is dense up to 4096 values an input",
    )
    hidden: int = param(
        512,
        ge=8,
        formerly="width",
        help="width of the hidden layers; convolutions have a 20th as many channels",
    )
    alpha: float | None = param(
        None, gt=0, help="weight of the class loss; None: a quarter of the values per input, at least 10"
    )
    beta: float = param(0.5, gt=0, lt=1, help="generation against classification; at 1 q(z|x) is not trained")
    noise: float = param(0.16, gt=0, help="variance of the likelihood, as a share of the data's")
    soft: bool = param(True, help="learn the classifier's probabilities; False learns its decision alone (paper)")
    predictive_weight: float = param(1.0, ge=0, help="class loss through q(z|x), relative to alpha; 0 in the paper")
    evidence_price: float = param(
        3.0, ge=0, help="added weight of z1's KL, so that style goes to z2, where it can be varied; 0 in the paper"
    )
    consistency: float = param(
        0.5, ge=0, help="weight, relative to alpha, of the same class being seen whatever z2 is; 0 in the paper"
    )
    consistency_rows: int = param(40, ge=1, help="inputs per step on which the classifier is asked")
    consistency_scale: float = param(3.5, gt=0, help="largest standard deviation of z2 when it is asked")
    variants: str = param(
        "around",
        choices=("around", "redrawn"),
        help="invariances draw z2 around the input's own, or anew from N(0, scale^2) (paper)",
    )
    learning_rate: float = param(1.5e-3, gt=0, help="Adam's")
    ema: float = param(0.998, ge=0, lt=1, help="decay of the averaged weights that are kept")

    @classmethod
    def paper(cls, **options: Any) -> SVAE:
        """Return the paper's objective, with alpha = 6000 and beta = 0.9, on which its figures are.

        Invariances redraw z2 as the paper does. What the paper leaves to its supplement is ours: networks, Adam's
        rate, the variance of the likelihood and averaged weights. Predictions through samples of q(z1|x) are
        ``xlens_svae.class_probabilities(..., draws=50)``.

        Args:
            **options: fields that should differ.
        """
        faithful: dict[str, Any] = {
            "alpha": 6000.0,
            "beta": 0.9,
            "class_code": 10,
            "nuisance_code": 5,
            "soft": False,
            "predictive_weight": 0.0,
            "evidence_price": 0.0,
            "consistency": 0.0,
            "variants": "redrawn",
        }
        return cls(**{**faithful, **options})

    @classmethod
    def semi(cls, **options: Any) -> SVAE:
        """Return the baseline M2 with the same networks and budget, and without the consistency of the classifier.

        Args:
            **options: fields that should differ.
        """
        return cls(**{"variant": "semivae", "consistency": 0.0, **options})

    def __post_init__(self) -> None:
        """Refuse options that M2 does not have.

        Raises:
            OptionError: names all of them.
        """
        if self.variant != "semivae":
            return
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        if given := [name for name in _NOT_IN_M2 if getattr(self, name) != defaults[name]]:
            raise OptionError(
                f"svae: M2 has no {', '.join(given)}",
                given=", ".join(f"{name}={getattr(self, name)!r}" for name in given),
                do="leave them out with variant='semivae', or use variant='svae'",
            )

    def build(self, classifier: Classifier, spec: Spec) -> SVAELens:
        """Return an untrained lens.

        Raises:
            UnsupportedError: convolutions for what is no image, or too small a one.
        """
        sizes: dict[str, Any] = {
            "nuisance": self.nuisance_code,
            "width": self.hidden,
            "convolutional": not is_dense(spec, self.network),
        }
        redraws = self.variants == "redrawn"
        if self.variant == "semivae":
            return SVAELens(classifier, spec, SemiVAE(spec, **sizes), redraws)
        return SVAELens(classifier, spec, SupervisedVAE(spec, evidence=self.class_code, **sizes), redraws)

    def fit(self, classifier: Classifier, data: Data, run: Run) -> SVAELens:
        """Fit a lens; see :func:`xlens.fit`."""
        lens = self.build(classifier, run.spec).to(run.device, torch.float32)
        trainer = Trainer(
            run,
            "svae",
            networks={"model": lens.model},
            optimizers={"model": torch.optim.Adam(lens.model.parameters(), self.learning_rate)},
            steps=self.steps,
            schedule=_schedule,
            ema={"model": self.ema},
            clip=200.0,
        )
        trainer.fit(data, self._step(classifier, lens, trainer, run), batch_size=self.batch_size)
        lens.model.load_state_dict(trainer.averaged("model").state_dict())
        _settle(lens.eval(), classifier, data, run)
        return lens

    def _step(
        self, classifier: Classifier, lens: SVAELens, trainer: Trainer, run: Run
    ) -> SupervisedStep | SemiVAEStep:
        def classes_of(batch: Batch) -> Tensor:
            logits = supervising_logits(classifier, run, batch)
            if self.soft:
                return logits.softmax(1)
            return torch.nn.functional.one_hot(logits.argmax(1), run.spec.num_classes).float()

        consistency = None
        if self.consistency:
            # Of all processes together, as the batch is.
            rows = math.ceil(self.consistency_rows / trainer.processes.count)
            consistency = Consistency(classifier, run.spec, rows, self.consistency_scale)
        # The reconstruction is summed over the values of an input, so what is weighed against it grows with them.
        alpha = max(10.0, math.prod(run.spec.shape) / 4) if self.alpha is None else self.alpha
        common: dict[str, Any] = {
            "alpha": alpha,
            "consistency": consistency,
            "consistency_weight": alpha * self.consistency,
            "outputs_of": lambda batch: classifier_logits(classifier, run, batch),
            "classes_of": classes_of,
        }
        variance = likelihood_variance(run.spec, self.noise).to(run.device)
        if isinstance(lens.model, SemiVAE):
            return SemiVAEStep(trainer, lens.model, variance, **common)
        weights: dict[str, Any] = {
            "beta": self.beta,
            "predictive_weight": self.predictive_weight,
            "evidence_price": self.evidence_price,
        }
        return SupervisedStep(trainer, lens.model, variance, **weights, **common)


def _schedule(done: float) -> float:
    """Warm up over 3% of the steps, hold, and fall to a hundredth over the last half."""
    rise = min(1.0, (done + 1e-3) / 0.03)
    return rise * (1.0 if done < 0.5 else 0.01 + 0.99 * (1 - done) / 0.5)


@torch.no_grad()
def _settle(lens: SVAELens, classifier: Classifier, data: Data, run: Run) -> None:
    """Take the centre and covariance of z1 in each of the classifier's classes from all of the data.

    A class that the classifier never predicts gets those of all inputs, weighted by its probability.
    """
    width, k = lens.model.evidence, run.spec.num_classes
    decided, weighted = (_Moments(k, width, run.device) for _ in range(2))
    for batch in data.batches():
        batch = batch.to(run.device)
        evidence = lens.encode(batch.inputs)[:, :width].double()
        scores = classifier_logits(classifier, run, batch).double()
        decided.add(evidence, torch.nn.functional.one_hot(scores.argmax(1), k).double())
        weighted.add(evidence, scores.softmax(1))
    for c in range(k):
        centre, covariance = (decided if decided.weight[c] > 0 else weighted).of(c)
        lens.centres[c] = centre
        ridge = 1e-6 * (1 + covariance.trace()) * torch.eye(width, device=run.device, dtype=covariance.dtype)
        lens.factors[c] = torch.linalg.cholesky(covariance + ridge)


class _Moments:
    """Running weighted sums, in float64: a class of few inputs has a covariance of low rank.

    Args:
        num_classes: K.
        width: d.
        device: where the sums are.
    """

    def __init__(self, num_classes: int, width: int, device: torch.device) -> None:
        zeros = functools.partial(torch.zeros, dtype=torch.float64, device=device)
        self.weight, self.first = zeros(num_classes), zeros(num_classes, width)
        self.second = zeros(num_classes, width, width)

    def add(self, values: Tensor, weights: Tensor) -> None:
        """Add values ``(n, d)`` with weights ``(n, K)``."""
        self.weight += weights.sum(0)
        self.first += weights.T @ values
        self.second += torch.einsum("nk,nd,ne->kde", weights, values, values)

    def of(self, c: int) -> tuple[Tensor, Tensor]:
        """Return mean ``(d,)`` and covariance ``(d, d)`` of a class."""
        weight = self.weight[c].clamp_min(torch.finfo(torch.float64).tiny)
        mean = self.first[c] / weight
        covariance = self.second[c] / weight - torch.outer(mean, mean)
        # What rounding leaves of a spread of zero may be less than zero.
        covariance.diagonal().clamp_(min=0)
        return mean, covariance
