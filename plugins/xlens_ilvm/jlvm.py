"""JLVM: a variational autoencoder of its own, in whose code dimensions are named by side information.

References:
    Adel, Ghahramani, Weller (2018), Discovering Interpretable Representations for Both Deep Generative and
    Discriminative Models, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xlens
from xlens import Classifier, Feature, Lens, Run, Spec, param
from xlens.data import Batch, Data
from xlens.errors import OptionError
from xlens.nn import CodeDecoder, GaussianEncoder, decoded_as, is_dense
from xlens.training import Trainer, classifier_logits, supervising_logits, warmed_and_decayed
from xlens_ilvm.columns import targets_of
from xlens_ilvm.named import centres_of, class_targets, columns_for, named_features, toward_class
from xlens_ilvm.readout import Readout

__all__ = ["JLVM", "JLVMLens", "xlens_backend"]

#: Inputs from which the centres of the classes are taken.
_SETTLED = 4096


class JLVMNetworks(nn.Module):
    """Encoder, decoder, read-out, and the Gaussian q(z*) that codes are compressed toward."""

    def __init__(self, spec: Spec, code: int, hidden: int, width: int, dense: bool) -> None:
        super().__init__()
        self.encoder = GaussianEncoder(spec, code, hidden, width, dense)
        self.decoder = CodeDecoder(spec, code, hidden, width, dense)
        self.readout = Readout()
        self.mean = nn.Parameter(torch.zeros(code))
        self.log_variance = nn.Parameter(torch.zeros(code))

    def divergences(self, mean: Tensor, log_variance: Tensor, learned: bool) -> tuple[Tensor, Tensor]:
        """Return KL(q(z*|x) || N(0, I)) and KL(q(z*|x) || q(z*)), per dimension ``(N, d)``.

        Args:
            mean, log_variance: ``(N, d)`` of q(z*|x).
            learned: whether q(z*) is learned; else it is N(0, I) as well.
        """
        prior = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        if not learned:
            return prior, prior
        ratio = log_variance - self.log_variance
        shift = (mean - self.mean).square() * (-self.log_variance).exp()
        return prior, 0.5 * (shift + ratio.exp() - 1 - ratio)


class JLVMLens(Lens):
    """Codes are means of q(z*|x): first the dimensions that side information was assigned, then the others.

    Args:
        classifier: the user's classifier.
        spec: the data and the classes.
        networks: the model.
        code: width d of the code.
        names: names of the columns of side information; numbered where there are none.
    """

    of_classes: Tensor
    centres: Tensor
    margins: Tensor

    def __init__(
        self, classifier: Classifier, spec: Spec, networks: JLVMNetworks, code: int, names: tuple[str, ...]
    ) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is neither submodule nor state
        self.spec, self.networks, self._code, self._names = spec, networks, code, names
        self.register_buffer("of_classes", torch.tensor(0))
        # Of each class in every dimension, of which those that are named are used.
        self.register_buffer("centres", torch.zeros(spec.num_classes, code))
        self.register_buffer("margins", spec.usual_margins(), persistent=False)

    @property
    def classifier(self) -> Classifier:
        """The classifier that the lens was fitted around."""
        return self._classifier[0]

    @property
    def features(self) -> list[Feature]:
        """Each column of side information, or evidence for each class where there was none, and everything else."""
        names = self.classifier.names(self.spec.num_classes)
        return named_features(self.networks.readout, bool(self.of_classes), self._names, names, self._code)

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to the mean of q(z*|x), ``(N, d)``."""
        return self.networks.encoder(inputs)[0]

    def encode_draws(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return codes ``(M, N, d)`` from q(z*|x), for noise ``(M, d)``."""
        mean, log_variance = self.networks.encoder(inputs)
        return mean + (0.5 * log_variance).exp() * noise.unsqueeze(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``."""
        return self.networks.decoder(codes)

    @torch.no_grad()
    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Move the named dimensions toward where they are on the contrast class, and keep everything else."""
        centres = self.centres[:, : self.networks.readout.width]
        return toward_class(
            lambda points: self.classifier(self.decode(points)), codes, centres, target, contrast, self.margins
        )

    @torch.no_grad()
    def sample(self, n: int, target: int, generator: torch.Generator) -> Tensor:
        """Return `n` new inputs ``(n, *S)``: everything else from q(z*), the named dimensions as on class `target`.

        Where the classifier sees another class on a decoding, the named dimensions are moved until it does not.
        """
        codes = self._drawn(n, generator)
        width = self.networks.readout.width
        codes[:, :width] = self.centres[target, :width]
        return decoded_as(self, self.classifier, codes, target)

    @torch.no_grad()
    def invariances(self, codes: Tensor, n: int, scale: float, generator: torch.Generator, vary: str) -> Tensor:
        """Return codes ``(N, n, d)``: one part drawn around itself, the other held.

        Args:
            codes: ``(N, d)``.
            n: variants per input.
            scale: standard deviation, in those of q(z*) for everything else, and of the classes' centres for what
                is named.
            generator: draws it.
            vary: ``"nuisance"`` for everything else, ``"class"`` for the named dimensions.
        """
        width = self.networks.readout.width
        part = slice(width, None) if vary == "nuisance" else slice(0, width)
        unit = (0.5 * self.networks.log_variance).exp() if vary == "nuisance" else self.centres.std(0)
        varied = codes.unsqueeze(1).repeat(1, n, 1)
        noise = torch.randn(varied[:, :, part].shape, generator=generator, device=codes.device)
        varied[:, :, part] += scale * unit[part] * noise
        return varied

    def _drawn(self, n: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(n, self._code, generator=generator, device=self.centres.device)
        return self.networks.mean + (0.5 * self.networks.log_variance).exp() * noise


@xlens.options
class JLVM(xlens.Backend):
    """A variational autoencoder that compresses what no attribute names, and reads each attribute off a dimension.

    With ``prior="fixed"`` q(z*) is N(0, I), and it is a (1 + beta)-VAE with a linear head; with ``label_weight=0``
    too, a plain one. The likelihood's variance is the batch's own error (sigma-VAE), and neither term of the
    compression falls below `free_bits` a dimension, without which codes collapse.

    It is not taught by itself: names shape its whole code while it is fitted on all of the data, and from a few
    answers alone its encoder would forget the rest. It is taught by a lens over it, whose questions can follow
    q(z*|x): ``xlens.fit(model, data, "ilvm", over=explainer, kinds=("binary",), uncertain="code")``.

    References:
        Adel, Ghahramani, Weller (2018), Discovering Interpretable Representations for Both Deep Generative and
        Discriminative Models, equation 13.
        Rybkin, Daniilidis, Levine (2021), Simple and Effective VAE Training with Calibrated Decoders.
    """

    name = "jlvm"
    capabilities = ("sample", "invariances", "side_info", "representations")

    steps: int = param(3000, ge=1, help="training steps")
    batch_size: int = param(128, ge=2, help="inputs per step, half of them with side information")
    code: int = param(24, ge=2, help="width of the code")
    beta: float = param(1.0, ge=0, help="weight of KL(q(z*|x) || q(z*)), the compression")
    prior: str = param("learned", choices=("learned", "fixed"), help="q(z*): a learned Gaussian, or N(0, I)")
    label_weight: float = param(40.0, ge=0, help="weight of log q(s|z*)")
    free_bits: float = param(0.05, ge=0, help="nats of each dimension that cost nothing")
    warm_up: float = param(0.3, ge=0, lt=1, help="share of the steps over which the compression sets in")
    attributes: tuple[str, ...] = param((), help="names of the columns of side_info")
    kinds: tuple[str, ...] = param(
        (), help="of the columns: auto, binary, classes, ordinal, single or measured; classes:5 for values 0 to 4"
    )
    network: str = param(
        "auto",
        choices=("auto", "dense", "convolutional"),
        help="kind of networks; auto is dense up to 4096 values an input",
    )
    hidden: int = param(512, ge=8, help="width of the hidden layers of dense networks")
    width: int = param(24, ge=4, help="channels of convolutional networks at full resolution")
    learning_rate: float = param(1e-3, gt=0, help="Adam's")
    ema: float = param(0.995, ge=0, lt=1, help="decay of the averaged weights that are kept")
    dimensions: int = param(
        1, ge=1, help="dimensions of the code for each thing that is read, which is a sum of them"
    )
    likelihood: str = param(
        "gaussian",
        choices=("gaussian", "bernoulli"),
        help="p(x|z*): a Gaussian as wide as the batch's error, or one bit for each value, on its range",
    )

    @classmethod
    def paper(cls, **options: Any) -> JLVM:
        """Return the paper's objective (eq. 13), every term of which counts as it stands, and its convolutions.

        ``beta`` is 1 until you choose it by cross-validation, as the paper does. What the paper does not say is
        ours: the width of the code, Adam's rate and decay, and that half of a batch has side information. The
        likelihood is Bernoulli on the data's range, which the paper's test likelihoods of MNIST are in.

        Args:
            **options: fields that should differ.
        """
        faithful: dict[str, Any] = {
            "label_weight": 1.0,
            "free_bits": 0.0,
            "warm_up": 0.0,
            "network": "convolutional",
            "width": 64,
            "ema": 0.0,
            "likelihood": "bernoulli",
        }
        return cls(**{**faithful, **options})

    def build(self, classifier: Classifier, spec: Spec) -> JLVMLens:
        """Return an untrained lens.

        Raises:
            UnsupportedError: convolutions for what is no image, or too small a one.
        """
        networks = JLVMNetworks(spec, self.code, self.hidden, self.width, is_dense(spec, self.network))
        return JLVMLens(classifier, spec, networks, self.code, self.attributes)

    def fit(self, classifier: Classifier, data: Data, run: Run) -> JLVMLens:
        """Fit a lens; see :func:`xlens.fit`.

        Raises:
            OptionError: attributes and kinds do not fit `side_info`, or the code is too narrow for them.
            DataError: a column of `side_info` holds nothing to learn.
        """
        if run.side_info is None and self.kinds:
            raise OptionError("jlvm: kinds are given, and no side_info", do="pass side_info, or leave kinds out")
        columns = columns_for(run, self.attributes, self.kinds, self.name)
        needed = self.dimensions * sum(column.width for column in columns)
        if needed > self.code:
            raise OptionError(
                "jlvm: the code is too narrow for the side information",
                given=f"code={self.code} for {needed} dimensions",
                do=f"set code={needed + 12}",
            )
        lens = self.build(classifier, run.spec)
        lens.networks.readout = Readout(columns, self.dimensions)
        lens.of_classes.fill_(int(run.side_info is None))
        lens = lens.to(run.device)
        trainer = Trainer(
            run,
            "jlvm",
            networks={"networks": lens.networks},
            optimizers={"networks": torch.optim.Adam(lens.networks.parameters(), self.learning_rate)},
            steps=self.steps,
            schedule=warmed_and_decayed,
            ema={"networks": self.ema},
            clip=200.0,
        )
        targets = None if run.side_info is None else targets_of(run.side_info, columns)
        nothing = torch.zeros(0, dtype=torch.long)
        known = nothing if targets is None else (~targets.isnan()).any(1).nonzero()[:, 0]
        if targets is not None and len(known):
            # There are no codes yet to be alike, so that pixels stand in for them.
            some = known[:_SETTLED]
            flat = data.take(some).inputs.flatten(1).double().to(run.device)
            lens.networks.readout.arrange(flat, targets[some].to(run.device))

        def step(batch: Batch) -> Mapping[str, Tensor]:
            inputs = batch.inputs
            if targets is None:
                wanted = class_targets(supervising_logits(classifier, run, batch))
            else:
                inputs, wanted = self._with_known(batch, data, targets, known, trainer)
            return self._step(trainer, lens.networks, inputs, wanted.to(run.device))

        trainer.fit(data, step, batch_size=self.batch_size)
        lens.networks.load_state_dict(trainer.averaged("networks").state_dict())
        _settle(lens.eval(), classifier, data, run)
        return lens

    def _with_known(
        self, batch: Batch, data: Data, targets: Tensor, known: Tensor, trainer: Trainer
    ) -> tuple[Tensor, Tensor]:
        """Return inputs and targets, half of them of inputs with side information."""
        own = targets[cast(Tensor, batch.index).cpu()]
        half = min(len(batch) // 2, len(known))
        if not half:
            return batch.inputs, own
        device = batch.inputs.device
        drawn = known[torch.randint(len(known), (half,), generator=trainer.generator, device=device).cpu()]
        rest = len(batch) - half
        inputs = torch.cat([batch.inputs[:rest], data.take(drawn).inputs.to(device)])
        return inputs, torch.cat([own[:rest], targets[drawn]])

    def _step(
        self, trainer: Trainer, networks: JLVMNetworks, inputs: Tensor, wanted: Tensor
    ) -> Mapping[str, Tensor]:
        mean, log_variance = networks.encoder(inputs)
        noise = torch.randn(mean.shape, generator=trainer.generator, device=mean.device)
        codes = mean + (0.5 * log_variance).exp() * noise
        decoded = networks.decoder(codes)
        error = (decoded - inputs).square().mean().clamp_min(1e-8)
        if self.likelihood == "bernoulli":
            likelihood = _bernoulli(decoded, inputs, trainer.run.spec)
        else:
            # The likelihood's variance at its best value, which is the error itself.
            likelihood = 0.5 * inputs[0].numel() * error.log()
        prior, compression = networks.divergences(mean, log_variance, self.prior == "learned")
        free = [part.mean(0).clamp_min(self.free_bits).sum() for part in (prior, compression)]
        warmed = min(1.0, (trainer.step_index + 1) / max(self.warm_up * self.steps, 1))
        reading = networks.readout.loss(codes.double(), wanted).float()
        loss = likelihood + warmed * (free[0] + self.beta * free[1]) + self.label_weight * reading
        trainer.minimise(loss, "networks")
        return {"error": error, "prior": free[0], "compression": free[1], "reading": reading}


def _bernoulli(decoded: Tensor, inputs: Tensor, spec: Spec) -> Tensor:
    """Return the cross entropy of values on their range, summed over an input, a mean over the batch."""
    low, span = spec.per_channel("minimum").to(inputs), spec.span().to(inputs)
    found, wanted = (((values - low) / span).clamp(0, 1) for values in (decoded, inputs))
    return F.binary_cross_entropy(found, wanted, reduction="none").flatten(1).sum(1).mean()


@torch.no_grad()
def _settle(lens: JLVMLens, classifier: Classifier, data: Data, run: Run) -> None:
    """Take the centres of the classes from the data."""
    codes, logits = [], []
    for batch in data.batches(generator=torch.Generator().manual_seed(run.seed)):
        batch = batch.to(run.device)
        codes.append(lens.encode(batch.inputs))
        logits.append(classifier_logits(classifier, run, batch))
        if sum(map(len, codes)) >= _SETTLED:
            break
    lens.centres.copy_(centres_of(torch.cat(codes), torch.cat(logits)))


@xlens.hookimpl
def xlens_backend() -> type[xlens.Backend]:
    """Return the backend class."""
    return JLVM
