"""A fit behind an autoencoder: images become latents, which are a small image to the lens."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from xlens.classifier.classifier import Classifier
from xlens.codec import CodecFidelity, CodecOptions, fit_codec
from xlens.contracts.backend import Backend, Run
from xlens.data import Data
from xlens.errors import OptionError, UnsupportedError
from xlens.fitted import Fitted
from xlens.registry.loading import offering
from xlens.stages.coded import CodecStage
from xlens.stages.lens import StagedLens, staged
from xlens.stages.values import encoded
from xlens.training.survey import Statistics

__all__ = ["as_codec_options", "check_codec", "fit_behind_codec"]

#: What a backend declares whose lenses are fitted on any values.
_ON_VALUES = "representations"
#: ``"auto"`` trains an autoencoder for images with a longer side.
_LARGEST_BY_ITSELF = 128


def as_codec_options(codec: Any, shape: tuple[int, ...]) -> CodecOptions | None:
    """Return how an autoencoder is trained for inputs of this shape, or None where none is wanted.

    Raises:
        OptionError: it is neither of the words, nor options.
    """
    if codec == "none" or isinstance(codec, CodecOptions):
        return None if codec == "none" else codec
    if codec == "auto":
        return CodecOptions() if len(shape) == 3 and max(shape[1:]) > _LARGEST_BY_ITSELF else None
    raise OptionError(
        "fit: codec is wrong",
        given=repr(codec) if isinstance(codec, str) else type(codec).__name__,
        allowed="'none', 'auto' (an autoencoder for images above 128 pixels), or xlens.codec.CodecOptions(...)",
    )


def check_codec(codec: Any, backend: Backend, classifier: Classifier, begin: Fitted | None) -> None:
    """Refuse an autoencoder before a lens that cannot be fitted behind one.

    Raises:
        UnsupportedError: the backend is not fitted on latents.
        OptionError: it is none, or there are a layer or an earlier lens beside it.
    """
    if codec == "none":
        return
    as_codec_options(codec, ())
    if _ON_VALUES not in backend.capabilities:
        raise UnsupportedError(
            f"fit: the backend {backend.name!r} cannot be fitted behind an autoencoder",
            given=f"codec={codec!r}",
            allowed=f"backends that can: {', '.join(offering(_ON_VALUES)) or 'none is installed'}",
            do="leave codec='none'",
        )
    beside = {"a hidden layer": classifier.layer is not None, "start_from": begin is not None}
    if wrong := [name for name, given in beside.items() if given]:
        raise OptionError(f"fit: codec= does not go with {' and '.join(wrong)}", do="leave one of them out")


def fit_behind_codec(
    backend: Backend, classifier: Classifier, source: Data, run: Run, options: CodecOptions
) -> tuple[StagedLens, CodecFidelity]:
    """Train an autoencoder, and fit a lens on its latents; return it as a lens on images, and what was kept.

    Args:
        backend: declares ``"representations"``.
        classifier: the frozen classifier.
        source: the user's data.
        run: circumstances of the fit, as of images.
        options: how the autoencoder is trained.
    """
    codec, fidelity = fit_codec(classifier, source, run, options)
    codec.requires_grad_(False)
    with torch.no_grad():
        blank = run.spec.per_channel("mean").expand(1, *run.spec.shape).to(run.device)
        shape = tuple(codec.encode(blank).shape[1:])
    values = encoded(source, codec.encode, run.device, size=math.prod(shape), repeats=run.logits is not None)
    statistics = Statistics(shape)
    for batch in values.batches():
        statistics.add(batch.inputs)
    found = statistics.as_tuples()
    spec = dataclasses.replace(
        run.spec,
        shape=shape,
        minimum=found["minimum"],
        maximum=found["maximum"],
        mean=found["mean"],
        std=found["std"],
    )
    stage = CodecStage(classifier, codec, options.width, spec).to(run.device)
    own = backend.fit(stage.classifier, values, dataclasses.replace(run, spec=spec, over=None))
    return staged(stage, own, run.spec.shape), fidelity
