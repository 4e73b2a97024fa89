"""What was fitted, said once: a classifier, the lens around it, and everything that is needed to ask them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, overload
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from xlens.classifier.bound import Bound
from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import Classes, class_tensor, default_contrast, named_classes
from xlens.classifier.normalization import normalization_in
from xlens.classifier.turns import Turn
from xlens.contracts.backend import Backend, Spec
from xlens.contracts.capabilities import (
    CAPABILITIES,
    SupportsDirections,
    SupportsDivergence,
    SupportsInvariances,
    SupportsSampling,
    SupportsTeaching,
)
from xlens.contracts.explainer import Explainer
from xlens.contracts.lens import Lens
from xlens.contracts.numbers import seeded
from xlens.counterfactual.mask import EditMask
from xlens.counterfactual.mask_options import MaskOptions
from xlens.data import as_data, as_inputs
from xlens.errors import DataError, OptionError, UnsupportedError
from xlens.metrics.likeness import PatchBank
from xlens.registry.loading import offering
from xlens.stages import StagedLens
from xlens.training.survey import measured

__all__ = ["Fitted", "as_fitted", "asking"]

L = TypeVar("L", bound=Lens)

#: Inputs that are shown to the classifier, or to the lens, at once.
BATCH = 64

#: Lens -> the lenses over it that are in use, with their backends' names.
_above: WeakKeyDictionary[Lens, WeakKeyDictionary[Lens, str]] = WeakKeyDictionary()


@dataclass(eq=False, repr=False)
class Fitted:
    """A fitted lens with its classifier: the record that every question is asked of.

    Args:
        classifier: the classifier that is explained.
        lens: the fitted lens.
        spec: what the lens knows of the data.
        mask: the fitted mask, or None where inputs are no images, or the lens wants none or brings its own.
        backend: the configuration that the lens was fitted with.
        provenance: facts about the fit that are saved with the lens (seed, supervision).
        over: the record of the lens below, whose codes this one works on, or None.
        fitted_around: the classifier that lens and mask were fitted around, where it is not `classifier`.
        bound: whether the classifier is still what it was.
        real: patches of real inputs, by which edits are judged; None where inputs are no images, or too small.
    """

    classifier: Classifier
    lens: Lens
    spec: Spec
    mask: EditMask | None
    backend: Backend
    provenance: dict[str, Any]
    over: Fitted | None = None
    fitted_around: Classifier = None  # type: ignore[assignment]  # `classifier`, where None is passed
    real: PatchBank | None = None
    bound: Bound = None  # type: ignore[assignment]  # made, where None is passed

    def __post_init__(self) -> None:
        self.fitted_around = self.fitted_around or self.classifier
        self.bound = self.bound or Bound(self.classifier)
        if self.over is not None:
            _above.setdefault(self.over.lens, WeakKeyDictionary())[self.lens] = self.backend.name

    @property
    def device(self) -> torch.device:
        """Where the lens is."""
        tensors = (*self.lens.parameters(), *self.lens.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; ``class 0``, ... where none were given."""
        return self.classifier.names(self.spec.num_classes)

    @property
    def mask_options(self) -> MaskOptions:
        """How the mask was fitted."""
        return MaskOptions(**self.provenance.get("mask", {}))

    @property
    def display_ranges(self) -> tuple[tuple[float, float], ...]:
        """The values of each channel that are drawn darkest and brightest; empty where mean and std are unknown."""
        if not self.spec.is_image:
            return ()
        known = (
            self.classifier.normalization,
            normalization_in(self.provenance.get("normalization")),
            # What the command line prepared images with.
            normalization_in(self.provenance.get("preprocessing")),
        )
        return next((one.ranges(self.spec.shape[0]) for one in known if one is not None), ())

    @property
    def above(self) -> Sequence[str]:
        """Names of the backends of the lenses in use that work on this one's codes, and on theirs."""
        return [name for lens, name in _lenses_above(self.lens)]

    @property
    def span(self) -> float:
        """Largest minus smallest value of the data."""
        return max(self.spec.maximum) - min(self.spec.minimum)

    def limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest value of each channel, to broadcast over ``(N, *S)``."""
        return self.spec.per_channel("minimum").to(like), self.spec.per_channel("maximum").to(like)

    def around(self, classifier: Classifier) -> Fitted:
        """Return the record with another classifier to explain; lens and mask go on asking their own."""
        return replace(self, classifier=classifier, bound=Bound(classifier))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Return the context in which classifier and lens are asked: frozen, seeded, without gradients.

        Threads take turns, and the program's switches (autocast, default dtype and device, inference mode) do not
        count; see :mod:`xlens.classifier.frozen` for what is promised.

        Warns:
            XlensWarning: the classifier has changed since the lens was fitted around it.
        """
        with Turn(), torch.no_grad():
            # Within the turn: others may be asking, and a forward pass of theirs may write to buffers.
            self.bound.warn("xlens")
            with self.classifier.frozen(seed=0):
                # Lens and mask ask theirs, which is another one where another classifier is explained.
                with self.fitted_around.frozen(seed=0), self._stage_held():
                    yield

    def _stage_held(self) -> AbstractContextManager[object]:
        return self.lens.stage.held() if isinstance(self.lens, StagedLens) else nullcontext()

    def generator(self, seed: int) -> torch.Generator:
        """Return a seeded generator on the lens's device.

        Raises:
            OptionError: torch cannot be seeded with it.
        """
        return seeded(seed, self.device)

    @overload
    def require(self, capability: Literal["sample"]) -> SupportsSampling: ...

    @overload
    def require(self, capability: Literal["directions"]) -> SupportsDirections: ...

    @overload
    def require(self, capability: Literal["invariances"]) -> SupportsInvariances: ...

    @overload
    def require(self, capability: Literal["divergence"]) -> SupportsDivergence: ...

    @overload
    def require(self, capability: Literal["teach"]) -> SupportsTeaching: ...

    def require(self, capability: str) -> object:
        """Return the lens as what it can do, and refuse what it cannot, naming the backends that can.

        Raises:
            UnsupportedError: the lens does not satisfy the capability's protocol.
        """
        protocol = CAPABILITIES[capability]
        if protocol is not None and isinstance(self.lens, protocol):
            return self.lens
        able = offering(capability)
        over = [name for name in able if name in offering("over")] if capability == "teach" else []
        raise UnsupportedError(
            f"{capability}: a {self.backend.name!r} lens cannot do this",
            allowed=f"backends that can: {', '.join(able) or 'none is installed'}",
            # What is taught has names in codes that stay as they are, which those of any lens do below another.
            do=f"fit one over this lens, to learn on its codes: xlens.fit(model, data, {over[0]!r}, over=explainer)"
            if over
            else "fit a lens with one of them",
        )

    def classes(
        self,
        inputs: Tensor,
        target: Classes | None,
        contrast: Classes | None,
        batch: int = BATCH,
        method: str = "explain",
    ) -> tuple[Tensor, Tensor]:
        """Return the classes to explain, and to explain them against, ``(N,)`` each, within :meth:`asking`.

        Args:
            inputs: ``(N, *S)`` on the lens's device.
            target: a class by index or name, ``(N,)`` of them, or None for the classifier's prediction.
            contrast: as `target`, or None for the lens's reference class, or else the runner-up.
            batch: inputs at once.
            method: names the caller in errors.

        Raises:
            DataError: there is no such class, or both are the same.
        """
        with torch.no_grad():
            logits = torch.cat([self.classifier(part) for part in inputs.split(batch)])
        chosen = logits.argmax(1) if target is None else self.class_of(method, "target", target, len(inputs))
        if contrast is None:
            return chosen, default_contrast(logits, chosen, self.lens.reference_class)
        against = self.class_of(method, "contrast", contrast, len(inputs))
        if bool((against == chosen).any()):
            row = int((against == chosen).nonzero()[0, 0])
            raise DataError(
                f"{method}: target and contrast are the same class",
                given=f"class {int(chosen[row])} for input {row}",
                do="contrast it with another class, or leave contrast=None",
            )
        return chosen, against

    def class_of(self, method: str, name: str, value: Any, n: int) -> Tensor:
        """Return a class given as an int or a tensor, or by name, as ``(n,)``.

        Raises:
            DataError: there is no such class, or several of that name.
        """
        value = named_classes(method, name, value, self.class_names)
        return class_tensor(method, name, value, n, self.spec.num_classes, self.device)

    def inputs(self, values: Any) -> Tensor:
        """Return what a user passes as inputs ``(N, *S)``.

        Raises:
            DataError: they have another shape, or are not finite.
        """
        return as_inputs(values, self.spec.shape)

    def encode(self, inputs: Tensor, batch: int = BATCH) -> Tensor:
        """Return codes ``(N, d)`` of inputs that may lie on another device, within :meth:`asking`."""
        return torch.cat([self.lens.encode(part.to(self.device)) for part in inputs.split(batch)])

    def probabilities(self, inputs: Tensor, batch: int = BATCH) -> Tensor:
        """Return the classifier's class probabilities ``(N, K)`` on the CPU."""
        with Turn(), torch.no_grad(), self.classifier.frozen(seed=0):
            parts = [self.classifier.probabilities(part.to(self.device)) for part in inputs.split(batch)]
        return torch.cat(parts).cpu()


