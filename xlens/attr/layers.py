"""Finding a layer with a spatial map, and spreading such a map over the input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xlens.classifier.hooks import of_this_thread
from xlens.classifier.put_out import tensor_in
from xlens.errors import ModelError, did_you_mean

__all__ = ["activations_of", "spatial_layer", "spread"]


def spatial_layer(
    function: nn.Module, chosen: str | nn.Module | None, probe: tuple[Any, ...], who: str
) -> nn.Module:
    """Return the chosen layer, or the last one that keeps the resolution of the last convolution.

    In a residual network that is the last block, in a plain one the activation after the last convolution. Where
    nothing of that resolution follows the last convolution, and maps ``(N, h, w, C)`` do, as in Swin, it is the
    last of these.

    Args:
        function: a module.
        chosen: a dotted name from its root, or from that of a part of it where that is unambiguous, or a module;
            None to look.
        probe: arguments of one forward pass.
        who: names the caller in errors.

    Raises:
        ModelError: there is no such layer, there are several, or none is to be found.
    """
    names = {name: module for name, module in function.named_modules() if name}
    if isinstance(chosen, nn.Module):
        if not any(module is chosen for module in names.values()):
            raise ModelError(f"{who}: the layer given is not a module of the model", given=type(chosen).__name__)
        return chosen
    if chosen is not None:
        return _named(names, str(chosen), who)
    runs = _runs(function, probe)
    at = [i for i, (module, _) in enumerate(runs) if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    if not at:
        raise ModelError(
            f"{who}: the model has no convolution with a spatial map",
            do=f"name a layer: attributions={{{who!r}: {{'layer': 'name'}}}}, or choose another method",
        )
    convolution, size = runs[at[-1]]
    chosen = [module for module, found in runs if found[1:] == size[1:]][-1]
    if chosen is convolution:
        later = [module for module, found in runs[at[-1] + 1 :] if _channels_last(found, probe[0])]
        return [chosen, *later][-1]
    return chosen


def activations_of(layer: nn.Module, function: nn.Module, arguments: tuple[Any, ...]) -> Tensor:
    """Return what `layer` puts out when ``function(*arguments)`` runs, or the tensor that this stands for.

    Raises:
        ModelError: the layer does not run, or puts out no tensor.
    """
    seen: list[Any] = []
    handle = layer.register_forward_hook(of_this_thread(lambda _module, _args, output: seen.append(output)))
    try:
        with torch.no_grad():
            function(*arguments)
    finally:
        handle.remove()
    found = tensor_in(seen[-1]) if seen else None
    if found is None:
        raise ModelError(
            "the layer puts out no tensor" if seen else "the layer does not run",
            given=type(layer).__name__,
            do="name one that puts out a tensor, on the way to the model's output",
        )
    return found.clone()


def spread(maps: Tensor, inputs: Tensor) -> Tensor:
    """Return maps of a layer ``(N, C', h, w)`` as ``(N, *S)``: channels summed, upsampled, the total kept.

    Raises:
        ModelError: the maps have no spatial shape that the inputs share.
    """
    if maps.dim() != 4 or inputs.dim() != 4:
        raise ModelError(
            "a map of that layer cannot be laid over the input",
            given=f"{tuple(maps.shape)} for inputs {tuple(inputs.shape)}",
            do="choose a layer with outputs (N, C, h, w) or (N, h, w, C); of a transformer on tokens, the "
            "convolution that makes them",
        )
    summed = maps.sum(1, keepdim=True)
    size = inputs.shape[2:]
    if min(size[0] / summed.shape[2], size[1] / summed.shape[3]) < 1:
        fine = nn.functional.adaptive_avg_pool2d(summed, (size[0], size[1]))
    else:
        fine = nn.functional.interpolate(summed, size=size, mode="bilinear", align_corners=False)
    fine = fine * (summed.shape[2] * summed.shape[3] / (size[0] * size[1]))
    # Interpolation weighs the borders a little differently; what that makes of the total is taken off evenly.
    off = fine.sum((2, 3), keepdim=True) - summed.sum((2, 3), keepdim=True)
    fine = fine - off / (size[0] * size[1])
    return (fine / inputs.shape[1]).expand_as(inputs).clone()


def _named(names: dict[str, nn.Module], chosen: str, who: str) -> nn.Module:
    # A module that wraps the model puts one name before the model's own.
    wrapped = [name for name in names if name.split(".", 1)[1:] == [chosen]]
    for found in ([chosen] if chosen in names else [], wrapped, [n for n in names if n.endswith(f".{chosen}")]):
        if len(found) == 1:
            return names[found[0]]
        if found:
            raise ModelError(f"{who}: there are several layers {chosen!r}", given=", ".join(found))
    raise ModelError(f"{who}: there is no layer {chosen!r}.{did_you_mean(chosen, names)}")


def _channels_last(shape: tuple[int, ...], inputs: Tensor) -> bool:
    """Whether ``(a, b, c)`` has the input's proportions as height, width and channels, and not the other way."""
    wanted = inputs.shape[3] / inputs.shape[2]
    first, last = (abs(height * wanted - width) <= 1 for height, width in (shape[1:], shape[:2]))
    return last and not first and min(shape[:2]) > 1


def _runs(function: nn.Module, probe: tuple[Any, ...]) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Return the modules with outputs of four axes, and these but the batch's, in the order in which they end."""
    # What attention puts on tokens is no map, however many tokens there are.
    others = (nn.Softmax, nn.Dropout)
    runs: list[tuple[nn.Module, tuple[int, ...]]] = []

    def hook(module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(module, others) or not isinstance(output, Tensor):
            return
        if output.dim() == 4 and max(output.shape[2:]) > 1:
            runs.append((module, tuple(output.shape[1:])))

    own = of_this_thread(hook)
    handles = [module.register_forward_hook(own) for module in function.modules() if module is not function]
    try:
        with torch.no_grad():
            function(*probe)
    finally:
        for handle in handles:
            handle.remove()
    return runs
