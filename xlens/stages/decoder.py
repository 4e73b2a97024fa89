"""A decoder from values back to inputs: its network, its options, and how it is trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from xlens.contracts.backend import Run, Spec
from xlens.contracts.options import options, param
from xlens.data import Batch, Data
from xlens.nn import ImageDecoder
from xlens.training.schedule import warmed_and_decayed
from xlens.training.trainer import Trainer

__all__ = ["DECODER_PHASE", "DecoderOptions", "LayerDecoder", "fit_decoder"]

#: What the decoder's training is called.
DECODER_PHASE = "decoder"
#: Images with a shorter side get a fully connected network.
_SMALLEST = 8


@options
class DecoderOptions:
    """How the decoder from a hidden layer back to inputs is trained: ``xlens.fit(..., decoder=DecoderOptions())``.

    >>> from xlens import DecoderOptions
    >>> DecoderOptions(steps=200).steps
    200
    """

    steps: int = param(1000, ge=1, help="training steps")
    batch_size: int = param(64, ge=1, help="inputs a step")
    hidden: int = param(256, ge=8, help="width of the hidden layers")
    width: int = param(24, ge=4, help="channels at full resolution, where inputs are images")
    learning_rate: float = param(2e-3, gt=0, help="Adam's")
    again_weight: float = param(
        0.1, ge=0, help="weight of the squared error of the values that the decoded input has in the layer"
    )


class LayerDecoder(nn.Module):
    """Values of a hidden layer to inputs within the data's range.

    Args:
        inputs: shape and range of the inputs.
        values: shape and range of the values.
        chosen: its options.
    """

    low: Tensor
    span: Tensor

    def __init__(self, inputs: Spec, values: Spec, chosen: DecoderOptions) -> None:
        super().__init__()
        self.shape, hidden = inputs.shape, chosen.hidden
        self.images = inputs.is_image and min(inputs.shape[1:]) >= _SMALLEST
        self.register_buffer("low", inputs.per_channel("minimum"), persistent=False)
        self.register_buffer("span", inputs.per_channel("maximum") - self.low, persistent=False)
        self.entry = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(values.shape), hidden), nn.GELU())
        self.trunk: nn.Module
        if self.images:
            self.trunk = ImageDecoder(inputs, hidden, hidden, chosen.width)
        else:
            self.trunk = nn.Sequential(
                nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, math.prod(inputs.shape))
            )

    def forward(self, values: Tensor) -> Tensor:
        """Map values ``(N, *V)`` to inputs ``(N, *S)``."""
        hidden = self.entry(values)
        raw = self.trunk(hidden, hidden) if self.images else self.trunk(hidden).view(-1, *self.shape)
        return self.low + self.span * raw.sigmoid()


def fit_decoder(
    decoder: LayerDecoder, encode: Callable[[Tensor], Tensor], source: Data, run: Run, chosen: DecoderOptions
) -> None:
    """Train the decoder, with the classifier frozen: what it makes is to be like the inputs, here and in the layer.

    Args:
        decoder: the network.
        encode: maps inputs to values; gradients flow.
        source: the data.
        run: circumstances of the fit.
        chosen: its options.
    """
    trainer = Trainer(
        # What a lens starts from is none of this network.
        dataclasses.replace(run, start_from=None),
        DECODER_PHASE,
        networks={"decoder": decoder},
        optimizers={"decoder": torch.optim.Adam(decoder.parameters(), chosen.learning_rate)},
        steps=chosen.steps,
        schedule=warmed_and_decayed,
        ema={"decoder": 0.99},
        clip=1.0,
    )
    span = torch.where(decoder.span > 0, decoder.span, torch.ones_like(decoder.span))

    def step(batch: Batch) -> Mapping[str, Tensor]:
        with torch.no_grad():
            values = encode(batch.inputs)
        decoded = decoder(values)
        error = (decoded - batch.inputs) / span
        losses = {"mse": error.square().mean(), "l1": error.abs().mean()}
        total = losses["mse"] + 0.5 * losses["l1"]
        if chosen.again_weight:
            losses["again"] = (encode(decoded) - values).square().mean()
            total = total + chosen.again_weight * losses["again"]
        trainer.minimise(total, "decoder")
        return losses

    trainer.fit(source, step, batch_size=chosen.batch_size)
    decoder.load_state_dict(trainer.averaged("decoder").state_dict())