def _lenses_above(lens: Lens) -> Iterator[tuple[Lens, str]]:
    for upper, name in list(_above.get(lens, {}).items()):
        yield upper, name
        yield from _lenses_above(upper)


#: The Protocol's members.
_MEMBERS = tuple(sorted(name for name in vars(Explainer) if not name.startswith("_")))
#: Those of which a record is made, and what they are.
_KINDS: dict[str, type] = {"backend": Backend, "classifier": Classifier, "lens": Lens}


def as_fitted(explainer: Any, method: str, argument: str, inputs: Any = None) -> Fitted:
    """Return the record behind anything that is an explainer.

    Args:
        explainer: what ``fit`` or ``load`` returned, a record, or any object with the Protocol's members. What it
            has beyond them (`spec`, `mask`, `over`, `provenance`, `fitted_around`, `real`) is taken too.
        method, argument: name the caller in errors.
        inputs: data by which the spec is measured, where neither the explainer nor its lens has one.

    Raises:
        OptionError: it is no explainer; the message says which members are missing.
    """
    if isinstance(explainer, Fitted):
        return explainer
    own = getattr(explainer, "fitted", None)
    if isinstance(own, Fitted):
        return own
    missing = [name for name in _MEMBERS if getattr(explainer, name, None) is None]
    kinds = _KINDS if getattr(explainer, "spec", None) is None else {**_KINDS, "spec": Spec}
    wrong = [
        f"{name} is a {type(getattr(explainer, name)).__name__} and no {kind.__name__}"
        for name, kind in kinds.items()
        if name not in missing and not isinstance(getattr(explainer, name), kind)
    ]
    if missing or wrong:
        lacking = [f"without {', '.join(missing)}"] if 0 < len(missing) < len(_MEMBERS) else []
        raise OptionError(
            f"{method}: {argument} is no explainer",
            given="; ".join([type(explainer).__name__, *lacking, *wrong]),
            allowed=f"what xlens.fit or xlens.load returned, or an object with {', '.join(_MEMBERS)}",
        )
    below = getattr(explainer, "over", None)
    return Fitted(
        explainer.classifier,
        explainer.lens,
        _spec_of(explainer, method, argument, inputs),
        getattr(explainer, "mask", None),
        explainer.backend,
        dict(getattr(explainer, "provenance", {})),
        None if below is None else as_fitted(below, method, argument, inputs),
        getattr(explainer, "fitted_around", explainer.classifier),
        getattr(explainer, "real", None),
    )


