"""What a third party adds beside lenses: attributions, paths, metrics of maps, carriers, parts of the report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor

from xlens.explanation import Explanation

if TYPE_CHECKING:
    from dataclasses import Field

__all__ = [
    "ADDITIONS",
    "Addition",
    "AskedMap",
    "AttributionMethod",
    "Carrier",
    "JudgedMaps",
    "MapMetric",
    "PathMethod",
    "ReportPart",
]


class Addition(ABC):
    """Something by name that is no lens; subclasses are decorated with ``@xlens.options``."""

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    #: What users write; the name of the entry point.
    name: ClassVar[str]
    #: The version of the contract that it was written for.
    contract: ClassVar[int] = 1


@dataclass(frozen=True)
class AskedMap:
    """A batch of decisions to attribute, with the way from each counterfactual to its input.

    Args:
        inputs, counterfactuals: ``(N, *S)`` where the way ends, and where it begins.
        codes, counterfactual_codes: ``(N, d)`` of both.
        target, contrast: ``(N,)`` class explained, and the class it is explained against.
        score: maps points ``(M, *S)`` and their rows ``(M,)`` to f_c ``(M,)``; gradients flow.
        curve: maps rows ``(M,)`` and positions ``(M,)``, 0 at the counterfactual and 1 at the input, to points
            ``(M, *S)``.
        n_steps: of the path, as the user asked.
    """

    inputs: Tensor
    counterfactuals: Tensor
    codes: Tensor
    counterfactual_codes: Tensor
    target: Tensor
    contrast: Tensor
    score: Callable[[Tensor, Tensor], Tensor]
    curve: Callable[[Tensor, Tensor], Tensor]
    n_steps: int


class AttributionMethod(Addition):
    """An attribution: ``explain(x, attributions=("NAME",))``, in reports and tables too.

    Its options are the attribution's: ``attributions={"NAME": {"option": value}}``.
    """

    #: Whether a map sums to f_c of the input minus f_c of the counterfactual; the delta is then reported.
    complete: ClassVar[bool] = False

    @abstractmethod
    def attribute(self, asked: AskedMap) -> Tensor:
        """Return a map of each input ``(N, *S)``; gradients are on, and the classifier is frozen."""


class PathMethod(Addition):
    """A path between codes: ``explain(x, path="NAME")``."""

    @abstractmethod
    def codes(
        self,
        start: Tensor,
        end: Tensor,
        decode: Callable[[Tensor], Tensor],
        score: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Return T codes on the way ``(N, T, d)``, of which the first is `start` and the last `end`.

        Args:
            start, end: ``(N, d)``.
            decode: the generator, of codes ``(M, d)``.
            score: maps decodings ``(M, *S)`` and their rows ``(M,)`` to f_c ``(M,)``.
        """


@dataclass(frozen=True)
class JudgedMaps:
    """Maps of one method that a metric judges.

    Args:
        inputs, maps: ``(N, *S)``.
        counterfactuals: ``(N, *S)`` of the lens that the maps came from, or None.
        masks: ``(N, 1, *spatial)`` bool, where the cause of each input is, or None.
        score: maps inputs ``(N, *S)``, changed as the metric likes, to f_c ``(N,)``.
        span: largest minus smallest value of the data.
    """

    inputs: Tensor
    maps: Tensor
    counterfactuals: Tensor | None
    masks: Tensor | None
    score: Callable[[Tensor], Tensor]
    span: float


class MapMetric(Addition):
    """A figure of maps: ``xlens.evaluate(explainer, data, metrics=("NAME",))``."""

    #: Which is better; ``""`` where neither is.
    better: ClassVar[Literal["higher", "lower", ""]] = ""

    @abstractmethod
    def measure(self, asked: JudgedMaps) -> Tensor:
        """Return a figure of each map ``(N,)``; no gradients, and the classifier is frozen."""


class Carrier(Addition):
    """How a lens's change reaches the real input: ``explain(x, carry="NAME")``."""

    @abstractmethod
    def carry(self, inputs: Tensor, reconstruction: Tensor, decoded: Tensor, alphas: Tensor) -> Tensor:
        """Return points on the way from the counterfactual to the input ``(M, *S)``; gradients flow to `decoded`.

        At the end, where `alphas` is 1 and `decoded` the reconstruction, it is the input. What leaves the range of
        the data is clamped.

        Args:
            inputs, reconstruction: ``(M, *S)`` x and G(z).
            decoded: ``(M, *S)`` G(z(a)).
            alphas: ``(M, 1, ...)`` a, 0 at the counterfactual.
        """


class ReportPart(Addition):
    """A part of the report: ``explanation.save_html(path, parts=("NAME",))``."""

    #: Its heading.
    title: ClassVar[str]

    @abstractmethod
    def lines(self, explanation: Explanation) -> Sequence[str]:
        """Return what is said of an explanation of one input, as plain text, line by line."""


#: Kind of addition -> its class. ``KIND`` is registered under the entry points ``xlens.KIND``, by ``xlens_KIND``.
ADDITIONS: dict[str, type[Addition]] = {
    "attribution": AttributionMethod,
    "path": PathMethod,
    "metric": MapMetric,
    "carrier": Carrier,
    "report_part": ReportPart,
}
