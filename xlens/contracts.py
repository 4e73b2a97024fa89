"""What a backend and a lens are: the whole interface between the core and a plugin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from xlens.capabilities import (
    CAPABILITIES,
    SupportsDirections,
    SupportsDivergence,
    SupportsInvariances,
    SupportsInversion,
    SupportsRetrieval,
    SupportsSampling,
    SupportsTeaching,
)
from xlens.errors import NotFittedError
from xlens.explanation import Explanation
from xlens.invariances import DivergenceAttributions, Invariances

if TYPE_CHECKING:
    # Named in annotations only: contracts come before both in the import order.
    from xlens.classifier import Classifier
    from xlens.data import Data

__all__ = [
    "CAPABILITIES",
    "Backend",
    "Explainer",
    "Feature",
    "Lens",
    "Run",
    "Spec",
    "StepEvent",
    "SupportsDirections",
    "SupportsDivergence",
    "SupportsInvariances",
    "SupportsInversion",
    "SupportsRetrieval",
    "SupportsSampling",
    "SupportsTeaching",
]

#: Version of this contract, saved with every lens; a lens saved under another is refused.
CONTRACT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a lens has to know of the data and the classifier before it is trained.

    It is saved with the lens, so every field is plain JSON.

    Args:
        shape: shape of one input without the batch, e.g. ``(C, H, W)`` or ``(D,)``.
        num_classes: number of classes K of the classifier, at least 2.
        minimum, maximum: smallest and largest value per channel in the user's own normalisation.
        mean, std: mean and standard deviation per channel.
        class_margins: ``(K, K)``; entry ``[c][t]`` is the median of f's logit c minus logit t over
            the inputs that f puts in class c (0 where there are none).

    >>> spec = explainer.spec
    >>> spec.shape, spec.num_classes, spec.span().shape
    ((1, 8, 8), 2, torch.Size([1, 1, 1, 1]))
    """

    shape: tuple[int, ...]
    num_classes: int
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_margins: tuple[tuple[float, ...], ...]

    @property
    def is_image(self) -> bool:
        """Whether one input is an image ``(C, H, W)``."""
        return len(self.shape) == 3

    def usual_margins(self) -> Tensor:
        """Return `class_margins` ``(K, K)`` with the typical margin for classes that f never predicts.

        >>> explainer.spec.usual_margins().shape
        torch.Size([2, 2])
        """
        margins = torch.tensor(self.class_margins, device="cpu")
        known = margins[margins > 0]
        typical = known.median() if len(known) else margins.new_tensor(1.0)
        return torch.where(margins > 0, margins, typical)

    def span(self) -> Tensor:
        """Return the range of each channel, shaped to broadcast over a batch; 1 where a channel is constant."""
        low, high = self.per_channel("minimum"), self.per_channel("maximum")
        return torch.where(high > low, high - low, torch.ones_like(high))

    def per_channel(self, name: Literal["minimum", "maximum", "mean", "std"]) -> Tensor:
        """Return that statistic shaped ``(1, C, 1, ...)`` so that it broadcasts over a batch."""
        values = torch.tensor(getattr(self, name), dtype=torch.float32, device="cpu")
        return values.view(1, -1, *([1] * (len(self.shape) - 1)))


@dataclass(frozen=True)
class Feature:
    """A named part of the code.

    Args:
        name: what a person calls it.
        dims: the code dimensions that it occupies.
        role: ``"class"`` (evidence for a class), ``"nuisance"`` (everything else) or
            ``"attribute"`` (side information).
        class_index: the class that it is evidence for, where there is one.

    >>> from xlens import Feature
    >>> Feature("pathology", (0, 1, 2), "class", class_index=1).role
    'class'
    """

    name: str
    dims: tuple[int, ...]
    role: Literal["class", "nuisance", "attribute"]
    class_index: int | None = None