def _spec_of(explainer: Any, method: str, argument: str, inputs: Any) -> Spec:
    for owner in (explainer, explainer.lens):
        if isinstance(spec := getattr(owner, "spec", None), Spec):
            return spec
    if inputs is None:
        raise OptionError(
            f"{method}: {argument} does not say what its data are like, and there are no inputs to measure it by",
            given=f"{type(explainer).__name__} without a spec",
            do="give it, or its lens, a member spec, an xlens.Spec",
        )
    with Turn(), explainer.classifier.frozen(seed=0):
        return measured(explainer.classifier, as_data(inputs))


@overload
def asking(explainer: Explainer | Fitted, *, method: str = ...) -> AbstractContextManager[Lens]: ...


@overload
def asking(explainer: Explainer | Fitted, kind: type[L], method: str = ...) -> AbstractContextManager[L]: ...


@contextmanager
def asking(explainer: Explainer | Fitted, kind: type[Any] = Lens, method: str = "asking") -> Iterator[Any]:
    """Context in which an explainer's own lens is asked: classifier frozen, random numbers seeded, no gradients.

    What a plugin offers beside the explainer's methods is written with it; whoever wants codes uses it too.

    Args:
        explainer: what ``fit`` or ``load`` returned, or any object that is an explainer.
        kind: the class of lens that is asked.
        method: names the caller in errors.

    Raises:
        OptionError: it is no explainer.
        UnsupportedError: its lens is of another kind.

    >>> import xlens
    >>> with xlens.asking(explainer) as lens:
    ...     codes = lens.encode(images[:2])
    >>> codes.shape == (2, sum(len(feature.dims) for feature in explainer.features))
    True
    """
    fitted = as_fitted(explainer, method, "explainer")
    if isinstance(fitted.lens, StagedLens) and isinstance(fitted.lens.lens, kind) and kind is not Lens:
        raise UnsupportedError(
            f"{method}: this is for lenses on inputs",
            given=f"a {type(fitted.lens.lens).__name__} on the layer {fitted.classifier.layer!r}",
            do="fit the lens around the classifier without a layer: xlens.Classifier(model)",
        )
    if not isinstance(fitted.lens, kind):
        raise UnsupportedError(
            f"{method}: this lens cannot answer that",
            given=f"a {type(fitted.lens).__name__}, fitted by {fitted.backend.name!r}",
            allowed=f"a {kind.__name__}",
            do="fit a lens with the backend that the function came with",
        )
    with fitted.asking():
        yield fitted.lens
