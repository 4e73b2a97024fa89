"""The ILVM backend: its options, and how a lens is fitted."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

import xlens
from xlens import Classifier, Run, Spec, param
from xlens.contracts import Lens
from xlens.data import Data
from xlens.errors import ModelError, OptionError, XlensWarning
from xlens.nn import spread_over_classes
from xlens.training import classifier_logits, supervising_logits
from xlens_ilvm.columns import Column, targets_of
from xlens_ilvm.flows import FLOWS, OF_EACH_ROW
from xlens_ilvm.learning import Learning, hold_out
from xlens_ilvm.lens import ILVMLens
from xlens_ilvm.models import AmortisedModel, ExactModel
from xlens_ilvm.named import class_targets, columns_for
from xlens_ilvm.space import Space

__all__ = ["ILVM"]

#: Rows from which means, scales and principal components are taken.
_SETTLED = 4096
#: Values of inputs, or of the layer, that are kept for it: 512 MB of float32.
_SETTLED_VALUES = 1 << 27
#: A layer of which more than this is exactly zero has been through a ReLU, and no density.
_ZEROS = 0.05


@xlens.options
class ILVM(xlens.Backend):
    """An invertible map from a hidden layer, or another lens's codes, to dimensions that mean what they are called.

    Each attribute of ``side_info`` gets dimensions of its own, off which it is read linearly; without it the
    classifier's own classes do. In the mode ``"exact"`` nothing is lost: the layer's activations come back, and the
    classifier's decision with them. Name a layer *before* its ReLU, behind which many values are exactly zero and
    have no density. Layers and codes wider than `code` are turned onto principal components, and what these leave
    is kept beside them. It is trained in double precision, which ``mixed_precision`` leaves as it is.

    References:
        Adel, Ghahramani, Weller (2018), Discovering Interpretable Representations for Both Deep Generative and
        Discriminative Models. The default flow, noise and early stopping are not the paper's, which uses planar
        flows.
    """

    name = "ilvm"
    capabilities = ("side_info", "over", "retrieve", "teach")

    mode: str = param(
        "exact", choices=("exact", "amortised"), help="lossless, or the paper's equations to the letter"
    )
    flow: str = param(
        "coupling",
        choices=FLOWS,
        help="the invertible map; linear for comparison; amortised is planar with parameters from the recognition "
        "network (mode='amortised' alone, paper)",
    )
    layers: int = param(2, ge=1, help="couplings, or planar layers (16 or 32 of them)")
    hidden: int = param(64, ge=4, help="width of the couplings' hidden layers")
    code: int = param(64, ge=2, formerly="most", help="width of the code that the flow works on, at the most")
    attributes: tuple[str, ...] = param((), help="names of the columns of side_info")
    kinds: tuple[str, ...] = param(
        (),
        help="of the columns: auto, binary, classes, ordinal, single or measured; classes:5 for values 0 to 4; "
        "without side_info, columns of which nothing is observed yet",
    )
    steps: int = param(2200, ge=1, help="training steps")
    batch_size: int = param(256, ge=2, help="rows per step, half of them with side information")
    learning_rate: float = param(2e-3, gt=0, help="AdamW's")
    label_weight: float = param(20.0, gt=0, help="side information against density (gamma)")
    noise: float = param(0.4, ge=0, help="noise on standardised inputs of the flow, against learning rows by heart")
    early_stopping: bool = param(True, help="hold out a fifth of the side information, and keep the best state")
    memory: int = param(4096, ge=16, help="rows kept with the lens to learn on from (numbers of the layer)")
    bank: int = param(512, ge=2, help="real inputs kept with the lens, shared out evenly over its classes")
    teaching_steps: int = param(400, ge=1, help="training steps each time it is taught")
    dimensions: int = param(
        1, ge=1, help="dimensions of the code for each thing that is read, which is a sum of them"
    )
    uncertain: str = param(
        "readout",
        choices=("readout", "code"),
        help="what is uncertain when it asks: the read-out's parameters, or z* given the input (paper), where "
        "that is drawn: in mode='amortised', or over a lens with a posterior",
    )

    @classmethod
    def paper(cls, **options: Any) -> ILVM:
        """Return the paper's model: q(z*|z) whose flow a recognition network gives for each z, and p(z|z*).

        Side information counts once, as in eq. 7; questions are chosen by what z* leaves open (eq. 9, with the
        input's own posterior in both terms). What the paper does not say is ours: 16 planar layers, the networks'
        width, Adam's rate and decay, and that half of a batch has side information. Its recognition network sees
        side information in q0 alone, on half of the rows that have it.

        Args:
            **options: fields that should differ.
        """
        faithful: dict[str, Any] = {
            "mode": "amortised",
            "flow": "amortised",
            "layers": 16,
            "label_weight": 1.0,
            "noise": 0.0,
            "early_stopping": False,
            "uncertain": "code",
        }
        return cls(**{**faithful, **options})

    def build(self, classifier: Classifier, spec: Spec, over: Lens | None = None) -> ILVMLens:
        """Return an untrained lens.

        Raises:
            OptionError: there is nothing to work on, or options contradict each other.
            ModelError: the layer does not run.
        """
        if self.flow == OF_EACH_ROW and self.mode == "exact":
            raise OptionError(
                "ilvm: a flow that is another for each input cannot be undone from its code alone",
                given=f"flow={OF_EACH_ROW!r} with mode='exact'",
                do="set mode='amortised', or flow='planar'",
            )
        if self.uncertain == "code" and self.mode == "exact" and not hasattr(over, "encode_draws"):
            raise OptionError(
                "ilvm: nothing is uncertain about the code of an input",
                given="uncertain='code' with mode='exact', and no lens below that draws codes",
                do="set mode='amortised' or uncertain='readout', or fit it over a lens with a posterior",
            )
        if classifier.layer is None and over is None:
            raise OptionError(
                "ilvm: there is nothing to work on",
                given="a classifier without a hidden layer, and no other lens",
                do="name a layer, xlens.Classifier(model, layer='...'), best one before its ReLU; or pass "
                "over=another explainer",
            )
        probe = spec.per_channel("mean").expand(1, *spec.shape).to(classifier.device)
        with torch.no_grad(), classifier.frozen(seed=0):
            shape = (over.encode(probe) if over is not None else classifier.activations(probe)).shape[1:]
        space = Space(tuple(shape), self.code)
        kind = ExactModel if self.mode == "exact" else AmortisedModel
        return ILVMLens(
            classifier,
            spec,
            space=space,
            model=kind(space.width, self.flow, self.layers, self.hidden),
            below=over,
            names=self.attributes,
            learning=self._learning(),
            teaching_steps=self.teaching_steps,
            uncertain=self.uncertain,
        )

    def fit(self, classifier: Classifier, data: Data, run: Run) -> ILVMLens:
        """Fit a lens; see :func:`xlens.fit`.

        Raises:
            OptionError: there is nothing to work on, or attributes and kinds do not fit `side_info`.
            DataError: a column of `side_info` holds nothing to learn.
            ModelError: the classifier is not decided by the layer alone.
        """
        columns = columns_for(run, self.attributes, self.kinds, self.name)
        lens = self.build(classifier, run.spec, None if run.over is None else run.over.lens).to(run.device)
        self._check_room(columns, lens.space, of_classes=run.side_info is None and not self.kinds)
        lens.model.learn(columns, self.dimensions)
        lens.model.to(run.device)
        lens.of_classes.fill_(int(run.side_info is None and not self.kinds))
        bank = _settle(classifier, lens, data, run, self.bank)
        y, targets = _rows(classifier, lens, data, run, columns)
        lens.model.readout.arrange(y.to(run.device), targets.to(run.device))
        held_out = hold_out(len(y), run.seed)
        self._learning().fit(lens.model, y, targets, held_out, run, "ilvm", self.steps)
        chosen = _to_keep(targets, self.memory, run.seed)
        lens.memory.keep(y[chosen], targets[chosen], held_out[chosen])
        lens.eval().settle(*bank)
        return lens

    def _check_room(self, columns: tuple[Column, ...], space: Space, of_classes: bool) -> None:
        needed = self.dimensions * sum(column.width for column in columns)
        if needed <= space.width:
            return
        # Wide layers are narrowed by an option; other ones are as narrow as they are.
        wider = f"set code={needed} or more" if space.wide and needed <= len(space.mean) else "name a wider layer"
        other = (
            "pass side_info, which is then named instead of the classes"
            if of_classes
            else "give attributes of many values one dimension: kinds=('single', ...)"
        )
        raise OptionError(
            f"ilvm: there are too few dimensions for the {'classes' if of_classes else 'side information'}",
            given=f"{needed} dimensions to be named, {space.width} in all",
            do=f"{wider}, or {other}",
        )

    def _learning(self) -> Learning:
        return Learning(self.batch_size, self.learning_rate, self.label_weight, self.noise, self.early_stopping)


@torch.no_grad()
def _settle(classifier: Classifier, lens: ILVMLens, data: Data, run: Run, most: int) -> tuple[Tensor, Tensor]:
    """Take the statistics of the lens's space, and return real inputs to keep with their logits."""
    represented, inputs, logits = [], [], []
    for batch in data.batches(generator=torch.Generator().manual_seed(run.seed)):
        batch = batch.to(run.device)
        represented.append(lens.represent(batch.inputs))
        logits.append(classifier_logits(classifier, run, batch))
        inputs.append(batch.inputs)
        # Large ones, of inputs or of the layer, are kept as long as they fit.
        fit = _SETTLED_VALUES // max(batch.inputs[0].numel(), represented[0][0].numel())
        if sum(map(len, inputs)) >= min(_SETTLED, max(fit, most)):
            break
    whole = torch.cat(represented)[:_SETTLED]
    if lens.below is None:
        _check_layer(classifier, inputs[0], whole)
    lens.space.settle(whole)
    said = torch.cat(logits)
    chosen = spread_over_classes(said.argmax(1).cpu(), most, torch.Generator().manual_seed(run.seed))
    return torch.cat(inputs)[chosen], said[chosen]


def _check_layer(classifier: Classifier, inputs: Tensor, activations: Tensor) -> None:
    """Refuse a layer around which the classifier sees more of the input, and warn of one that is full of zeros."""
    some = inputs[:32]
    found = classifier.tail(classifier.activations(some), some.flip(0))
    if not torch.allclose(found, classifier(some), rtol=1e-3, atol=1e-4):
        raise ModelError(
            f"ilvm: the classifier is not decided by the layer {classifier.layer!r} alone",
            given="paths around it, such as skip connections",
            do="name a layer through which everything goes, such as the last before the head",
        )
    zeros = float((activations == 0).float().mean())
    if zeros > _ZEROS:
        warnings.warn(
            f"ilvm: {zeros:.0%} of what the layer {classifier.layer!r} gives are exactly 0, as behind a ReLU; "
            "there is no density to be learned. Name the layer before it.",
            XlensWarning,
            stacklevel=2,
        )


@torch.no_grad()
def _rows(
    classifier: Classifier, lens: ILVMLens, data: Data, run: Run, columns: tuple[Column, ...]
) -> tuple[Tensor, Tensor]:
    """Return y ``(n, width)`` and targets ``(n, C)`` of all inputs, on the CPU, in the data's order."""
    y, logits = [], []
    for batch in data.batches():
        batch = batch.to(run.device)
        y.append(lens.space(lens.represent(batch.inputs))[0].float().cpu())
        logits.append(supervising_logits(classifier, run, batch).cpu())
    if run.side_info is not None:
        return torch.cat(y), targets_of(run.side_info, columns)
    if bool(lens.of_classes):
        return torch.cat(y), class_targets(torch.cat(logits))
    return torch.cat(y), torch.full((sum(map(len, y)), lens.model.readout.outputs), torch.nan)


def _to_keep(targets: Tensor, most: int, seed: int) -> Tensor:
    """Return the positions of up to `most` rows, those with side information first."""
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    known = (~targets.isnan()).any(1)[order]
    return torch.cat([order[known], order[~known]])[:most]
