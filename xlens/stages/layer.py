"""The stage of a hidden layer: values are its activations, and the classifier of values is what follows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import Spec
from xlens.stages.arrangement import Arrangement
from xlens.stages.decoder import DecoderOptions, LayerDecoder
from xlens.stages.stage import Stage, where_it_is

__all__ = ["LayerStage"]


class _Following(nn.Module):
    """What turns values into the classifier's own output: activations of them, and what follows the layer.

    Args:
        arrangement: of values.
        body: what follows the layer; it shares the user's parameters.
        classifier: the user's, which says on which device and in which precision.
    """

    def __init__(self, arrangement: Arrangement, body: nn.Module, classifier: Classifier) -> None:
        super().__init__()
        self.arrangement, self.body = arrangement, body
        self._device, self._dtype = classifier.device, classifier.dtype

    def forward(self, values: Tensor) -> Any:
        # The lens may be on another device than the user's model.
        activations = self.arrangement.activations(values.to(self.arrangement.mean.device))
        return self.body.forward(activations.to(where_it_is(self.body, self._device), self._dtype))


class LayerStage(Stage):
    """Values are the standardised activations of the classifier's named layer, channels first.

    What a lens leaves out of them is kept as a part of its code, so that decoded codes are the activations again,
    and a counterfactual differs from its input by what the lens changes alone.

    Args:
        classifier: the user's, with the layer named.
        inputs: shape and range of its inputs.
        spec: of the values.
        shape: of one activation, A.
        order: its axes in the order in which values have them.
        probe: ``(N, *S)`` inputs to cut the classifier with.
        decoder: options of the decoder from the layer back to inputs; None for none.
    """

    kind = "layer"
    decodes_to = "layer"
    keeps_rest = True

    def __init__(
        self,
        classifier: Classifier,
        inputs: Spec,
        spec: Spec,
        *,
        shape: Sequence[int],
        order: Sequence[int],
        probe: Tensor,
        decoder: DecoderOptions | None = None,
    ) -> None:
        super().__init__(spec)
        self.shape = tuple(shape)
        self.arrangement = Arrangement(shape, order)
        self.options: DecoderOptions | None = None
        self.decoder: LayerDecoder | None = None
        if decoder is not None:
            self.begin_decoder(inputs, decoder)
        following = _Following(self.arrangement, classifier.following(probe), classifier)
        # In lists, so that they are neither submodules nor state.
        self._classifier = [classifier]
        self._following = [classifier.replaced(model=following, layer=None, normalization=None)]

    @classmethod
    def built(cls, classifier: Classifier, inputs: Spec, spec: Spec, facts: Mapping[str, Any]) -> LayerStage:
        """Return the stage of a saved lens, before its state is loaded."""
        given = facts["decoder"]
        return cls(
            classifier,
            inputs,
            spec,
            shape=facts["shape"],
            order=facts["order"],
            probe=inputs.per_channel("mean").expand(1, *inputs.shape).to(classifier.device),
            decoder=None if given is None else DecoderOptions(**given),
        )

    @property
    def classifier(self) -> Classifier:
        """The classifier of values."""
        return self._following[0]

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to values ``(N, *V)``; gradients flow."""
        return self.arrangement.values(self._classifier[0].activations(inputs).to(inputs.device))

    def decode(self, values: Tensor) -> Tensor:
        """Map values ``(N, *V)`` to activations ``(N, *A)``."""
        return self.arrangement.activations(values)

    def begin_decoder(self, inputs: Spec, options: DecoderOptions) -> LayerDecoder:
        """Return an untrained decoder from the layer back to inputs, by which values are shown from now on."""
        self.options, self.decoder = options, LayerDecoder(inputs, self.spec, options)
        return self.decoder

    @property
    def shows(self) -> bool:
        """Whether a decoder was trained."""
        return self.decoder is not None

    def show(self, values: Tensor) -> Tensor | None:
        """Return the decoder's inputs ``(N, *S)``, or None where none was trained."""
        return None if self.decoder is None else self.decoder(values)

    def facts(self) -> dict[str, Any]:
        """Return, as plain JSON, what it is built from again."""
        return {
            "kind": self.kind,
            "spec": dataclasses.asdict(self.spec),
            "shape": list(self.shape),
            "order": list(self.arrangement.order),
            "decoder": None if self.options is None else dataclasses.asdict(self.options),
        }


def standardised(raw: Spec, arrangement: Arrangement) -> Spec:
    """Return the spec of values whose arrangement was settled, of what was measured before.

    Args:
        raw: of arranged activations in their own units.
        arrangement: with the mean and scale that values get.
    """
    mean, scale = (part.flatten().double().cpu() for part in (arrangement.mean, arrangement.scale))

    def moved(values: Sequence[float], less: Tensor) -> tuple[float, ...]:
        return tuple(((torch.tensor(values, dtype=torch.float64) - less) / scale).tolist())

    none = torch.zeros_like(mean)
    return dataclasses.replace(
        raw,
        minimum=moved(raw.minimum, mean),
        maximum=moved(raw.maximum, mean),
        mean=moved(raw.mean, mean),
        std=moved(raw.std, none),
    )
