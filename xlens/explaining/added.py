"""What third parties add to explaining, asked: their paths, and their attributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from xlens.attr.curve import Polyline
from xlens.attr.evaluate import Score
from xlens.contracts.additions import AskedMap, AttributionMethod, PathMethod
from xlens.contracts.options import make
from xlens.errors import PluginError
from xlens.registry.added import load_addition

__all__ = ["added_map", "added_path"]


def added_path(name: str, start: Tensor, end: Tensor, decode: Callable[[Tensor], Tensor], score: Score) -> Polyline:
    """Return a third party's path from codes `start` to `end`, each ``(N, d)``, straight between its points.

    Raises:
        PluginError: what it returns is no path between them.
    """
    with torch.enable_grad():
        found = load_addition(PathMethod, name)().codes(start.detach(), end.detach(), decode, score)
    fits = isinstance(found, Tensor) and found.dim() == 3 and found.shape[1] > 1 and found.shape[::2] == end.shape
    if not fits or not bool(found.isfinite().all()):
        given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise PluginError(
            f"path {name!r}: what it returns is no path",
            given=given if not fits else "codes that are not finite",
            allowed=f"({len(end)}, T, {end.shape[1]}) with T of 2 or more",
        )
    found = found.detach().to(end)
    if not torch.allclose(found[:, 0], start, atol=1e-5) or not torch.allclose(found[:, -1], end, atol=1e-5):
        raise PluginError(f"path {name!r}: it does not begin and end at the codes that it was given")
    return Polyline(torch.cat([start.unsqueeze(1), found[:, 1:-1], end.unsqueeze(1)], 1))


def added_map(name: str, options: Mapping[str, Any], asked: AskedMap) -> tuple[Tensor, bool]:
    """Return a third party's map of each input ``(N, *S)``, and whether it promises the sum.

    Raises:
        PluginError: what it returns are no maps of these inputs.
    """
    method = make(load_addition(AttributionMethod, name), options)
    with torch.enable_grad():
        found = method.attribute(asked)
    if not isinstance(found, Tensor) or found.shape != asked.inputs.shape or not bool(found.isfinite().all()):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise PluginError(
            f"attribution {name!r}: what it returns are no maps",
            given=shape if shape != tuple(asked.inputs.shape) else "numbers that are not finite",
            allowed=f"finite, of the inputs' shape {tuple(asked.inputs.shape)}",
        )
    return found.detach().to(asked.inputs.dtype), method.complete
