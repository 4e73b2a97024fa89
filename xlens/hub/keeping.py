"""What of the data a lens keeps, and so takes along wherever its files go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from xlens.fitted import Fitted
from xlens.metrics.likeness import PatchBank
from xlens.nn import Kept
from xlens.stages import StagedLens

__all__ = ["KeptData", "KeptPart", "kept_data"]

#: From how many tensors of an input's shape on a lens is taken to keep inputs; a single one may be a mean.
_SEVERAL = 2


@dataclass(frozen=True)
class KeptPart:
    """One kind of thing that a lens keeps of the data.

    Args:
        kind: ``"inputs"``: real inputs as they are; ``"rows"``: numbers about single inputs, such as what a layer
            gave for each, and what was answered about it; ``"patches"``: small pieces of real inputs;
            ``"statistics"``: figures over all of them; ``"weights"``: what was trained on them.
        count: how many.
        said: what it is, in words.
    """

    kind: Literal["inputs", "rows", "patches", "statistics", "weights"]
    count: int
    said: str


@dataclass(frozen=True)
class KeptData:
    """What of the data a lens keeps: it goes with the lens's files, wherever they go.

    Args:
        parts: each kind of thing, single inputs first.

    >>> explainer.kept_data.single_inputs
    False
    >>> print(explainer.kept_data)
    smallest and largest value, mean and standard deviation of each of 1 channels, and median margins of 2 classes
    ...
    """

    parts: tuple[KeptPart, ...]

    @property
    def single_inputs(self) -> bool:
        """Whether real inputs are among it, or numbers about single ones."""
        return any(part.kind in ("inputs", "rows") for part in self.parts)

    def __str__(self) -> str:
        """Return a line for each part."""
        return "\n".join(part.said for part in self.parts)


def kept_data(fitted: Fitted) -> KeptData:
    """Return what of the data a lens keeps, found by looking at everything that is saved with it."""
    parts = [*_single(fitted.lens, _shapes(fitted)), *_patches(fitted)]
    spec = fitted.spec
    statistics = (
        f"smallest and largest value, mean and standard deviation of each of {len(spec.mean)} channels, and median "
        f"margins of {spec.num_classes} classes"
    )
    count = sum(tensor.numel() for tensor in fitted.lens.state_dict().values())
    weights = f"{count:,} numbers that were trained on the data; a generative model may repeat parts of what it saw"
    return KeptData((*parts, KeptPart("statistics", 1, statistics), KeptPart("weights", count, weights)))


def _shapes(fitted: Fitted) -> set[tuple[int, ...]]:
    """Return the shape of one input, and of what a stage makes of it, which its decoder can make an input again."""
    own = {tuple(fitted.spec.shape)}
    lens = fitted.lens
    return own | {tuple(lens.stage.spec.shape)} if isinstance(lens, StagedLens) else own


def _single(lens: nn.Module, shapes: set[tuple[int, ...]]) -> list[KeptPart]:
    """Return the real inputs that a lens keeps, and the numbers about single ones."""
    found: dict[str, tuple[Literal["inputs", "rows"], Tensor]] = {}
    saved = lens.state_dict()
    for place, module in lens.named_modules():
        for name, buffer in module.named_buffers(prefix=place, recurse=False):
            if name not in saved or not len(buffer.shape) or not len(buffer):
                continue
            alike = tuple(buffer.shape[1:]) in shapes
            if isinstance(module, Kept):
                found[name] = ("inputs" if alike else "rows", buffer)
            # A plugin need not say so. Of images alone: many a matrix is as wide as a vector.
            elif alike and buffer.dim() > 2 and len(buffer) >= _SEVERAL:
                found[name] = ("inputs", buffer)
    declared = getattr(lens, "kept_inputs", None)
    inputs = [(name, buffer) for name, (kind, buffer) in found.items() if kind == "inputs"]
    if isinstance(declared, Tensor) and len(declared) and not any(_same(declared, one) for _, one in inputs):
        inputs.append(("kept_inputs", declared))
    parts = [KeptPart("inputs", len(one), _said_of_inputs(one, name)) for name, one in inputs]
    rows: dict[tuple[str, int], dict[str, Tensor]] = {}
    for name, (kind, buffer) in found.items():
        if kind == "rows":
            rows.setdefault((name.rpartition(".")[0], len(buffer)), {})[name] = buffer
    return parts + [KeptPart("rows", count, _said_of_rows(count, these)) for (_, count), these in rows.items()]


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape


def _said_of_inputs(inputs: Tensor, name: str) -> str:
    return f"{len(inputs)} real inputs as they are, of shape {tuple(inputs.shape[1:])} ({name})"


def _said_of_rows(count: int, rows: dict[str, Tensor]) -> str:
    width = sum(one[0].numel() for one in rows.values())
    return f"{width} number{'s' if width > 1 else ''} about each of {count} inputs ({', '.join(rows)})"


def _patches(fitted: Fitted) -> Iterator[KeptPart]:
    """Yield the banks of real patches of a lens, and of those below it."""
    below: Fitted | None = fitted
    while below is not None:
        if isinstance(below.real, PatchBank):
            kept = [below.real.get_buffer(f"kept{s}") for s in range(below.real.scales)]
            count = sum(map(len, kept))
            said = (
                f"{count} patches of 5x5 pixels of real inputs, at {len(kept)} "
                f"scale{'s' if len(kept) > 1 else ''}, by which edits are judged; no whole input"
            )
            yield KeptPart("patches", count, said)
        below = below.over
