"""What the classifier computes on the way to its logits, as material for other networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.classifier.hooks import of_this_thread

__all__ = ["FeatureMaps", "Penultimate"]


class FeatureMaps(nn.Module):
    """Up to three intermediate feature maps of a classifier, standardised, finest first.

    They are the outputs of the last convolution at each resolution. A classifier without
    convolutions has none, and then this returns an empty list.

    Args:
        classifier: the frozen classifier; it is not a submodule and not part of the state.
        probe: ``(N, *S)`` inputs from which the statistics are taken.
        most: largest number of maps.
        measured: take the statistics. Where a saved state brings them, the classifier is run on one input instead.
        known: names and widths of the maps, where they are known; then the classifier is not run to find them.
    """

    def __init__(
        self,
        classifier: Classifier,
        probe: Tensor,
        most: int = 3,
        *,
        measured: bool = True,
        known: Sequence[tuple[str, int]] | None = None,
    ) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is no submodule
        if known is None:
            found = _maps_by_resolution(classifier, probe[: 2 if measured else 1]) if probe.dim() == 4 else {}
            known = [layer for _, layer in sorted(found.items(), key=lambda item: -item[0][0] * item[0][1])[:most]]
        self.names = tuple(name for name, _ in known)
        self.widths = tuple(width for _, width in known)
        if not measured:
            for i, width in enumerate(self.widths):
                self.register_buffer(f"mean{i}", torch.zeros(1, width, 1, 1))
                self.register_buffer(f"std{i}", torch.ones(1, width, 1, 1))
            return
        with torch.no_grad():
            for i, values in enumerate(self._raw(probe)):
                spread = values.std((0, 2, 3), keepdim=True)
                self.register_buffer(f"mean{i}", values.mean((0, 2, 3), keepdim=True))
                self.register_buffer(f"std{i}", spread + 1e-3 * values.std() + 1e-8)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Return the standardised maps of inputs ``(N, *S)``, each ``(N, C_i, H_i, W_i)``, detached."""
        with torch.no_grad():
            return [
                ((values - getattr(self, f"mean{i}")) / getattr(self, f"std{i}")).clamp(-6, 6)
                for i, values in enumerate(self._raw(inputs))
            ]

    def _raw(self, inputs: Tensor) -> list[Tensor]:
        if not self.names:
            return []
        (classifier,) = self._classifier
        with classifier.record(self.names) as seen:
            classifier(inputs)
        return [seen[name].to(inputs.device, torch.float32) for name in self.names]


class Penultimate:
    """The logits of a classifier together with what its last linear layer sees.

    Where a model has no linear layer in its forward pass, its logits stand for the features.

    Args:
        forward: maps inputs to logits ``(N, K)``; may be a copy of the user's model.
        model: the module behind it.
        probe: ``(N, *S)`` an input to find the layer with.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], model: nn.Module, probe: Tensor) -> None:
        self.forward = forward
        order: list[nn.Linear] = []
        handles = [
            module.register_forward_hook(of_this_thread(lambda module, *_: order.append(module)))
            for module in model.modules()
            if isinstance(module, nn.Linear)
        ]
        try:
            with torch.no_grad():
                logits = forward(probe[:2])
        finally:
            for handle in handles:
                handle.remove()
        # A gate inside the network may run later than the head, but only the head is as wide as the logits.
        heads = [layer for layer in order if layer.out_features in (1, logits.shape[1])]
        self.layer: nn.Linear | None = [None, *order, *heads][-1]
        self.width = self.layer.in_features if self.layer is not None else logits.shape[1]

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``(N, K)`` and features ``(N, width)``; gradients flow."""
        if self.layer is None:
            logits = self.forward(inputs)
            return logits, logits
        seen: list[Tensor] = []

        def keep(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen.append(args[0])

        handle = self.layer.register_forward_pre_hook(of_this_thread(keep))
        try:
            logits = self.forward(inputs)
        finally:
            handle.remove()
        # Token models call the layer on (N, tokens, width); one row per input is wanted.
        features = seen[-1].to(inputs.device, torch.float32)
        return logits, features if features.dim() == 2 else features.flatten(1, -2).mean(1)


def _maps_by_resolution(classifier: Classifier, probe: Tensor) -> dict[tuple[int, ...], tuple[str, int]]:
    found: dict[tuple[int, ...], tuple[str, int]] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            if not isinstance(output, Tensor) or output.dim() != 4 or len(output) != len(probe):
                return
            if min(output.shape[2:]) > 1:
                found[tuple(output.shape[2:])] = (name, output.shape[1])

        return hook

    handles = [
        module.register_forward_hook(of_this_thread(look(name)))
        for name, module in classifier.model.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    try:
        with torch.no_grad():
            classifier(probe)
    finally:
        for handle in handles:
            handle.remove()
    return found
