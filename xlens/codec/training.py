"""Training the built-in autoencoder on crops, and letting it grow until the classifier agrees."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from xlens.classifier.classifier import Classifier
from xlens.codec.fidelity import CodecFidelity, codec_fidelity
from xlens.codec.network import ConvCodec
from xlens.contracts.backend import Run, Spec
from xlens.contracts.options import options, param, to_dict
from xlens.data import Batch, Data
from xlens.errors import DataError, XlensWarning, warn
from xlens.training.schedule import warmed_and_decayed
from xlens.training.trainer import Trainer

__all__ = ["CODEC_PHASE", "CodecOptions", "channels_of", "fit_codec", "held_out"]

#: What its training is called.
CODEC_PHASE = "codec"
#: One image in so many is kept out of training, to be asked about; at most, and of a stream the first ones.
_HELD_OUT, _MOST_ASKED = 8, 128
#: Images from which components and the scale of latents are taken.
_LOOKED_AT = 64
#: Weights of the loss on a grid four times as coarse, and on differences between neighbours.
_COARSE, _EDGES = 0.5, 1.0
_SCALE = 100.0


@options
class CodecOptions:
    """How an autoencoder is trained: ``fit_codec(..., options=CodecOptions(steps=500))``.

    >>> from xlens.codec import CodecOptions
    >>> CodecOptions(steps=500).steps
    500
    """

    channels: int = param(32, ge=4, help="channels of the latents to begin with")
    width: int = param(32, ge=4, help="channels of the network at half the size of the images")
    steps: int = param(600, ge=1, help="training steps of each attempt")
    batch_size: int = param(8, ge=1, help="crops a step")
    crop: int = param(96, ge=16, help="side of a crop in pixels")
    learning_rate: float = param(1e-3, gt=0, help="AdamW's")
    agreement: float = param(0.97, ge=0, le=1, help="share of images on which the classifier is to agree")
    psnr: float = param(30.0, ge=0, help="decibels that are to be reached")
    growths: int = param(2, ge=0, help="how often it may grow: first twice the channels, then twice the steps")


def fit_codec(
    classifier: Classifier, data: Data, run: Run, options: CodecOptions | None = None
) -> tuple[ConvCodec, CodecFidelity]:
    """Autoencoder for the data, trained on crops; of the classifier it is only asked afterwards what it kept.

    Where the classifier disagrees too often, or too much is lost, it grows and is trained on: with twice the
    channels, then for twice the steps. Where that is not enough either, a warning says so.

    Args:
        classifier: the frozen classifier.
        data: images ``(n, C, H, W)``, of which an eighth is kept out of training.
        run: circumstances of the fit.
        options: how it is trained.

    Returns:
        the autoencoder, and its fidelity on images that it was not trained on (of a stream: on its first ones).

    Raises:
        DataError: the images are smaller than a cell of latents.
    """
    wanted = CodecOptions() if options is None else options
    if not run.spec.is_image or min(run.spec.shape[1:]) < 16:
        raise DataError(
            "codec: the inputs are no images with cells to encode",
            given=f"shape {run.spec.shape}",
            allowed="(C, H, W) with sides of at least 16 pixels",
            do="leave codec='none'",
        )
    training, asked = _parted(data)
    facts = json.dumps([run.identity, to_dict(wanted)], sort_keys=True)
    run = dataclasses.replace(run, start_from=None, identity=hashlib.sha256(facts.encode()).hexdigest())
    channels, steps, span = channels_of(wanted, run.spec), wanted.steps, run.spec.span().to(run.device)
    codec = _trained(None, training, run, CODEC_PHASE, wanted, channels, steps)
    found = codec_fidelity(codec, classifier, (part.to(run.device) for part in asked()), span)
    for growth in range(wanted.growths):
        if found.holds(wanted.agreement, wanted.psnr):
            return codec, found
        channels, steps = (2 * channels, steps) if growth % 2 == 0 else (channels, 2 * steps)
        codec = _trained(codec, training, run, f"{CODEC_PHASE}-{growth + 2}", wanted, channels, steps)
        found = codec_fidelity(codec, classifier, (part.to(run.device) for part in asked()), span)
    if found.holds(wanted.agreement, wanted.psnr):
        return codec, found
    warn(
        f"codec: {found}, and wanted were {wanted.agreement:g} and {wanted.psnr:g} dB, after {wanted.growths} "
        f"growths to {codec.channels} channels. What the classifier goes by is partly lost: allow more growths or "
        "steps (CodecOptions), pass an autoencoder of your own, or fit without one.",
        XlensWarning,
    )
    return codec, found


def channels_of(wanted: CodecOptions, spec: Spec) -> int:
    """Return the channels of latents that it begins with: more than those of the images."""
    return max(wanted.channels, spec.shape[0] + 1)


def held_out(data: Data) -> Iterator[Tensor]:
    """Yield the batches of images that an autoencoder is asked about: an eighth, or of a stream the first ones."""
    yield from _parted(data)[1]()


def _trained(
    smaller: ConvCodec | None, data: Data, run: Run, phase: str, wanted: CodecOptions, channels: int, steps: int
) -> ConvCodec:
    codec = ConvCodec(run.spec, channels, wanted.width).to(run.device)
    some = _first(data, run, _LOOKED_AT)
    if smaller is None or smaller.channels != channels:
        codec.begin(some)
    if smaller is not None:
        codec.grow_from(smaller)
    # What latents are scaled by is settled afterwards.
    codec.shift.zero_(), codec.scale.fill_(1)
    trainer = Trainer(
        run,
        phase,
        networks={"codec": codec},
        optimizers={"codec": torch.optim.AdamW(codec.parameters(), wanted.learning_rate, (0.9, 0.98))},
        steps=steps,
        schedule=warmed_and_decayed,
        clip=1.0,
    )
    side = [min(wanted.crop, length) for length in run.spec.shape[1:]]
    side = [length - length % codec.stride for length in side]
    span = run.spec.span().to(run.device)

    def step(batch: Batch) -> Mapping[str, Tensor]:
        crops = _crops(batch.inputs, side, trainer.generator)
        loss = _loss((trainer.networks["codec"](crops) - crops) / span)
        trainer.minimise(loss, "codec")
        return {"loss": loss}

    trainer.fit(data, step, batch_size=wanted.batch_size)
    codec.eval().settle(some)
    return codec


def _loss(error: Tensor) -> Tensor:
    """Return the mean square of errors ``(N, C, H, W)``, of coarse cells, and of differences between neighbours.

    Squares, and no absolute values: these leave out what is small and rare, such as the spots of a disease.
    """
    edges = error.diff(dim=-1).square().mean() + error.diff(dim=-2).square().mean()
    coarse = F.avg_pool2d(error, 4).square().mean()
    # As large as other losses are, for the clipping of gradients.
    return _SCALE * (error.square().mean() + _COARSE * coarse + _EDGES * edges)


def _crops(images: Tensor, side: list[int], generator: torch.Generator) -> Tensor:
    """Cut one crop out of each image, all of them mirrored every other time."""
    places = torch.rand(len(images), 2, generator=generator, device=images.device).cpu()
    cut = []
    for image, (down, right) in zip(images, places.tolist(), strict=True):
        top, left = (
            int(share * (n - s + 1)) for share, n, s in zip((down, right), image.shape[1:], side, strict=True)
        )
        cut.append(image[:, top : top + side[0], left : left + side[1]])
    crops = torch.stack(cut)
    return crops.flip(-1) if bool(torch.rand((), generator=generator, device=images.device) < 0.5) else crops


def _first(data: Data, run: Run, most: int) -> Tensor:
    """Return some images, drawn where the data have positions."""
    images, count = [], 0
    for batch in data.batches(16, generator=torch.Generator().manual_seed(run.seed)):
        images.append(batch.inputs)
        count += len(batch)
        if count >= most:
            break
    return torch.cat(images)[:most].to(run.device)


class _Rows(Dataset[Any]):
    """Some of the data, by position."""

    def __init__(self, data: Data, index: list[int]) -> None:
        self._data, self._index = data, index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> Tensor:
        return self._data.take(torch.tensor([self._index[i]])).inputs[0]


def _parted(data: Data) -> tuple[Data, Any]:
    """Return what is trained on, and what gives batches of images to ask about."""
    if not data.indexed or len(data) < 2 * _HELD_OUT:

        def first() -> Iterator[Tensor]:
            count = 0
            for batch in data.batches(16):
                yield batch.inputs[: _MOST_ASKED - count]
                count += len(batch)
                if count >= _MOST_ASKED:
                    return

        return data, first
    out = list(range(0, len(data), max(_HELD_OUT, -(-len(data) // _MOST_ASKED))))
    kept = sorted(set(range(len(data))) - set(out))

    def apart() -> Iterator[Tensor]:
        for index in torch.tensor(out).split(16):
            yield data.take(index).inputs

    return Data(_Rows(data, kept)), apart
