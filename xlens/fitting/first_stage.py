"""A fit behind an autoencoder: images become latents, and a surrogate answers for the classifier of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.classifier.frozen import frozen
from xlens.classifier.normalization import Normalization
from xlens.codec import Autoencoder, Codec, CodecFidelity, CodecOptions, ConvCodec, codec_fidelity, fit_codec
from xlens.codec.adapted import check_methods
from xlens.codec.training import channels_of, held_out
from xlens.contracts.backend import Backend, Run, Spec
from xlens.contracts.lens import Lens
from xlens.contracts.options import to_dict
from xlens.data import Data
from xlens.errors import OptionError, UnsupportedError, XlensWarning, warn
from xlens.fitted import Fitted
from xlens.fitting.saying import say
from xlens.registry.loading import offering
from xlens.stages.coded import CodecStage
from xlens.stages.lens import StagedLens, staged
from xlens.stages.own import facts_of, own_autoencoder
from xlens.stages.values import encoded
from xlens.surrogate import Surrogate, SurrogateOptions, begin_surrogate
from xlens.training.processes import processes
from xlens.training.survey import Statistics

__all__ = ["Coded", "as_coded", "as_distilled", "check_codec", "fit_behind_codec", "holding", "untrained"]

#: What a backend declares whose lenses are fitted on any values.
_ON_VALUES = "representations"
#: ``"auto"`` trains an autoencoder for images with a longer side.
_LARGEST_BY_ITSELF = 128

#: What stands before a lens: an autoencoder that is to be trained so, or the user's own.
Coded = CodecOptions | Autoencoder


def as_coded(codec: Any, spec: Spec, normalization: Normalization | None) -> Coded | None:
    """Return what stands before a lens on data of this shape and range, or None where nothing does.

    Raises:
        ModelError: the user's own autoencoder takes no such images.
    """
    if codec == "auto":
        large = spec.is_image and max(spec.shape[1:]) > _LARGEST_BY_ITSELF
        return CodecOptions() if large else None
    if codec == "none" or isinstance(codec, CodecOptions):
        return None if codec == "none" else codec
    return own_autoencoder(codec, spec, normalization)


def check_codec(codec: Any, backend: Backend, classifier: Classifier, begin: Fitted | None) -> None:
    """Refuse an autoencoder before a lens that cannot be fitted behind one.

    Raises:
        UnsupportedError: the backend is not fitted on latents.
        ModelError: it is a module, and no autoencoder.
        OptionError: it is none, or there are a layer or an earlier lens beside it.
    """
    if isinstance(codec, str) and codec == "none":
        return
    if isinstance(codec, nn.Module):
        check_methods(codec)
    elif not isinstance(codec, CodecOptions) and codec != "auto":
        raise OptionError(
            "fit: codec is wrong",
            given=repr(codec) if isinstance(codec, str) else type(codec).__name__,
            allowed=f"'none', 'auto' (an autoencoder for images above {_LARGEST_BY_ITSELF} pixels), "
            "xlens.codec.CodecOptions(...), or an autoencoder of your own: a module with encode and decode",
        )
    said = type(codec).__name__ if isinstance(codec, nn.Module) else repr(codec)
    if _ON_VALUES not in backend.capabilities:
        raise UnsupportedError(
            f"fit: the backend {backend.name!r} cannot be fitted behind an autoencoder",
            given=f"codec={said}",
            allowed=f"backends that can: {', '.join(offering(_ON_VALUES)) or 'none is installed'}",
            do="leave codec='none'",
        )
    beside = {"a hidden layer": classifier.layer is not None, "start_from": begin is not None}
    if wrong := [name for name, given in beside.items() if given]:
        raise OptionError(f"fit: codec= does not go with {' and '.join(wrong)}", do="leave one of them out")


def as_distilled(surrogate: Any, backend: Backend, coded: Coded | None, run: Run) -> SurrogateOptions | None:
    """Return how a surrogate is distilled, or None where the classifier itself is asked.

    Raises:
        OptionError: it is none, or one is asked for where none can be.
    """
    wanted = isinstance(surrogate, SurrogateOptions)
    if not wanted and surrogate not in ("auto", "none"):
        raise OptionError(
            "fit: surrogate is wrong",
            given=repr(surrogate) if isinstance(surrogate, str) else type(surrogate).__name__,
            allowed="'auto', 'none' or xlens.surrogate.SurrogateOptions(...)",
        )
    missing = []
    if coded is None:
        missing.append("no autoencoder is fitted behind (codec=)")
    if not backend.follows_gradients:
        missing.append(f"the backend {backend.name!r} does not learn from the classifier's gradient")
    if processes(run.device).count > 1:
        missing.append("several processes fit together")
    if wanted and missing:
        raise OptionError(f"fit: no surrogate can be used, because {'; '.join(missing)}", do="leave surrogate out")
    if missing or surrogate == "none":
        return None
    return surrogate if wanted else SurrogateOptions()


def holding(codec: Any) -> AbstractContextManager[object]:
    """Return the context of a fit behind the user's own autoencoder, which is frozen in it; else an empty one."""
    if not isinstance(codec, nn.Module):
        return nullcontext()
    return frozen(None, codec.module if isinstance(codec, Autoencoder) else codec, None)


