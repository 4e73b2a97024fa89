"""What a lens may be able to do beyond explaining, each as a protocol with the methods that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from xlens.contracts.backend import Run
from xlens.contracts.lens import EditingLens

__all__ = [
    "CAPABILITIES",
    "Question",
    "SupportsDirections",
    "SupportsDivergence",
    "SupportsInvariances",
    "SupportsInversion",
    "SupportsRetrieval",
    "SupportsSampling",
    "SupportsTeaching",
    "SupportsWaypoints",
    "Waypoints",
]


@runtime_checkable
class SupportsSampling(Protocol):
    """A lens that can draw new inputs."""

    def sample(self, n: int, target: int, generator: torch.Generator) -> Tensor:
        """Return `n` new inputs ``(n, *S)`` of class `target`."""


@runtime_checkable
class SupportsInvariances(Protocol):
    """A lens that can vary what the classifier ignores."""

    def invariances(self, codes: Tensor, n: int, scale: float, generator: torch.Generator, vary: str) -> Tensor:
        """Return codes ``(N, n, d)`` in which one part is varied and the other held.

        Args:
            codes: ``(N, d)``.
            n: variants per input.
            scale: standard deviation of what is drawn.
            generator: draws it.
            vary: ``"nuisance"`` holds the class evidence; ``"class"`` holds everything else.
        """


@runtime_checkable
class SupportsDirections(Protocol):
    """A lens in whose code something grows along a direction, which need not be one of the code's dimensions."""

    @property
    def directions(self) -> Mapping[str, Tensor]:
        """Name of what grows -> unit vector ``(d,)`` of the code."""


@runtime_checkable
class SupportsDivergence(Protocol):
    """A lens that can say how far two inputs are apart in one part of its code."""

    def divergence(self, inputs: Tensor, variants: Tensor, part: str) -> Tensor:
        """Return d(x, x~) >= 0, ``(N,)``, 0 where both are the same; gradients flow to the variants.

        Args:
            inputs, variants: ``(N, *S)`` x and x~.
            part: ``"class"`` for the class evidence, ``"nuisance"`` for everything else.
        """


@runtime_checkable
class SupportsInversion(Protocol):
    """A lens that can search for the code of an input by optimisation."""

    def invert(self, inputs: Tensor, *, steps: int, restarts: int, generator: torch.Generator) -> Tensor:
        """Return codes ``(restarts, N, d)`` found from that many independent starts."""


@runtime_checkable
class SupportsRetrieval(Protocol):
    """A lens that keeps real inputs, and finds those that are nearest to a code."""

    def retrieve(self, codes: Tensor, classes: Tensor | None = None, first: Sequence[int] = ()) -> Tensor:
        """Return the nearest real inputs ``(N, *S)``.

        Args:
            codes: ``(N, d)``.
            classes: ``(N,)`` classes that the classifier must put them in; distances are then taken in everything
                but the named dimensions. None: in the whole code.
            first: dimensions that count first: only the tenth of the inputs that is nearest in these is looked at.
        """


@dataclass(frozen=True)
class Question:
    """What a person is asked about an input, to fill one column of side information.

    Args:
        name: of the column.
        choices: the values to choose from, such as ``(0.0, 1.0)`` for no and yes; empty where it is any number.
    """

    name: str
    choices: tuple[float, ...]


@runtime_checkable
class SupportsTeaching(Protocol):
    """A lens that learns from side information bit by bit, and knows what it would like to be told next."""

    @property
    def questions(self) -> Sequence[Question]:
        """What can be asked about an input, one question for each column of side information."""

    def informativeness(self, inputs: Tensor, strategy: str, generator: torch.Generator) -> Tensor:
        """Return how much would be learned from the side information of each input, ``(N,)``.

        Args:
            inputs: ``(N, *S)``.
            strategy: ``"mutual_information"`` or ``"max_entropy"``.
            generator: draws what is drawn.
        """

    def teach(self, inputs: Tensor, side_info: Tensor, run: Run) -> None:
        """Learn further, from the current state, with the side information ``(N, A)`` of these inputs."""


@dataclass(frozen=True)
class Waypoints:
    """Points on a path of codes, decoded; between them the path is straight in what they decode to.

    Args:
        codes: ``(N, T, d)``.
        decoded: ``(N, T, *S)`` what ``decode`` makes of them.
    """

    codes: Tensor
    decoded: Tensor


@runtime_checkable
class SupportsWaypoints(Protocol):
    """A lens whose ``decode`` takes many passes, and that knows points on a path which share most of them."""

    def waypoints(self, codes: Tensor, moved: Tensor) -> Waypoints:
        """Return the points to decode between a counterfactual's code and the input's own.

        Nothing else is decoded along the path, and no gradient is taken through ``decode``. The dimensions that
        change from one point to the next share what the score changes by, in proportion to how far they move.

        Args:
            codes: ``(N, d)`` of inputs, which are the last points.
            moved: ``(N, d)`` what ``counterfactual`` made of them, which are the first.
        """


#: What a backend may declare -> protocol, or class, that its lens then satisfies. None: an argument of ``fit``; or,
#: of ``"representations"``, that it can be fitted on whatever it is given with a classifier of it: ``fit`` and
#: ``build`` are then handed the activations of the hidden layer that the user names, and what follows the layer.
CAPABILITIES: dict[str, type | None] = {
    "sample": SupportsSampling,
    "directions": SupportsDirections,
    "invariances": SupportsInvariances,
    "invert": SupportsInversion,
    "divergence": SupportsDivergence,
    "retrieve": SupportsRetrieval,
    "edits": EditingLens,
    "teach": SupportsTeaching,
    "waypoints": SupportsWaypoints,
    "side_info": None,
    "over": None,
    "representations": None,
}
