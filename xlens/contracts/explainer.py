"""What an explainer is: the ten members on which everything that takes one relies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import Backend
from xlens.contracts.lens import Feature, Lens
from xlens.explanation import Explanation
from xlens.invariances import Invariances

__all__ = ["Explainer"]


@runtime_checkable
class Explainer(Protocol):
    """Explainer: the ten members that ``xlens.fit``'s has, and that any other needs to be taken for one."""

    @property
    def classifier(self) -> Classifier:
        """The classifier that is explained."""

    @property
    def lens(self) -> Lens:
        """The fitted lens."""

    @property
    def backend(self) -> Backend:
        """The configuration that the lens was fitted with."""

    @property
    def features(self) -> Sequence[Feature]:
        """The named parts of the lens's code."""

    def explain(
        self,
        inputs: Any,
        *,
        target: Any = None,
        contrast: Any = None,
        attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
        carry: Literal["masked", "residual", "none"] | None = None,
        path: Literal["linear", "geodesic", "guided", "pixel"] = "linear",
        n_steps: int = 16,
        tolerance: float = 0.01,
        references: Any = None,
        internal_batch_size: int | None = None,
        memory_budget: int | None = None,
    ) -> Explanation:
        """Explanation of the classifier's decision on inputs ``(N, *S)``."""

    def counterfactual(
        self,
        inputs: Any,
        *,
        target: Any = None,
        contrast: Any = None,
        carry: Literal["masked", "residual", "none"] | None = None,
    ) -> Tensor:
        """Counterfactuals ``(N, *S)``: the inputs without their evidence for `target`."""

    def traverse(self, inputs: Any, feature: str | int, values: Any) -> Tensor:
        """Traversal ``(N, T, *S)``: one feature of the code is set to each value."""

    def invariances(
        self,
        inputs: Any,
        n: int,
        scale: float = 1.0,
        *,
        vary: Literal["nuisance", "class"] = "nuisance",
        carry: Literal["none", "residual"] = "none",
        seed: int = 0,
    ) -> Invariances:
        """Invariances: variants in what the classifier ignores, or with ``vary="class"`` in what it looks at."""

    def sample(self, n: int, target: int | str, *, seed: int = 0) -> Tensor:
        """Samples ``(n, *S)`` of one class."""

    def save(self, path: str | Path) -> None:
        """Saved lens: a folder that :func:`xlens.load` reads."""