def untrained(backend: Backend, classifier: Classifier, run: Run, coded: Coded) -> Lens:
    """Return a lens like the one to come, of which nothing is trained but what the user brought trained."""
    codec, width = _begun(coded, run.spec)
    codec = codec.to(run.device)
    shape = _shape_of_latents(codec, run)
    # Whatever the units of latents will be: what it costs does not depend on them.
    low, high, mean, std = ((value,) * shape[0] for value in (-3.0, 3.0, 0.0, 1.0))
    spec = dataclasses.replace(run.spec, shape=shape, minimum=low, maximum=high, mean=mean, std=std)
    stage = CodecStage(classifier, codec.eval(), width, spec)
    return staged(stage, backend.build(stage.classifier, spec), run.spec.shape)


def fit_behind_codec(
    backend: Backend,
    classifier: Classifier,
    source: Data,
    run: Run,
    coded: Coded,
    distilled: SurrogateOptions | None = None,
) -> tuple[StagedLens, CodecFidelity, Surrogate | None]:
    """Fit a lens on the latents of an autoencoder; return it as a lens on images, and what was kept of these.

    A surrogate is returned beside them where the lens has learned from one, and None where not.

    Args:
        backend: declares ``"representations"``.
        classifier: the frozen classifier.
        source: the user's data.
        run: circumstances of the fit, as of images.
        coded: how the autoencoder is trained; or the user's own, within :func:`holding`.
        distilled: how the surrogate is distilled that the lens learns from; None for the classifier itself.

    Warns:
        XlensWarning: the autoencoder loses what the classifier goes by, or the surrogate does not say what it says.
    """
    known = facts_of(coded) if isinstance(coded, Autoencoder) else to_dict(coded)
    apart = [] if distilled is None else [to_dict(distilled)]
    facts = json.dumps([run.identity, known, *apart], sort_keys=True)
    run = dataclasses.replace(run, identity=hashlib.sha256(facts.encode()).hexdigest())
    codec: Codec
    if isinstance(coded, Autoencoder):
        codec, width = coded.to(run.device), None
        fidelity = _asked(codec, classifier, source, run)
    else:
        codec, fidelity = fit_codec(classifier, source, run, coded)
        width = coded.width
    codec.requires_grad_(False)
    shape = _shape_of_latents(codec, run)

    def encode(inputs: Tensor) -> Tensor:
        return codec.encode(inputs)

    values = encoded(source, encode, run.device, size=math.prod(shape), repeats=run.logits is not None)
    statistics = Statistics(shape)
    for batch in values.batches():
        statistics.add(batch.inputs)
    units: dict[str, Any] = statistics.as_tuples()
    spec = dataclasses.replace(run.spec, shape=shape, **units)
    stage = CodecStage(classifier, codec, width, spec).to(run.device)
    within = dataclasses.replace(run, spec=spec, over=None)
    if distilled is None:
        return staged(stage, backend.fit(stage.classifier, values, within), run.spec.shape), fidelity, None
    surrogate = begin_surrogate(stage.classifier, values, within, distilled)
    say(f"fit: {_asked_seldom(backend, distilled)}", run.progress)
    with surrogate.answering():
        own = backend.fit(stage.classifier, values, dataclasses.replace(within, alongside=surrogate))
    _judge(surrogate)
    return staged(stage, own, run.spec.shape), fidelity, surrogate


def _asked_seldom(backend: Backend, distilled: SurrogateOptions) -> str:
    steps = getattr(backend, "steps", None)
    times = "" if steps is None else f", {steps // distilled.ask_every * distilled.asked:,} in all"
    return (
        f"while {backend.name} is trained a surrogate answers for the classifier, which is asked about "
        f"{distilled.asked} images every {distilled.ask_every} steps{times}, without gradients."
    )


def _judge(surrogate: Surrogate) -> None:
    """Say so where the surrogate has said something else than the classifier."""
    found, wanted = surrogate.fidelity, surrogate.options.agreement
    if found.compared and not surrogate.holds:
        warn(
            f"fit: {found}, and wanted was {wanted:g}. The lens has learned from it what the classifier does not "
            "see: let the classifier be asked more often (SurrogateOptions: ask_every, asked, follow_steps), or "
            "pass surrogate='none'.",
            XlensWarning,
        )


def _begun(coded: Coded, spec: Spec) -> tuple[Codec, int | None]:
    if isinstance(coded, Autoencoder):
        return coded, None
    return ConvCodec(spec, channels_of(coded, spec), coded.width), coded.width


@torch.no_grad()
def _shape_of_latents(codec: Codec, run: Run) -> tuple[int, ...]:
    blank = run.spec.per_channel("mean").expand(1, *run.spec.shape).to(run.device)
    return tuple(codec.encode(blank).shape[1:])


def _asked(codec: Codec, classifier: Classifier, source: Data, run: Run) -> CodecFidelity:
    """Return what the user's own autoencoder keeps, and say where that is less than xlens's own would have to."""
    span, wanted = run.spec.span().to(run.device), CodecOptions()
    found = codec_fidelity(codec, classifier, (part.to(run.device) for part in held_out(source)), span)
    if not found.holds(wanted.agreement, wanted.psnr):
        warn(
            f"fit: of what the autoencoder makes of the images, {found}; to be trusted, a lens behind it needs "
            f"{wanted.agreement:g} and {wanted.psnr:g} dB. What the classifier goes by is partly lost: pass "
            "one that was trained on such images, codec='auto', which trains one, or fit without one.",
            XlensWarning,
        )
    return found
