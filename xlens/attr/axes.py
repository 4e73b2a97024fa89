"""Which axes of a layer's map are height and width: (N, C, h, w) as convolutions have it, or (N, h, w, C)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xlens.attr.layers import activations_of
from xlens.classifier.hooks import of_this_thread
from xlens.errors import ModelError

__all__ = ["channels_first", "is_channels_last"]

#: Modules that put out (N, C, h, w), whatever they are given.
_FIRST = (
    nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample, nn.PixelShuffle,
)  # fmt: skip
#: How far a change of the input has to move what it changes in a map, where half of a side would be all of it.
_SEEN = 0.1


def is_channels_last(
    layer: nn.Module, function: nn.Module, inputs: Tensor, arguments: tuple[Any, ...], who: str
) -> bool:
    """Whether a layer puts out ``(N, h, w, C)``, as in Swin, and not ``(N, C, h, w)``.

    What a module is tells it for some. Of others one place of the input after another is changed: the axes along
    which the change in the map follows it up and down, and left and right, are height and width. Where a change
    anywhere is seen everywhere, the axes are those two whose sizes are to each other as the input's.

    Args:
        layer: a module inside `function`.
        function: is called on the inputs and the arguments.
        inputs: ``(N, C, H, W)``, of which the first is used.
        arguments: further arguments; tensors have a row per input.
        who: names the caller in errors.

    Raises:
        ModelError: the layer puts out four axes, and it cannot be told which are which.
    """
    if inputs.dim() != 4 or isinstance(layer, _FIRST):
        return False
    one = tuple(a[:1].expand(5, *a.shape[1:]) if isinstance(a, Tensor) and a.dim() else a for a in arguments)
    found = activations_of(layer, function, (_changed(inputs[:1]), *one))
    if not isinstance(found, Tensor) or found.dim() != 4 or len(found) != 5:
        return False
    if type(layer) in (nn.LayerNorm, nn.Linear):
        return not isinstance(layer, nn.LayerNorm) or len(layer.normalized_shape) == 1
    answer = _by_following(found)
    if answer is None:
        answer = _by_size(tuple(found.shape[1:]), (inputs.shape[2], inputs.shape[3]))
    if answer is None:
        raise ModelError(
            f"{who}: it cannot be told which axes of this layer's output are height and width",
            given=f"a {type(layer).__name__} that puts out {('N', *found.shape[1:])} for inputs "
            f"{('N', *inputs.shape[1:])}".replace("'N'", "N"),
            do="name a layer that puts out (N, C, h, w), such as a convolution",
        )
    return answer


@contextmanager
def channels_first(layer: nn.Module) -> Iterator[nn.Module]:
    """Within this context, what the layer puts out as ``(N, h, w, C)`` passes a module as ``(N, C, h, w)``.

    What follows the layer sees it as before.

    Yields:
        the module, to be asked in the layer's place.
    """
    seen = nn.Identity()

    def turn(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        passed: Tensor = seen(output.permute(0, 3, 1, 2))
        return passed.permute(0, 2, 3, 1)

    handle = layer.register_forward_hook(of_this_thread(turn))
    try:
        yield seen
    finally:
        handle.remove()


def _changed(one: Tensor) -> Tensor:
    """Return an input ``(5, C, H, W)`` as it is, and brighter in the middle of each of its quarters, by rows."""
    found = one.repeat(5, 1, 1, 1)
    height, width = one.shape[2:]
    span = float(one.max() - one.min()) or 1.0
    for i, (y, x) in enumerate((y, x) for y in (1, 3) for x in (1, 3)):
        rows = slice(max(0, (2 * y - 1) * height // 8), max(1, (2 * y + 1) * height // 8))
        columns = slice(max(0, (2 * x - 1) * width // 8), max(1, (2 * x + 1) * width // 8))
        found[i + 1, :, rows, columns] += span
    return found


def _by_following(values: Tensor) -> bool | None:
    """Return whether height and width are axes 1 and 2 of ``(5, a, b, c)``, None where the map does not follow."""
    change = (values[1:] - values[:1]).abs().double()
    if not bool(change.isfinite().all()) or not bool(change.flatten(1).any(1).all()):
        return None
    down, across = [], []
    for axis in (1, 2, 3):
        others = [other for other in (1, 2, 3) if other != axis]
        along = change.sum(others)
        at = torch.linspace(0, 1, along.shape[1], dtype=along.dtype, device=along.device)
        left_top, right_top, left_low, right_low = (along @ at / along.sum(1)).tolist()
        down.append((left_low + right_low - left_top - right_top) / 2)
        across.append((right_top + right_low - left_top - left_low) / 2)
    first, last = min(down[1], across[2]), min(down[0], across[1])
    if max(first, last) < _SEEN or min(first, last) > max(first, last) / 2:
        return None
    return last > first


def _by_size(shape: tuple[int, ...], size: tuple[int, int]) -> bool | None:
    """Return whether axes ``(a, b, c)`` are height, width and channels, or None where both or neither may be."""
    for slack in (0.0, 1.0):
        first, last = (abs(height * size[1] / size[0] - width) <= slack for height, width in (shape[1:], shape[:2]))
        if first != last:
            return last
    return None
