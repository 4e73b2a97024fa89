"""The stage of an autoencoder: values are latents, and the classifier of values is the user's after decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.codec import Autoencoder, Codec, ConvCodec
from xlens.contracts.backend import Spec
from xlens.stages.own import facts_of
from xlens.stages.stage import Stage, where_it_is

__all__ = ["CodecStage"]


class _Decoding(nn.Module):
    """What turns latents into the classifier's own output.

    Args:
        codec: the autoencoder.
        model: the user's.
        classifier: the user's, which says on which device and in which precision.
    """

    def __init__(self, codec: Codec, model: nn.Module, classifier: Classifier) -> None:
        super().__init__()
        self.codec, self.model = codec, model
        self._device, self._dtype = classifier.device, classifier.dtype

    def forward(self, latents: Tensor) -> Any:
        return self.model(self.codec.decode(latents).to(where_it_is(self.model, self._device), self._dtype))


class CodecStage(Stage):
    """Values are the latents ``(N, c, h, w)`` of images; what a lens makes of them is decoded to images again.

    Args:
        classifier: the user's.
        codec: the autoencoder, trained or to be loaded; or the user's own, which is no part of the state.
        width: channels of its network, which it is built with again; None of the user's own.
        spec: of the latents.
    """

    kind = "codec"
    decodes_to = "inputs"

    def __init__(self, classifier: Classifier, codec: Codec, width: int | None, spec: Spec) -> None:
        super().__init__(spec)
        self.codec, self.width = codec, width
        # As it is now: the user may train it on, and this lens is one around what it was.
        self._own = facts_of(codec) if isinstance(codec, Autoencoder) else None
        # In a list, so that it is neither submodule nor state.
        self._classifier = [
            classifier.replaced(
                model=_Decoding(codec, classifier.model, classifier), layer=None, normalization=None
            )
        ]

    @classmethod
    def built(
        cls, classifier: Classifier, inputs: Spec, spec: Spec, facts: Mapping[str, Any], own: Autoencoder | None
    ) -> CodecStage:
        """Return the stage of a saved lens, before its state is loaded; behind the user's own where it is given."""
        if own is not None:
            return cls(classifier, own, None, spec)
        codec = ConvCodec(inputs, spec.shape[0], facts["width"]).eval().requires_grad_(False)
        return cls(classifier, codec, facts["width"], spec)

    @property
    def classifier(self) -> Classifier:
        """The classifier of latents."""
        return self._classifier[0]

    def held(self) -> AbstractContextManager[object]:
        """Return the context in which it is asked: the user's own autoencoder is in eval mode there, and frozen."""
        return self.codec.held()

    def encode(self, inputs: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to latents ``(N, c, h, w)``."""
        return self.codec.encode(inputs)

    def decode(self, values: Tensor) -> Tensor:
        """Map latents ``(N, c, h, w)`` to images ``(N, C, H, W)``."""
        return self.codec.decode(values)

    def facts(self) -> dict[str, Any]:
        """Return, as plain JSON, what it is built from again, or what the user's own is known by."""
        known = {"width": self.width} if self._own is None else {"own": self._own}
        return {"kind": self.kind, "spec": dataclasses.asdict(self.spec), **known}