@dataclass(frozen=True)
class StepEvent:
    """One finished training step, as handed to ``on_step``."""

    phase: str
    step: int
    total: int
    losses: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The circumstances of one fit: everything that is not a hyper-parameter of the backend.

    Args:
        seed: seeds every random choice of the fit.
        device: where the lens is trained.
        spec: what is known of data and classifier.
        logits: ``(n, K)`` f's outputs on the data in the order of the data's indices, or None
            when the data have no stable order.
        supervision: where class labels come from: f itself, or the data's own labels.
        side_info: ``(n, A)`` attributes in float64, NaN where not observed.
        over: the explainer whose codes the new lens works on.
        start_from: the explainer whose lens the fit begins with; the Trainer sees to it.
        output_dir, resume: where checkpoints go, and whether to continue from them.
        on_step, progress: step events, and whether to show a progress bar (None: on a terminal).
        mixed_precision: ``"bf16"`` where training steps run in bfloat16, as far as that is safe, else ``"no"``.
        identity: a hash of everything that decides the result; a checkpoint of another is refused.
    """

    seed: int
    device: torch.device
    spec: Spec
    logits: Tensor | None = None
    supervision: Literal["classifier", "labels"] = "classifier"
    side_info: Tensor | None = None
    over: Explainer | None = None
    start_from: Explainer | None = None
    output_dir: Path | None = None
    resume: bool = False
    on_step: Callable[[StepEvent], None] | None = None
    progress: bool | None = None
    mixed_precision: Literal["no", "bf16"] = "no"
    identity: str = ""


class Lens(nn.Module, ABC):
    """A generative model around a classifier, working in codes.

    A lens has to be deterministic: the same input gives the same code, whatever else is in the
    batch. It is stored by its ``state_dict``, and built again by its backend's ``build``. Its methods
    may run the classifier, so they are called within ``classifier.frozen()``, as the explainer does.
    """

    @abstractmethod
    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to codes ``(N, d)``."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``, or to the classifier's named layer; see `decodes_to`."""

    @abstractmethod
    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Return codes ``(N, d)`` of the same thing with its evidence for `target` taken away.

        Args:
            codes: ``(N, d)``.
            target: ``(N,)`` the class whose evidence is taken away.
            contrast: ``(N,)`` the class that the result should belong to.
        """

    @property
    @abstractmethod
    def features(self) -> Sequence[Feature]:
        """The named parts of the code; each of its dimensions is in exactly one."""

    #: The class that all others are explained against ("healthy"), or None for f's runner-up.
    reference_class: int | None = None
    #: Whether ``encode`` is a plain forward pass. Where it searches, the mask is fitted on fewer inputs.
    encodes_directly: bool = True
    #: What ``decode`` returns: inputs, or the activations ``(N, *A)`` of the classifier's named layer, of which
    #: f's tail makes logits. A lens of the second kind declares ``"retrieve"``, to show real inputs instead.
    decodes_to: Literal["inputs", "layer"] = "inputs"
    #: Real inputs ``(B, *S)`` that the lens keeps, or None. The mask is fitted anew on them once it was taught.
    kept_inputs: Tensor | None = None


class Backend(ABC):
    """A method of fitting a lens: hyper-parameters in, fitted lens out.

    A subclass is decorated with :func:`xlens.options`, which makes it a frozen, keyword-only
    dataclass that checks its values. The backend *is* its configuration.
    """

    #: The name under which it is registered (entry-point name).
    name: ClassVar[str]
    #: What its lenses can do beyond explaining: keys of :data:`CAPABILITIES`.
    capabilities: ClassVar[tuple[str, ...]] = ()
    #: The version of this contract that it was written for; one that says nothing was written for the first.
    contract: ClassVar[int] = 1

    @abstractmethod
    def fit(self, classifier: Classifier, data: Data, run: Run) -> Lens:
        """Fit a lens. The classifier is frozen, and the global RNG seeded, while this runs."""

    @abstractmethod
    def build(self, classifier: Classifier, spec: Spec) -> Lens:
        """Return an untrained lens of the right shape, for loading.

        A backend that declares ``"over"`` takes ``over: Lens | None = None`` beside these: the lens below, which it
        makes a part of its own.
        """

    def explain(self, *_: Any, **__: Any) -> Explanation:
        """Refuse: a backend is a configuration, and what explains is the explainer that ``fit`` returns.

        Raises:
            NotFittedError: always.
        """
        raise NotFittedError(
            f"{self.name}: nothing is fitted yet",
            given="a backend, which only holds the options",
            do="explainer = xlens.fit(model, data, backend), then explainer.explain(inputs)",
        )


@runtime_checkable
class Explainer(Protocol):
    """What ``xlens.fit`` returns."""

    classifier: Any
    lens: Lens
    backend: Backend
    features: Sequence[Feature]

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
        """Explain f's decision on inputs ``(N, *S)``."""

    def counterfactual(
        self,
        inputs: Any,
        *,
        target: Any = None,
        contrast: Any = None,
        carry: Literal["masked", "residual", "none"] | None = None,
    ) -> Tensor:
        """Return the inputs without their evidence for `target`, ``(N, *S)``."""

    def traverse(self, inputs: Any, feature: str | int, steps: Any) -> Tensor:
        """Move one feature of the code; ``(N, T, *S)``."""

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
        """Vary what f ignores, or with ``vary="class"`` what it looks at, and ask f about each variant."""

    def grid(
        self,
        inputs: Any,
        features: Sequence[str | int],
        steps: Any,
        *,
        relative: bool = True,
        carry: Literal["none", "residual"] = "none",
    ) -> Invariances:
        """Cross two features of the code, and ask f about each variant."""

    def divergence_attributions(
        self,
        inputs: Any,
        variants: Any,
        part: Literal["class", "nuisance"] = "class",
        method: str = "gradient_shap",
        options: Mapping[str, Any] | None = None,
    ) -> DivergenceAttributions:
        """Say which pixels make each variant differ from its input, in one part of the code."""

    def sample(self, n: int, target: int, *, seed: int = 0) -> Tensor:
        """Draw new inputs of one class; ``(n, *S)``."""

    def edit(
        self,
        inputs: Any,
        amounts: Mapping[str, Any],
        *,
        carry: Literal["masked", "residual", "none"] | None = None,
        hold: Sequence[str] = (),
    ) -> Tensor:
        """Add amounts of named features or directions; ``(N, *S)``."""

    @property
    def directions(self) -> Mapping[str, Tensor]:
        """Name -> unit vector ``(d,)`` of the code; empty where the lens has none."""

    def leakage(self, inputs: Any, amount: float = 3.0, *, orthogonal: bool = False) -> dict[str, dict[str, float]]:
        """Measure how much an edit along each direction changes what is read along the others."""

    def steps(self, inputs: Any, *, target: Any = None, contrast: Any = None) -> Any:
        """Return ``flip``, ``used`` and ``reached`` ``(N,)``: where f flips, how far it goes, and if enough."""

    def query(
        self,
        pool: Any,
        n: int,
        strategy: Literal[
            "power_mutual_information", "mutual_information", "max_entropy", "random"
        ] = "power_mutual_information",
        *,
        seed: int = 0,
    ) -> Tensor:
        """Return which inputs of a pool a person should be asked about next, ``(n,)`` positions."""

    def teach(
        self,
        inputs: Any,
        side_info: Any,
        *,
        refit_mask: bool = True,
        seed: int = 0,
        on_step: Callable[[StepEvent], None] | None = None,
        progress: bool | None = None,
    ) -> None:
        """Learn from more side information ``(N, A)``, going on from the current state."""

    def refit_mask(
        self,
        data: Any = None,
        *,
        seed: int = 0,
        on_step: Callable[[StepEvent], None] | None = None,
        progress: bool | None = None,
    ) -> None:
        """Fit the mask anew around the lens as it is now."""

    def save(self, path: str | Path) -> None:
        """Write the lens to a folder."""
