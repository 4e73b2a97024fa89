"""A lens behind a stage: what a backend fitted on values, asked about inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.classifier.margins import margin_over_rest
from xlens.contracts.capabilities import (
    SupportsDirections,
    SupportsDivergence,
    SupportsInvariances,
    SupportsInversion,
    SupportsSampling,
    SupportsWaypoints,
    Waypoints,
)
from xlens.contracts.lens import Feature, Lens
from xlens.nn import smallest_step
from xlens.stages.bank import Bank
from xlens.stages.stage import Stage

__all__ = ["REST", "StagedLens", "staged"]

#: What that part of a code is called which holds what the lens leaves out.
REST = "not in the code"
#: Shares of it that a counterfactual gives up, in this order, until the classifier changes its decision.
_GIVEN_UP = (0.0, 0.25, 0.5, 0.75, 1.0)


class StagedLens(Lens):
    """A lens that was fitted on the values of a stage.

    Made by :func:`staged`, with what the lens can do. Where the stage keeps what the lens leaves out, a code is the
    lens's own followed by the difference between the values and its decoding: decoded, it is the values again, a
    counterfactual and a variant differ from the input by what the lens changes alone, and contributions add up.

    Args:
        stage: inputs to values, and back.
        lens: fitted on values.
        shape: of one input.
    """

    def __init__(self, stage: Stage, lens: Lens, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.stage, self.lens = stage, lens
        self.decodes_to: Literal["inputs", "layer", "edits"] = stage.decodes_to
        self.encodes_directly, self.masked = lens.encodes_directly, lens.masked
        self.reference_class = lens.reference_class
        self.own = sum(len(feature.dims) for feature in lens.features)
        size = math.prod(stage.spec.shape)
        self.rest = size if stage.keeps_rest else 0
        # Of what decodes to inputs, nothing real is shown in its place.
        banked = stage.decodes_to == "layer"
        self.bank = Bank(shape, self.own + self.rest, size, stage.spec.num_classes) if banked else None

    @property
    def kept_inputs(self) -> Tensor | None:
        """The real inputs ``(B, *S)`` that are kept, or None."""
        return self.lens.kept_inputs if self.bank is None else self.bank.inputs

    @property
    def features(self) -> Sequence[Feature]:
        """Those of the lens, and what it leaves out."""
        own = list(self.lens.features)
        if not self.rest:
            return own
        return [*own, Feature(REST, tuple(range(self.own, self.own + self.rest)), "nuisance")]

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to codes ``(N, d)``."""
        values = self.stage.encode(inputs)
        return self.joined(self.lens.encode(values), values)

    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``, or to the layer's activations ``(N, *A)``."""
        return self.stage.decode(self.values(codes))

    def joined(self, own: Tensor, values: Tensor) -> Tensor:
        """Return the lens's codes ``(N, d')`` of values, with what it leaves out of them where that is kept."""
        if not self.rest:
            return own
        return torch.cat([own, (values - self.lens.decode(own)).flatten(1)], 1)

    def values(self, codes: Tensor) -> Tensor:
        """Return the values ``(N, *V)`` of codes."""
        own, rest = self.parted(codes)
        found = self.lens.decode(own)
        return found if rest is None else found + rest

    def parted(self, codes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split codes into the lens's own ``(N, d')``, and what it leaves out ``(N, *V)`` where that is kept."""
        if not self.rest:
            return codes, None
        return codes[:, : self.own], codes[:, self.own :].view(len(codes), *self.stage.spec.shape)

    def without_rest(self, codes: Tensor) -> Tensor:
        """Return the codes with nothing in them but what the lens itself makes of an input."""
        return torch.cat([codes[:, : self.own], torch.zeros_like(codes[:, self.own :])], 1)

    def shown(self, codes: Tensor) -> Tensor | None:
        """Return the inputs ``(N, *S)`` that the stage makes of codes, or None where it makes none."""
        return self.stage.show(self.values(codes))

    def passes_gradients(self, inputs: Tensor) -> bool:
        """Whether gradients go from codes to inputs ``(N, *S)``: the lens's ``encode`` is a plain forward pass."""
        if not self.encodes_directly:
            return False
        with torch.enable_grad():
            values = self.stage.encode(inputs).detach().requires_grad_()
            return self.lens.encode(values).requires_grad

    @torch.no_grad()
    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Return what the lens makes of the code; of what it leaves out, as much as the decision lets it keep."""
        own, rest = self.parted(codes)
        moved = self.lens.counterfactual(own, target, contrast)
        if rest is None:
            return moved
        made, left = self.lens.decode(moved), rest

        def kept(rows: Tensor, given_up: Tensor) -> Tensor:
            share = (1 - given_up).view(-1, *([1] * (made.dim() - 1))).to(made.dtype)
            return share * left[rows]

        def score(rows: Tensor, given_up: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.stage.classifier(made[rows] + kept(rows, given_up))
            margin = margin_over_rest(logits, contrast[rows])
            return margin, margin > 0

        given_up, _ = smallest_step(score, len(codes), _GIVEN_UP, 0, codes.device)
        everything = torch.arange(len(codes), device=codes.device)
        return torch.cat([moved, kept(everything, given_up).flatten(1)], 1)

    @torch.no_grad()
    def keep(self, inputs: Tensor, logits: Tensor) -> None:
        """Keep these real inputs ``(B, *S)``, with the classifier's logits ``(B, K)``, to be retrieved."""
        if self.bank is None:
            return
        values, codes = [], []
        for part in inputs.split(64):
            values.append(self.stage.encode(part))
            codes.append(self.joined(self.lens.encode(values[-1]), values[-1]))
        self.bank.keep(inputs, torch.cat(codes), torch.cat(values), logits)

    def _widened(self, own: Tensor, codes: Tensor) -> Tensor:
        """Return the lens's own codes ``(N, *M, d')`` beside what is kept of codes ``(N, d)``."""
        if not self.rest:
            return own
        rest = codes[:, self.own :].view(len(codes), *([1] * (own.dim() - 2)), self.rest)
        return torch.cat([own, rest.expand(*own.shape[:-1], self.rest)], -1)


