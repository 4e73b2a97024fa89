"""The explainer: a page of one-line calls to what explains, moves, teaches and saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from xlens.attr.paths import CodePath
from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import Classes
from xlens.codes.edits import edit
from xlens.codes.moves import directions_of
from xlens.codes.samples import sample
from xlens.codes.variants import VariantCarry, invariances, traverse
from xlens.contracts.backend import Backend, Spec
from xlens.contracts.lens import Feature, Lens
from xlens.counterfactual.carry import Carry
from xlens.counterfactual.mask import EditMask
from xlens.deprecated import forwarded, renamed
from xlens.explaining.asking import Show
from xlens.explaining.explain import counterfactual, explain
from xlens.explanation import Explanation
from xlens.fitted import Fitted
from xlens.invariances import Invariances
from xlens.storage import save_lens
from xlens.teaching.teaching import Teaching

__all__ = ["LensExplainer"]


class LensExplainer:
    """Explainer: answers questions about a classifier through its lens; what :func:`xlens.fit` returns.

    Args:
        fitted: the classifier, the lens around it, and what belongs to them.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted

    def __repr__(self) -> str:
        """Return the backend and what it explains."""
        return f"Explainer({self.backend.name}, {self.classifier!r}, inputs {self.spec.shape})"

    @property
    def classifier(self) -> Classifier:
        """The classifier that is explained."""
        return self.fitted.classifier

    @property
    def lens(self) -> Lens:
        """The fitted lens."""
        return self.fitted.lens

    @property
    def backend(self) -> Backend:
        """The configuration that the lens was fitted with."""
        return self.fitted.backend

    @property
    def spec(self) -> Spec:
        """What the lens knows of the data."""
        return self.fitted.spec

    @property
    def mask(self) -> EditMask | None:
        """The fitted mask, or None where inputs are no images, or the lens wants none."""
        return self.fitted.mask

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Facts about the fit that are saved with the lens, such as its seed."""
        return self.fitted.provenance

    @property
    def over(self) -> LensExplainer | None:
        """The explainer whose codes this lens works on, or None."""
        return None if self.fitted.over is None else LensExplainer(self.fitted.over)

    @property
    def device(self) -> torch.device:
        """Where the lens is."""
        return self.fitted.device

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; ``class 0``, ... where none were given."""
        return self.fitted.class_names

    @property
    def features(self) -> Sequence[Feature]:
        """The named parts of the lens's code."""
        return self.lens.features

    @property
    def directions(self) -> Mapping[str, Tensor]:
        """Name -> unit vector ``(d,)`` of the code along which it grows; empty where the lens has none."""
        return directions_of(self.lens)

    @property
    def on_layer(self) -> bool:
        """Whether the lens decodes to a hidden layer: then what it shows are real inputs that it keeps."""
        return self.lens.decodes_to == "layer"

    @property
    def teaching(self) -> Teaching:
        """Active learning: ``query`` for what to ask a person about, and ``teach`` with the answers."""
        return Teaching(self.fitted)

    def explain(
        self,
        inputs: Any,
        *,
        target: Classes | None = None,
        contrast: Classes | None = None,
        attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
        carry: Carry | None = None,
        path: CodePath = "linear",
        n_steps: int = 16,
        tolerance: float = 0.01,
        references: Any = None,
        show: Show | None = None,
        internal_batch_size: int | None = None,
        memory_budget: int | None = None,
    ) -> Explanation:
        """Explanation of the classifier's decision on each input: counterfactual, attributions, verdict.

        In a program of several processes each passes the same inputs, explains its share, and gets all of it.

        Args:
            inputs: ``(N, *S)`` or one input ``(*S)``, in the classifier's own normalisation.
            target: class to explain, by index or name, or ``(N,)`` of either; None for the classifier's prediction.
            contrast: class to explain it against, likewise; None for the lens's reference class, or else the
                runner-up.
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
            carry: how the lens's change reaches the real input: ``"masked"`` (default with a mask), ``"residual"``
                (default otherwise), or ``"none"`` (the papers' version, on reconstructions).
            path: between the codes: ``"linear"`` (through the lens's own waypoints, where it brings any),
                ``"geodesic"`` (the shortest for the eye), ``"guided"`` (the one the classifier responds to least),
                or ``"pixel"``, the straight line between the two images.
            n_steps: segments of each path to begin with; they are refined until `tolerance` holds.
            tolerance: largest completeness error, relative to the score difference.
            references: ``(M, *S)`` real inputs, for ``"ig_ensemble"``.
            show: of a lens on a hidden layer, what is shown for points there: ``"retrieve"`` (default), the real
                inputs nearest to them; ``"decode"``, what the decoder makes of them that was trained with
                ``fit(..., decoder=True)``.
            internal_batch_size: inputs, and points on paths, in flight at once; None for as many as fit
                into `memory_budget`.
            memory_budget: bytes that they may take; None for 128 MiB on a CPU, else a quarter of what is free.

        Raises:
            DataError: wrong shape, values that are not finite, a class that does not exist, or a name of several.
            OptionError: an unknown attribution or carry, or a number out of range.

        Warns:
            UntrustworthyWarning: the explanation does not hold on some input; ``problems`` says why.

        >>> explanation = explainer.explain(images[:2], attributions=("lig", "ig_counterfactual"))
        >>> explanation.counterfactual.shape
        torch.Size([2, 1, 8, 8])
        """
        return explain(
            self.fitted,
            inputs,
            target=target,
            contrast=contrast,
            attributions=attributions,
            carry=carry,
            path=path,
            n_steps=n_steps,
            tolerance=tolerance,
            references=references,
            show=show,
            internal_batch_size=internal_batch_size,
            memory_budget=memory_budget,
        )

    def counterfactual(
        self,
        inputs: Any,
        *,
        target: Classes | None = None,
        contrast: Classes | None = None,
        carry: Carry | None = None,
        show: Show | None = None,
    ) -> Tensor:
        """Counterfactual of each input: the same without its evidence for `target`, ``(N, *S)``.

        Arguments as in :meth:`explain`. Of a lens on a hidden layer, the kept real input of the contrast class that
        is nearest in everything else, or what the decoder makes of the layer's counterfactual.

        >>> explainer.counterfactual(images[:2]).shape
        torch.Size([2, 1, 8, 8])
        """
        return counterfactual(self.fitted, inputs, target=target, contrast=contrast, carry=carry, show=show)

    @overload
    def traverse(
        self,
        inputs: Any,
        feature: str | int,
        values: Sequence[float] | Tensor,
        *,
        relative: bool | None = None,
        carry: VariantCarry = "none",
        show: Show | None = None,
    ) -> Tensor: ...

    @overload
    def traverse(
        self,
        inputs: Any,
        feature: tuple[str | int, str | int],
        values: Sequence[float] | Tensor,
        *,
        relative: bool | None = None,
        carry: VariantCarry = "none",
        show: Show | None = None,
    ) -> Invariances: ...

    @renamed(steps="values")
    def traverse(
        self,
        inputs: Any,
        feature: Any,
        values: Sequence[float] | Tensor,
        *,
        relative: bool | None = None,
        carry: VariantCarry = "none",
        show: Show | None = None,
    ) -> Tensor | Invariances:
        """Traversal of the code: one feature set to several values and decoded, or two features crossed.

        A lens on a hidden layer shows real inputs that it keeps: of those nearest in this feature, the one that is
        nearest in everything. It cannot cross two.

        Args:
            inputs: ``(N, *S)``.
            feature: name or position of a feature, or name of a direction; or two of them, of which the first runs
                down and the second across.
            values: the T values. Along a direction they are coordinates; where a direction and a feature share a
                name, it means the direction, and the position the feature, which need not be the same axis. A
                feature of several dimensions keeps its direction (or takes an even one where it is zero) and gets
                this length, in units of the square root of its width; 0 removes it.
            relative: add the values to the input's own, so that 0 is the input itself; False sets them. None sets
                one feature, and adds to two.
            carry: ``"none"`` for the lens's decodings; ``"residual"`` adds what changes in the decoding to the real
                input, which keeps what the lens leaves out.
            show: as in :meth:`explain`.

        Returns:
            frames ``(N, T, *S)`` of one feature; of two, :class:`xlens.Invariances` with variants
            ``(N, T, T, *S)`` and the classifier's verdict on each.

        Raises:
            OptionError: there is no such feature, the values are not finite numbers, or two features overlap.
            UnsupportedError: two features of a lens on a hidden layer.

        >>> explainer.traverse(images[:2], "evidence for class 1", [0.0, 0.5, 1.0]).shape
        torch.Size([2, 3, 1, 8, 8])
        >>> explainer.traverse(images[:2], (0, 1), [-0.5, 0.0, 0.5]).kept.shape
        torch.Size([2, 3, 3])
        """
        return traverse(self.fitted, inputs, feature, values, relative, carry, show)

    def edit(
        self,
        inputs: Any,
        amounts: Mapping[str, float | Tensor],
        *,
        carry: Carry | None = None,
        hold: Sequence[str] = (),
    ) -> Tensor:
        """Edit of each input by name: amounts of features or directions added or taken away, ``(N, *S)``.

        Args:
            inputs: ``(N, *S)``.
            amounts: name of a direction or feature -> how much: a number, or ``(N,)``. Along a direction it is a
                distance in the code; a feature's block is lengthened by it, as in :meth:`traverse`.
            carry: ``"residual"`` (default) adds the decoding's change to the input; ``"masked"`` shows the decoding
                under the mask, as :meth:`explain` does, and opens the mask further only where the classifier sees
                another class on the decoding than on the reconstruction; ``"none"`` returns the decoding itself.
            hold: directions to which the edit, along directions and features alike, is made perpendicular at the
                same length, as one of two correlated attributes asks for.

        Raises:
            OptionError: an unknown name, an amount that is no number, or nothing left after holding.
            UnsupportedError: something is held, and this lens has no directions; or it decodes to a hidden layer.

        >>> explainer.edit(images[:2], {"evidence for class 1": -0.5}).shape
        torch.Size([2, 1, 8, 8])
        """
        return edit(self.fitted, inputs, amounts, carry, hold)

    def invariances(
        self,
        inputs: Any,
        n: int,
        scale: float = 1.0,
        *,
        vary: Literal["nuisance", "class"] = "nuisance",
        carry: VariantCarry = "none",
        show: Show | None = None,
        seed: int = 0,
    ) -> Invariances:
        """Invariances: variants of each input in which one part of the code varies, and the verdict on each.

        How it varies is the lens's: around the input's own part, or drawn anew from its prior. The draws are one
        sequence for the whole batch, so an input's variants depend on its place in it.

        Args:
            inputs: ``(N, *S)``.
            n: variants per input.
            scale: standard deviation of what is drawn; 0 changes nothing.
            vary: ``"nuisance"`` holds the class evidence; ``"class"`` holds everything else.
            carry: as in :meth:`traverse`.
            show: as in :meth:`explain`. Of a lens on a hidden layer the classifier's tail judges the variants
                themselves, which lie there, and not what is shown for them.
            seed: seeds the draw.

        Raises:
            UnsupportedError: this lens cannot.
            OptionError: a number out of range, an unknown `vary` or `carry`.

        >>> found = explainer.invariances(images[:2], 4, scale=0.5)
        >>> found.variants.shape, found.kept.shape
        (torch.Size([2, 4, 1, 8, 8]), torch.Size([2, 4]))
        """
        return invariances(self.fitted, inputs, n, scale, vary, carry, seed, show)

    def sample(self, n: int, target: int | str, *, seed: int = 0) -> Tensor:
        """Samples of the generative model: `n` new inputs of class `target` (index or name), ``(n, *S)``.

        Of a lens on a hidden layer, the kept real inputs of the class that are nearest to what is drawn there.

        Raises:
            UnsupportedError: this lens cannot.
            DataError: there is no such class.

        >>> explainer.sample(3, target=1).shape
        torch.Size([3, 1, 8, 8])
        """
        return sample(self.fitted, n, target, seed)

    def save(self, path: str | Path) -> None:
        """Save the lens to a folder (safetensors and JSON); read it with :func:`xlens.load`.

        It is bound to the classifier as it was when the lens was fitted or loaded.

        Raises:
            StorageError: the folder cannot be written.

        Warns:
            XlensWarning: the classifier has changed since.
        """
        self.fitted.bound.warn("save")
        save_lens(self.fitted, path)

    if not TYPE_CHECKING:
        # Names of earlier versions; a type checker does not know them.
        def __getattr__(self, name: str) -> Any:
            return forwarded(self, name)
