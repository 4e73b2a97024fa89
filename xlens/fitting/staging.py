"""A fit on a hidden layer: which backends can, and how what they fit on its values becomes a lens on inputs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.turns import seeded
from xlens.contracts.backend import Backend, Run, Spec
from xlens.contracts.lens import Lens
from xlens.counterfactual.mask_options import MaskOptions
from xlens.data import Data
from xlens.errors import DataError, OptionError, UnsupportedError
from xlens.fitted import Fitted
from xlens.nn import spread_over_classes
from xlens.registry.loading import offering
from xlens.stages.arrangement import order_of
from xlens.stages.bank import most_kept
from xlens.stages.cutting import check_cut
from xlens.stages.decoder import DecoderOptions, fit_decoder
from xlens.stages.layer import LayerStage, standardised
from xlens.stages.lens import StagedLens, staged
from xlens.stages.values import EncodedData, encoded
from xlens.training.supervision import classifier_logits
from xlens.training.survey import Statistics

__all__ = ["as_decoder", "check_layer", "fit_on_layer", "on_layer"]

#: Inputs among which those are chosen that are kept.
_LOOKED_AT = 4096
#: What a backend declares whose lenses are fitted on any values, and what those declare that read a layer by
#: themselves.
_ON_VALUES, _BY_THEMSELVES = "representations", ("retrieve", "over")


def on_layer(backend: Backend | type[Backend], classifier: Classifier) -> bool:
    """Whether a fit is on the named layer behind a stage; what reads the layer itself does without one."""
    return classifier.layer is not None and _ON_VALUES in backend.capabilities


def as_decoder(decoder: Any) -> DecoderOptions | None:
    """Return the options of the decoder that is asked for, or None.

    Raises:
        OptionError: it is neither yes or no, nor options.
    """
    if decoder is True:
        return DecoderOptions()
    if decoder is None or decoder is False:
        return None
    if isinstance(decoder, DecoderOptions):
        return decoder
    raise OptionError(
        "fit: decoder is wrong", given=repr(decoder), allowed="True, False or xlens.DecoderOptions(...)"
    )


def check_layer(
    backend: Backend,
    classifier: Classifier,
    decoder: DecoderOptions | None,
    begin: Fitted | None,
    mask: MaskOptions | None = None,
) -> None:
    """Refuse a layer that the backend cannot be fitted on, and what does not go with a layer, or with none.

    Raises:
        UnsupportedError: the backend makes nothing of a layer.
        OptionError: a decoder is asked for where there is nothing to decode, a mask where no image is edited, or
            the fit begins with a lens on something else.
    """
    staged_here = on_layer(backend, classifier)
    by_itself = any(name in backend.capabilities for name in _BY_THEMSELVES)
    if classifier.layer is not None and not staged_here and not by_itself:
        names = sorted({*offering(_ON_VALUES), *offering("retrieve")})
        raise UnsupportedError(
            f"fit: the backend {backend.name!r} cannot be fitted on a hidden layer",
            given=f"layer={classifier.layer!r}",
            allowed=f"backends that can: {', '.join(names) or 'none is installed'}",
            do="choose one of them, or name no layer: xlens.Classifier(model)",
        )
    if mask is not None and classifier.layer is not None:
        raise OptionError(
            "fit: mask is for lenses that change images, and a lens on a hidden layer changes activations",
            given=f"mask beside layer={classifier.layer!r}",
            do="leave mask out, or name no layer: xlens.Classifier(model)",
        )
    if decoder is not None and not staged_here:
        raise OptionError(
            "fit: decoder is for lenses that are fitted on a hidden layer",
            given="a classifier without a layer"
            if classifier.layer is None
            else f"the backend {backend.name!r}, which reads the layer itself",
            allowed=f"xlens.Classifier(model, layer='...') and one of: {', '.join(offering(_ON_VALUES))}",
            do="leave decoder out",
        )
    if begin is not None and isinstance(begin.lens, StagedLens) != staged_here:
        raise OptionError(
            "fit: start_from works on something else",
            given="a lens on a hidden layer" if not staged_here else "a lens on inputs",
            do="name the same layer for both, or leave start_from out",
        )


class _Begun(NamedTuple):
    """What a fit of values begins with."""

    classifier: Classifier
    lens: Lens


def fit_on_layer(
    backend: Backend, classifier: Classifier, source: Data, run: Run, sample: Tensor, decoder: DecoderOptions | None
) -> StagedLens:
    """Fit a lens on the values of the classifier's layer, and return it as a lens on inputs.

    Args:
        backend: declares ``"representations"``.
        classifier: frozen, with the layer named.
        source: the user's data.
        run: circumstances of the fit, as of inputs.
        sample: some of the inputs.
        decoder: options of the decoder from the layer back to inputs; None for none.

    Raises:
        ModelError: there are paths around the layer.
        OptionError: the fit begins with a lens of a layer of another shape.
        DataError: the layer puts out the same for every input.
    """
    check_cut(classifier, sample)
    shape, order = order_of(classifier, sample)
    stage, values = _stage(classifier, source, run, sample, shape, order)
    begun = None if run.start_from is None else _begun(run.start_from.lens, stage)
    own = backend.fit(
        stage.classifier, values, dataclasses.replace(run, spec=stage.spec, start_from=begun, over=None)
    )
    lens = staged(stage, own, run.spec.shape).to(run.device).eval().requires_grad_(False)
    lens.keep(*_real(classifier, source, run, most_kept(math.prod(stage.spec.shape))))
    if decoder is not None:
        # By the seed alone, whatever the fit of the lens has drawn.
        with seeded(run.seed):
            network = stage.begin_decoder(run.spec, decoder).to(run.device)
            fit_decoder(network, stage.encode, source, run, decoder)
    return lens


def _stage(
    classifier: Classifier,
    source: Data,
    run: Run,
    sample: Tensor,
    shape: tuple[int, ...],
    order: tuple[int, ...],
) -> tuple[LayerStage, Data]:
    """Return the stage, settled on the data, and these as its values."""
    arranged = tuple(shape[axis] for axis in order)
    stage = LayerStage(
        classifier, run.spec, _blank(run.spec, arranged), shape=shape, order=order, probe=sample[:1]
    ).to(run.device)

    def raw(inputs: Tensor) -> Tensor:
        return stage.arrangement.arranged(classifier.activations(inputs)).float()

    repeats = run.logits is not None
    activations = encoded(source, raw, run.device, size=math.prod(arranged), repeats=repeats)
    statistics = Statistics(arranged)
    for batch in activations.batches():
        statistics.add(batch.inputs)
    found = statistics.as_tuples()
    if found["minimum"] == found["maximum"]:
        raise DataError(
            f"fit: the layer {classifier.layer!r} puts out the same for every input",
            do="name another layer: xlens.Classifier(model, layer='...')",
        )
    stage.arrangement.settle(torch.tensor(found["mean"]), torch.tensor(found["std"]))
    measured = dataclasses.replace(
        run.spec,
        shape=arranged,
        minimum=found["minimum"],
        maximum=found["maximum"],
        mean=found["mean"],
        std=found["std"],
    )
    stage.spec = standardised(measured, stage.arrangement)
    mean, scale = stage.arrangement.mean.cpu(), stage.arrangement.scale.cpu()
    return stage, EncodedData(activations, lambda found: (found - mean) / scale)


def _blank(inputs: Spec, shape: tuple[int, ...]) -> Spec:
    """Return the spec of values of which nothing is known yet but their shape."""
    nothing, one = (0.0,) * shape[0], (1.0,) * shape[0]
    return dataclasses.replace(inputs, shape=shape, minimum=nothing, maximum=one, mean=nothing, std=one)


def _begun(earlier: Lens, stage: LayerStage) -> _Begun:
    if not isinstance(earlier, StagedLens) or earlier.stage.spec.shape != stage.spec.shape:
        given = earlier.stage.spec.shape if isinstance(earlier, StagedLens) else "inputs"
        raise OptionError(
            "fit: start_from is a lens on a layer of another shape",
            given=f"values {given}",
            allowed=f"values {stage.spec.shape}",
            do="leave start_from out",
        )
    return _Begun(earlier.stage.classifier, earlier.lens)


@torch.no_grad()
def _real(classifier: Classifier, source: Data, run: Run, most: int) -> tuple[Tensor, Tensor]:
    """Return real inputs to keep ``(B, *S)``, evenly over the classifier's classes, and its logits of them."""
    inputs, logits = [], []
    for batch in source.batches(generator=torch.Generator().manual_seed(run.seed)):
        batch = batch.to(run.device)
        logits.append(classifier_logits(classifier, run, batch))
        inputs.append(batch.inputs)
        if sum(map(len, inputs)) >= _LOOKED_AT:
            break
    said = torch.cat(logits)
    chosen = spread_over_classes(said.argmax(1).cpu(), most, torch.Generator().manual_seed(run.seed))
    return torch.cat(inputs)[chosen], said[chosen]
