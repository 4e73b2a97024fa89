"""What a backend is: hyper-parameters, and how a lens is fitted with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.passes import Passes
from xlens.contracts.lens import FittedLens, Lens
from xlens.data import Data
from xlens.errors import NotFittedError
from xlens.explanation import Explanation

__all__ = ["CONTRACT_VERSION", "Alongside", "Backend", "Run", "Spec", "StepEvent"]

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
        class_margins: ``(K, K)``; entry ``[c][t]`` is the median of the classifier's logit c minus logit t over
            the inputs that the classifier puts in class c (0 where there are none).

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
        """Return `class_margins` ``(K, K)`` with the typical margin for classes that the classifier never predicts.

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
class StepEvent:
    """One finished training step, as handed to ``on_step``."""

    phase: str
    step: int
    total: int
    losses: Mapping[str, float]


class Alongside(Protocol):
    """What is trained alongside a lens, step by step, and stands in its checkpoints."""

    def after_step(self) -> None:
        """Do what is to be done after a step of the lens."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: nested dicts and lists of tensors and plain values."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The circumstances of one fit: everything that is not a hyper-parameter of the backend.

    Args:
        seed: seeds every random choice of the fit.
        device: where the lens is trained.
        spec: what is known of data and classifier.
        logits: ``(n, K)`` the classifier's outputs on the data in the order of the data's indices, or None
            when the data have no stable order.
        supervision: where class labels come from: the classifier itself, or the data's own labels.
        side_info: ``(n, A)`` attributes in float64, NaN where not observed.
        over: the explainer whose codes the new lens works on.
        start_from: the explainer whose lens the fit begins with; the Trainer sees to it.
        output_dir, resume: where checkpoints go, and whether to continue from them.
        on_step, progress: step events, and whether to show a progress bar (None: on a terminal).
        timed: told once in each training, after its first few steps, its phase, the steps from where it began, and
            the seconds of one; the Trainer sees to it. None where nobody wants to know.
        mixed_precision: ``"bf16"`` where training steps run in bfloat16, as far as that is safe, else ``"no"``.
        alongside: what is trained alongside the lens; the Trainer sees to it. None for nothing.
        passes: how often the classifier was asked so far, which progress bars show; None where nobody counts.
        identity: a hash of everything that decides the result; a checkpoint of another is refused.
    """

    seed: int
    device: torch.device
    spec: Spec
    logits: Tensor | None = None
    supervision: Literal["classifier", "labels"] = "classifier"
    side_info: Tensor | None = None
    over: FittedLens | None = None
    start_from: FittedLens | None = None
    output_dir: Path | None = None
    resume: bool = False
    on_step: Callable[[StepEvent], None] | None = None
    progress: bool | None = None
    timed: Callable[[str, int, float], None] | None = None
    mixed_precision: Literal["no", "bf16"] = "no"
    alongside: Alongside | None = None
    passes: Passes | None = None
    identity: str = ""


class Backend(ABC):
    """A method of fitting a lens: hyper-parameters in, fitted lens out.

    A subclass is decorated with :func:`xlens.options`, which makes it a frozen, keyword-only
    dataclass that checks its values. The backend *is* its configuration.
    """

    #: The name under which it is registered (entry-point name).
    name: ClassVar[str]
    #: What its lenses can do beyond explaining: keys of :data:`xlens.contracts.CAPABILITIES`.
    capabilities: ClassVar[tuple[str, ...]] = ()
    #: Whether ``fit`` trains. One that only looks at the data says False: where it also declares
    #: ``"edits"``, it is tried first for whoever names no backend, and its lens says whether it suits the data.
    trains: ClassVar[bool] = True
    #: Whether its lens learns from the classifier's gradient. Behind an autoencoder, where such questions are dear,
    #: a surrogate (:mod:`xlens.surrogate`) then answers while it is fitted; where it says False, the classifier.
    follows_gradients: ClassVar[bool] = False
    if TYPE_CHECKING:
        # What the decorator gives a subclass.
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
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
