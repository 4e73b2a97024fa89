"""Where a classifier can be cut: layers through which everything goes that decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from xlens.classifier.classifier import Classifier
from xlens.classifier.hooks import of_this_thread
from xlens.classifier.put_out import tensor_in
from xlens.errors import ModelError

__all__ = ["check_cut", "layers_that_cut"]

#: Layers on either side that are looked at.
_LOOKED_AT = 16
#: Inputs that are asked about.
_ASKED = 8


def check_cut(classifier: Classifier, inputs: Tensor) -> None:
    """Refuse a layer around which the classifier sees more of inputs ``(N, *S)``, and name others near it.

    Raises:
        ModelError: there are paths around the layer, or it does not put out one row per input.
    """
    some = inputs[:_ASKED]
    with torch.no_grad():
        rows, alone = classifier.activations(some), classifier.activations(some[:1])
    # As many tokens as inputs, tokens first, look like a row of each input but for a single one.
    per_input = len(rows) == len(some) and len(alone) == 1 and rows.shape[1:] == alone.shape[1:]
    if rows.dim() < 2 or not per_input or not rows.is_floating_point():
        raise ModelError(
            f"fit: the layer {classifier.layer!r} puts out no activations of each input",
            given=f"{tuple(rows.shape)} of {rows.dtype} for {len(some)} inputs",
            allowed="floats (N, D), (N, C, h, w), (N, h, w, C) or (N, T, D)",
            do="name another layer: xlens.Classifier(model, layer='...')",
        )
    if classifier.decided_by_layer(some):
        return
    near = layers_that_cut(classifier, some)
    raise ModelError(
        f"fit: the classifier is not decided by the layer {classifier.layer!r} alone",
        given="paths around it, such as skip connections",
        allowed=f"layers near it through which everything goes: {', '.join(near)}" if near else None,
        do="name one of them: xlens.Classifier(model, layer='...')"
        if near
        else "name a layer through which everything goes, such as the last before the head",
    )


def layers_that_cut(classifier: Classifier, inputs: Tensor) -> tuple[str, ...]:
    """Return the names of up to two layers before the classifier's own, and two after it, that it can be cut after.

    Args:
        classifier: with a layer.
        inputs: ``(N, *S)``, N >= 2 of which no two are the same.
    """
    order = _in_order(classifier, inputs[:1])
    if classifier.layer not in order:
        return ()
    at = order.index(str(classifier.layer))
    before = [*_cut(classifier, inputs, order[max(0, at - _LOOKED_AT) : at][::-1])]
    after = [*_cut(classifier, inputs, order[at + 1 : at + 1 + _LOOKED_AT])]
    return (*before[::-1], *after)


def _cut(classifier: Classifier, inputs: Tensor, names: list[str]) -> Iterator[str]:
    found = 0
    for name in names:
        if found < 2 and classifier.replaced(layer=name).decided_by_layer(inputs):
            found += 1
            yield name


def _in_order(classifier: Classifier, probe: Tensor) -> list[str]:
    """Return the names of all modules that put out one float row per input, in the order in which they are done.

    What puts out the model's own output is left out: there is nothing after it.
    """
    order: list[str] = []
    handles = []
    with torch.no_grad():
        last = classifier(probe)

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            found = tensor_in(output)
            if found is None or not found.is_floating_point():
                return
            if found.dim() >= 2 and len(found) == len(probe) and found.numel() > last.numel():
                order.append(name)

        return hook

    for name, module in classifier.model.named_modules():
        if name:
            handles.append(module.register_forward_hook(of_this_thread(note(name))))
    try:
        with torch.no_grad():
            classifier(probe)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))