class _Retrieves(StagedLens):
    """Shows real inputs for points of the layer."""

    def retrieve(self, codes: Tensor, classes: Tensor | None = None, first: Sequence[int] = ()) -> Tensor:
        """Return the kept real inputs ``(N, *S)`` whose activations are nearest.

        Args:
            codes: ``(N, d)``.
            classes: ``(N,)`` classes that the classifier must put them in.
            first: dimensions that count first.
        """
        bank = cast(Bank, self.bank)
        leading = torch.tensor(first, dtype=torch.long, device=codes.device)
        return bank.inputs[bank.nearest(self.values(codes).flatten(1), classes, codes, leading)]


class _Samples(StagedLens):
    """Draws what the lens draws."""

    def sample(self, n: int, target: int, generator: torch.Generator) -> Tensor:
        """Return `n` inputs ``(n, *S)``; of a layer, the kept ones of the class nearest to what is drawn there."""
        values = cast(SupportsSampling, self.lens).sample(n, target, generator)
        if self.bank is None:
            return self.stage.decode(values)
        classes = torch.full((n,), target, device=values.device)
        none = torch.zeros(0, dtype=torch.long, device=values.device)
        return self.bank.inputs[self.bank.nearest(values.flatten(1), classes, self.bank.codes[:0], none)]


class _Invariances(StagedLens):
    """Varies what the lens varies."""

    def invariances(self, codes: Tensor, n: int, scale: float, generator: torch.Generator, vary: str) -> Tensor:
        """Return codes ``(N, n, d)``; what the lens leaves out is held."""
        own, _ = self.parted(codes)
        return self._widened(
            cast(SupportsInvariances, self.lens).invariances(own, n, scale, generator, vary), codes
        )


class _Directions(StagedLens):
    """Has the lens's directions."""

    @property
    def directions(self) -> Mapping[str, Tensor]:
        """Name of what grows -> unit vector ``(d,)`` of the code."""
        named = cast(SupportsDirections, self.lens).directions
        return {name: F.pad(direction, (0, self.rest)) for name, direction in named.items()}


class _Diverges(StagedLens):
    """Says how far two inputs are apart, as the lens says of their values."""

    def divergence(self, inputs: Tensor, variants: Tensor, part: str) -> Tensor:
        """Return d(x, x~) >= 0, ``(N,)``; gradients flow to the variants."""
        values = self.stage.encode(inputs), self.stage.encode(variants)
        return cast(SupportsDivergence, self.lens).divergence(*values, part)


class _Inverts(StagedLens):
    """Searches for codes, as the lens does for those of values."""

    def invert(self, inputs: Tensor, *, steps: int, restarts: int, generator: torch.Generator) -> Tensor:
        """Return codes ``(restarts, N, d)`` found from that many independent starts."""
        values = self.stage.encode(inputs)
        lens = cast(SupportsInversion, self.lens)
        found = lens.invert(values, steps=steps, restarts=restarts, generator=generator)
        return torch.stack([self.joined(own, values) for own in found])


class _Waypoints(StagedLens):
    """Knows the lens's points on a path, where a code is the lens's own and nothing beside it."""

    def waypoints(self, codes: Tensor, moved: Tensor) -> Waypoints:
        """Return the lens's points between two codes ``(N, d)``, decoded to inputs."""
        found = cast(SupportsWaypoints, self.lens).waypoints(codes, moved)
        decoded = self.stage.decode(found.decoded.flatten(0, 1))
        return Waypoints(found.codes, decoded.unflatten(0, (len(codes), -1)))


#: What a lens can do -> what does it behind a stage. It is taught by itself: of that nothing is left there.
_ABLE: tuple[tuple[type, type[StagedLens]], ...] = (
    (SupportsSampling, _Samples),
    (SupportsInvariances, _Invariances),
    (SupportsDirections, _Directions),
    (SupportsDivergence, _Diverges),
    (SupportsInversion, _Inverts),
)


def staged(stage: Stage, lens: Lens, shape: tuple[int, ...]) -> StagedLens:
    """Return a lens behind a stage, which can do what the lens can.

    Args:
        stage: inputs to values, and back.
        lens: fitted, or to be loaded, on values.
        shape: of one input.
    """
    kinds: list[type[StagedLens]] = [kind for able, kind in _ABLE if isinstance(lens, able)]
    if stage.decodes_to == "layer":
        kinds.append(_Retrieves)
    if not stage.keeps_rest and isinstance(lens, SupportsWaypoints):
        kinds.append(_Waypoints)
    # A class of its own, because what a lens can do is told by the methods that it has.
    made: Any = type("StagedLens", (*kinds, StagedLens), {"__doc__": StagedLens.__doc__})
    return cast(StagedLens, made(stage, lens, shape))
