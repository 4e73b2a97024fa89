"""The explainer: a classifier and the lens around it, ready to be asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlens._arguments import check_count, check_explain, check_seed, class_tensor, find_feature, path_values
from xlens._attributions import FEATURE_MAPS, References, Request, check_attributions
from xlens._bound import Bound
from xlens._edit import traversed
from xlens._editor import Editor
from xlens._explain import explain_batch, in_flight, join, not_local
from xlens._explain_layer import explain_layer_batch, layer_faults, retrieved, retrieved_counterfactual
from xlens._gather import gathered, rows_of
from xlens._pictures import Pictures
from xlens._quantus import quantus_function
from xlens._teach import Teaching
from xlens._variations import Variations
from xlens.attr.edit import Carry, make_edit
from xlens.attr.memory import budget_faults
from xlens.attr.paths import CodePath
from xlens.classifier import Classifier
from xlens.contracts import CAPABILITIES, Backend, Feature, Lens, Spec
from xlens.data import as_inputs
from xlens.errors import DataError, UnsupportedError, UntrustworthyWarning, XlensWarning
from xlens.explanation import Explanation
from xlens.nn.mask import EditMask
from xlens.registry import offering
from xlens.storage import save_lens
from xlens.training.edit_mask import default_contrast
from xlens.training.processes import processes

__all__ = ["LensExplainer"]

#: Inputs explained together, at most.
_BATCH = 64


class LensExplainer(Editor, Pictures, Teaching, Variations):
    """Answers questions about a classifier through its lens; what :func:`xlens.fit` returns.

    Args:
        classifier: the user's classifier.
        lens: the fitted lens.
        backend: the configuration that it was fitted with.
        spec: what the lens knows of the data.
        mask: the fitted mask, or None where inputs are no images.
        provenance: facts about the fit that are saved with the lens (seed, supervision).
        over: the explainer whose codes the lens works on, or None.
        fitted_around: the classifier that lens and mask were fitted around, where it is not `classifier`.
    """

    def __init__(
        self,
        classifier: Classifier,
        lens: Lens,
        backend: Backend,
        spec: Spec,
        mask: EditMask | None,
        provenance: dict[str, Any],
        over: LensExplainer | None = None,
        fitted_around: Classifier | None = None,
    ) -> None:
        self.classifier, self.lens, self.backend, self.spec = classifier, lens, backend, spec
        self.mask, self.provenance, self.over = mask, provenance, over
        self.bound = Bound(classifier)
        self.fitted_around = fitted_around or classifier

    def __repr__(self) -> str:
        """Return the backend and what it explains."""
        return f"Explainer({self.backend.name}, {self.classifier!r}, inputs {self.spec.shape})"

    @property
    def features(self) -> Sequence[Feature]:
        """The named parts of the lens's code."""
        return self.lens.features

    @property
    def on_layer(self) -> bool:
        """Whether the lens decodes to a hidden layer: then what it shows are real inputs that it keeps."""
        return self.lens.decodes_to == "layer"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; ``class 0``, ... where none were given."""
        return self.classifier.names(self.spec.num_classes)

    @property
    def device(self) -> torch.device:
        """Where the lens is."""
        tensors = (*self.lens.parameters(), *self.lens.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    def explain(
        self,
        inputs: Any,
        *,
        target: int | Tensor | None = None,
        contrast: int | Tensor | None = None,
        attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
        carry: Carry | None = None,
        path: CodePath = "linear",
        n_steps: int = 16,
        tolerance: float = 0.01,
        references: Any = None,
        internal_batch_size: int | None = None,
        memory_budget: int | None = None,
    ) -> Explanation:
        """Explain f's decision on each input.

        In a program of several processes each passes the same inputs, explains its share, and gets all of it.

        Args:
            inputs: ``(N, *S)`` or one input ``(*S)``, in the classifier's own normalisation.
            target: class to explain: an int, ``(N,)``, or None for f's prediction.
            contrast: class to explain it against; None for the lens's reference class, or else f's runner-up.
            attributions: names, or names with options. xlens's own: ``"lig"``, the line integral along the
                generative path; ``"ig_counterfactual"``, the one along the straight line from the counterfactual;
                ``"idgi"``; ``"guided_ig"``; ``"ig_ensemble"``, the mean of straight lines from the
                counterfactual and the k = 4 `references` nearest to its decoding, which sums to the mean of
                those differences; ``"lig_features"``, the line integral as a map for each named part of the
                code (``"lig: <name>"``, and ``"lig: not in the code"`` for what the lens leaves out of the
                input; of a lens on a hidden layer ``"lig"`` brings them); ``"lig_paper"`` and
                ``"latent_shift"``, which are not complete. And any Captum method in snake case
                (``"integrated_gradients"``, ``"layer_grad_cam"``, ``"occlusion"``, ...), on the same score, with
                the counterfactual as baseline where it takes one:
                ``{"occlusion": {"sliding_window_shapes": (1, 4, 4)}}``.
            carry: how the lens's change reaches the real input: ``"masked"`` (default for images), ``"residual"``
                (default otherwise), or ``"none"`` (the papers' version, on reconstructions).
            path: between the codes: ``"linear"``, ``"geodesic"`` (the shortest for the eye), ``"guided"`` (the
                one f responds to least), or ``"pixel"``, the straight line between the two images.
            n_steps: segments of each path to begin with; they are refined until `tolerance` holds.
            tolerance: largest completeness error, relative to the score difference.
            references: ``(M, *S)`` real inputs, for ``"ig_ensemble"``.
            internal_batch_size: inputs, and points on paths, in flight at once; None for as many as fit
                into `memory_budget`.
            memory_budget: bytes that they may take; None for 128 MiB on a CPU, else a quarter of what is free.

        Raises:
            DataError: wrong shape, values that are not finite, or a class that does not exist.
            OptionError: an unknown attribution or carry, or a number out of range.

        Warns:
            UntrustworthyWarning: the explanation does not hold on some input; ``problems`` says why.

        >>> explanation = explainer.explain(images[:2], attributions=("lig", "ig_counterfactual"))
        >>> explanation.counterfactual.shape
        torch.Size([2, 1, 8, 8])
        """
        wanted, faults = check_attributions(attributions)
        if (references is None) == ("ig_ensemble" in wanted):
            faults.append("attribution 'ig_ensemble' needs references= (real inputs), and nothing else takes them")
        if FEATURE_MAPS in wanted and path == "pixel" and not self.on_layer:
            faults.append(f"attribution {FEATURE_MAPS!r} goes along the code, and path='pixel' does not")
        faults += budget_faults(memory_budget)
        faults += layer_faults(wanted, carry, path) if self.on_layer else []
        carry = check_explain(
            "explain",
            self.mask is not None,
            carry=carry,
            n_steps=n_steps,
            tolerance=tolerance,
            internal_batch_size=internal_batch_size,
            path=path,
            faults=faults,
        )
        with self._asking():
            together = processes(self.device)
            # Running statistics of f may differ between processes; each one's own are back afterwards.
            together.share_buffers(self.classifier.model)
            source = as_inputs(inputs, self.spec.shape)
            moved = source.to(self.device)
            batch, code_batch = in_flight(self, moved, internal_batch_size, memory_budget)
            rows = min(batch, _BATCH)
            target, contrast = self._classes(moved, target, contrast, rows)
            own = rows_of(together, len(moved)).to(moved.device)
            known = None if references is None else self._references(references, rows)
            request = Request(wanted, n_steps, tolerance, batch, code_batch, path, known)
            parts = [
                explain_layer_batch(self, x, t, c, request)
                if self.on_layer
                else explain_batch(self, x, t, c, carry, request)
                for x, t, c in zip(*(part[own].split(rows) for part in (moved, target, contrast)), strict=True)
            ]
            explanation = gathered(together, len(moved), join(parts)).to(source.device)
        if together.writes:
            self._warn(explanation)
        return explanation

    def as_quantus(
        self,
        attribution: str = "lig",
        *,
        carry: Carry | None = None,
        path: CodePath = "linear",
        n_steps: int = 16,
        tolerance: float = 0.01,
    ) -> Callable[..., Any]:
        """Return the function that Quantus's metrics take as ``explain_func``; arguments as for :meth:`explain`.

        It is called as ``explain_func(model, inputs, targets)`` and returns an array ``(N, *S)``. Given another
        model, as in tests that randomise weights, it explains that one along this lens's path.

        >>> explain_func = explainer.as_quantus("lig")
        >>> explain_func(explainer.classifier.model, images[:2].numpy(), [1, 1]).shape
        (2, 1, 8, 8)
        """
        _, faults = check_attributions([attribution])
        if attribution == "ig_ensemble":
            faults.append("'ig_ensemble' needs references, which Quantus does not pass")
        if attribution == FEATURE_MAPS:
            faults.append(f"{FEATURE_MAPS!r} is several maps, and Quantus takes one")
        check_explain(
            "as_quantus", self.mask is not None, carry=carry, n_steps=n_steps, tolerance=tolerance, path=path,
            faults=faults,
        )  # fmt: skip
        options = {"carry": carry, "path": path, "n_steps": n_steps, "tolerance": tolerance}
        return quantus_function(self, attribution, options)

    def counterfactual(
        self,
        inputs: Any,
        *,
        target: int | Tensor | None = None,
        contrast: int | Tensor | None = None,
        carry: Carry | None = None,
    ) -> Tensor:
        """Return each input without its evidence for `target`, ``(N, *S)``; arguments as in :meth:`explain`.

        Of a lens on a hidden layer, the kept real input of the contrast class that is nearest in everything else.

        >>> explainer.counterfactual(images[:2]).shape
        torch.Size([2, 1, 8, 8])
        """
        faults = layer_faults({}, carry, "linear") if self.on_layer else []
        carry = check_explain("counterfactual", self.mask is not None, carry=carry, faults=faults)
        with self._asking():
            source = as_inputs(inputs, self.spec.shape)
            moved = source.to(self.device)
            target, contrast = self._classes(moved, target, contrast, _BATCH)
            parts = [
                retrieved_counterfactual(self, x, t, c)[-1]
                if self.on_layer
                else make_edit(self.classifier, self.lens, self.spec, self.mask, x, t, c, carry).start
                for x, t, c in zip(moved.split(_BATCH), target.split(_BATCH), contrast.split(_BATCH), strict=True)
            ]
        return torch.cat(parts).to(source.device)

    def traverse(self, inputs: Any, feature: str | int, steps: Sequence[float] | Tensor) -> Tensor:
        """Set one feature of the code to several values and decode, ``(N, T, *S)``.

        A lens on a hidden layer shows real inputs that it keeps: of those nearest in this feature, the one that is
        nearest in everything.

        Args:
            inputs: ``(N, *S)``.
            feature: name or position of a feature, or name of a direction.
            steps: the T values. Along a direction they are coordinates; where a direction and a feature share a
                name, it means the direction, and the position the feature, which need not be the same axis. A
                feature of several dimensions keeps its direction (or takes an even one where it is zero) and gets
                this length, in units of the square root of its width; 0 removes it.

        Raises:
            OptionError: there is no such feature, or the values are not finite numbers.

        >>> explainer.traverse(images[:2], "evidence for class 1", [0.0, 0.5, 1.0]).shape
        torch.Size([2, 3, 1, 8, 8])
        """
        values = path_values(steps, self.device)
        with self._asking():
            source = as_inputs(inputs, self.spec.shape)
            moved = traversed(self.lens, self.lens.encode(source.to(self.device)), feature, values)
            if self.on_layer:
                dims = find_feature(self.lens.features, feature).dims
                frames = self._in_parts(lambda part: retrieved(self, part, first=dims), moved.flatten(0, 1))
            else:
                frames = self._in_parts(self.lens.decode, moved.flatten(0, 1))
        return frames.view(len(source), len(values), *self.spec.shape).to(source.device)

    def sample(self, n: int, target: int, *, seed: int = 0) -> Tensor:
        """Draw `n` new inputs of class `target`, ``(n, *S)``.

        Raises:
            UnsupportedError: this lens cannot.
            DataError: there is no such class.

        >>> explainer.sample(3, target=1).shape
        torch.Size([3, 1, 8, 8])
        """
        self._require("sample")
        self._class("sample", "target", target, 1)
        check_count("sample", n)
        with self._asking():
            return self.lens.sample(n, int(target), self._generator(seed))

    def save(self, path: str | Path) -> None:
        """Write the lens to a folder (safetensors and JSON); read it with :func:`xlens.load`.

        It is bound to the classifier as it was when the lens was fitted or loaded.

        Warns:
            XlensWarning: the classifier has changed since.
        """
        self.bound.warn("save", 3)
        save_lens(self, path)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        # From here to the user: the context manager's two frames, and the method.
        self.bound.warn("xlens", 5)
        # Gradients are switched on where they are needed, which a caller's inference mode would forbid.
        with torch.inference_mode(False), torch.no_grad(), self.classifier.frozen(seed=0):
            # Lens and mask ask theirs, which is another one where the explainer stands around another model.
            with self.fitted_around.frozen(seed=0):
                yield

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(check_seed(seed))

    def _references(self, references: Any, batch: int) -> References:
        real = as_inputs(references, self.spec.shape).to(self.device)
        return References(real, torch.cat([self.classifier(part).argmax(1) for part in real.split(batch)]))

    @staticmethod
    def _in_parts(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        return torch.cat([function(part) for part in values.split(_BATCH)])

    def _require_decoder(self, method: str) -> None:
        if self.on_layer:
            raise UnsupportedError(
                f"{method}: this lens decodes to a hidden layer, and makes no inputs",
                given=f"a {self.backend.name!r} lens on the layer {self.classifier.layer!r}",
                do="ask for traverse or counterfactual, which show real inputs, or fit a lens over=one that "
                "decodes to inputs",
            )

    def _require(self, capability: str) -> None:
        if isinstance(self.lens, CAPABILITIES[capability]):
            return
        raise UnsupportedError(
            f"{capability}: a {self.backend.name!r} lens cannot do this",
            allowed=f"backends that can: {', '.join(offering(capability)) or 'none is installed'}",
            do="fit a lens with one of them",
        )

    def _classes(
        self, inputs: Tensor, target: int | Tensor | None, contrast: int | Tensor | None, batch: int
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            logits = torch.cat([self.classifier(part) for part in inputs.split(batch)])
        n = len(inputs)
        chosen = logits.argmax(1) if target is None else self._class("explain", "target", target, n)
        if contrast is None:
            return chosen, default_contrast(logits, chosen, self.lens.reference_class)
        against = self._class("explain", "contrast", contrast, n)
        if bool((against == chosen).any()):
            row = int((against == chosen).nonzero()[0, 0])
            raise DataError(
                "explain: target and contrast are the same class",
                given=f"class {int(chosen[row])} for input {row}",
                do="contrast it with another class, or leave contrast=None",
            )
        return chosen, against

    def _class(self, method: str, name: str, value: Any, n: int) -> Tensor:
        return class_tensor(method, name, value, n, self.spec.num_classes, self.device)

    def _warn(self, explanation: Explanation) -> None:
        if explanation.mask is not None and bool(wide := not_local(explanation.fidelity, explanation.mask).sum()):
            warnings.warn(
                f"{int(wide)} of {len(explanation)} edits are not local: the mask lets most of the lens's change "
                "through (fidelity.coverage). Look at the whole decoding, explain(..., carry='none').",
                XlensWarning,
                stacklevel=3,
            )
        failed = [i for i, held in enumerate(explanation.trustworthy.tolist()) if not held]
        if failed:
            first = "; ".join(explanation.problems[failed[0]])
            warnings.warn(
                f"{len(failed)} of {len(explanation)} explanations do not hold (input {failed[0]}: {first}). "
                "See explanation.problems and explanation.fidelity.",
                UntrustworthyWarning,
                stacklevel=3,
            )
