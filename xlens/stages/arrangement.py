"""How a layer's activations lie as values: channels first, each in units of its own spread."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xlens.attr.axes import is_channels_last
from xlens.classifier.classifier import Classifier
from xlens.errors import ModelError

__all__ = ["Arrangement", "order_of"]

#: Modules that put out (N, C, L), whatever they are given.
_SIGNALS = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d)
#: Channels that vary less than this share of the liveliest are as good as constant.
_DEAD = 1e-5


class Arrangement(nn.Module):
    """Activations ``(N, *A)`` to values ``(N, C, ...)`` of mean 0 and deviation 1 in each channel, and back.

    Args:
        shape: of one activation, A.
        order: axes of A in the order in which values have them.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int], order: Sequence[int]) -> None:
        super().__init__()
        self.order = tuple(order)
        self._forth = (0, *(axis + 1 for axis in self.order))
        self._back = (0, *(self.order.index(axis) + 1 for axis in range(len(self.order))))
        self.shape = tuple(shape[axis] for axis in self.order)
        per_channel = (1, self.shape[0], *([1] * (len(self.shape) - 1)))
        self.register_buffer("mean", torch.zeros(per_channel))
        self.register_buffer("scale", torch.ones(per_channel))

    @torch.no_grad()
    def settle(self, mean: Tensor, std: Tensor) -> None:
        """Take the mean and standard deviation of each channel, ``(C,)`` each."""
        self.mean.copy_(mean.view_as(self.mean))
        lively = std > _DEAD * std.max()
        self.scale.copy_(torch.where(lively, std, std.max()).view_as(self.scale))

    def arranged(self, activations: Tensor) -> Tensor:
        """Return activations ``(N, *A)`` with their axes in the order of values, in their own units."""
        return activations.permute(self._forth)

    def values(self, activations: Tensor) -> Tensor:
        """Return activations ``(N, *A)`` as values."""
        return (self.arranged(activations).float() - self.mean) / self.scale

    def activations(self, values: Tensor) -> Tensor:
        """Return values as activations ``(N, *A)``."""
        return (values * self.scale + self.mean).permute(self._back).contiguous()


def order_of(classifier: Classifier, inputs: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape A of the layer's activations, and the order of its axes with channels first.

    Maps ``(h, w, C)`` are told from ``(C, h, w)`` by what follows a change of the input. Of two axes the last are
    the channels where tokens are, ``(T, D)``: everywhere but behind what puts out signals ``(C, L)``.

    Args:
        classifier: with a layer.
        inputs: ``(N, *S)``.
    """
    with torch.no_grad():
        shape = tuple(classifier.activations(inputs[:1]).shape[1:])
    layer = dict(classifier.model.named_modules())[str(classifier.layer)]
    last = False
    if len(shape) == 2:
        last = inputs.dim() == 4 or isinstance(layer, nn.LayerNorm | nn.Linear)
        last = last and not isinstance(layer, _SIGNALS)
    elif len(shape) == 3:
        try:
            prepared = inputs[:1].to(classifier.device, classifier.dtype)
            last = is_channels_last(layer, classifier.model, prepared, (), "fit")
        except ModelError:
            # Where it cannot be told, values are as the layer puts them out.
            last = False
    axes = tuple(range(len(shape)))
    return shape, (axes[-1], *axes[:-1]) if last else axes
