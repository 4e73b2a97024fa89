"""The explainer: a page of one-line calls to what explains, moves, teaches and saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from torch import Tensor

from xlens.attr.paths import CodePath
from xlens.classifier.margins import Classes
from xlens.codes.attributions import CodeAttributions, Space, attribute
from xlens.codes.edits import edit
from xlens.codes.interpolation import Interpolation, interpolate
from xlens.codes.samples import Amount, sample
from xlens.codes.variants import One, Pair, Values, VariantCarry, invariances, traverse
from xlens.counterfactual.carry import Carry
from xlens.deprecated import forwarded, renamed
from xlens.explaining.asking import Show
from xlens.explaining.explain import counterfactual, explain
from xlens.explaining.to_folder import explain_to
from xlens.explanation import Explanation
from xlens.hub.names import folder_of
from xlens.invariances import Invariances
from xlens.record import Record
from xlens.storage import ExplanationFolder, save_lens
from xlens.teaching.teaching import Teaching

__all__ = ["LensExplainer"]


class LensExplainer(Record):
    """Explainer: answers questions about a classifier through its lens; what :func:`xlens.fit` returns.

    Args:
        fitted: the classifier, the lens around it, and what belongs to them.
    """

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
        path: CodePath | str = "linear",
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
            attributions: names, or names with options. Complete: ``"lig"``, the line integral along the generative
                path; ``"ig_counterfactual"``, along the straight line from the counterfactual; ``"idgi"``;
                ``"guided_ig"``; ``"ig_ensemble"``, the mean of straight lines from the counterfactual and the k = 4
                `references` nearest to its decoding; ``"lig_features"``, the line integral as a map for each named
                part of the code (``"lig: <name>"``, and ``"lig: not in the code"``; of a lens on a hidden layer
                ``"lig"`` brings them). Others: ``"lig_paper"``, ``"latent_shift"``; ``"difference"``,
                ``|G(z) - G(z0)|``, and ``"accumulated"``, the same along the path; ``"divergence_class"`` and
                ``"divergence_nuisance"``, what makes the codes differ in either part (SVAE; option `method`). And
                third parties' and Captum's (``"occlusion"``, ...), on the same score, with the counterfactual as
                baseline: ``{"occlusion": {"sliding_window_shapes": (1, 4, 4)}}``.
            carry: how the lens's change reaches the real input: ``"masked"`` (default with a mask), ``"residual"``
                (default otherwise), ``"none"`` (the papers' version, on reconstructions), or a third party's
                carrier, by name or as an object.
            path: between the codes: ``"linear"`` (through the lens's own waypoints, where it brings any),
                ``"geodesic"`` (the shortest for the eye), ``"guided"`` (the one the classifier responds to least),
                ``"pixel"``, the straight line between the two images, or the name of one that a third party brings.
            n_steps: segments of each path to begin with, refined until `tolerance` holds.
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

    def explain_to(
        self, folder: str | Path, data: Any, *, rows: int = 16, progress: bool | None = None, **asked: Any
    ) -> ExplanationFolder:
        """Explanation of a whole data set, written to a folder part by part, and taken up after a kill.

        Args:
            folder: an empty folder, or one that an earlier call with the same arguments left.
            data: as to :func:`xlens.fit`; of a stream every batch is a part. Several processes share the parts out.
            rows: inputs a part.
            progress: whether to show a progress bar; None shows it on a terminal.
            **asked: what :meth:`explain` takes besides; target and contrast as one class each.

        Raises:
            StorageError: the folder cannot be written, or holds explanations of something else.

        >>> import tempfile
        >>> found = explainer.explain_to(tempfile.mkdtemp(), images[:5], rows=2)
        >>> found.complete, [len(part) for part in found]
        (True, [2, 2, 1])
        """
        return explain_to(self.fitted, folder, data, rows=rows, progress=progress, **asked)

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

    def attribute(
        self,
        inputs: Any,
        method: str = "integrated_gradients",
        *,
        space: Space = "features",
        target: Classes | None = None,
        contrast: Classes | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> CodeAttributions:
        """Attributions in code space ``(N, F)``: what named parts of the code, or its dimensions, contribute.

        Any of Captum's methods on f_c(G(z)), with the counterfactual's code z0 as baseline. Where the method is
        complete, an input's values sum to f_c(G(z)) - f_c(G(z0)); of a lens that edits, to what its edit changes.

        Args:
            inputs: ``(N, *S)``.
            method: in snake case, one that attributes no layer: ``"shapley_values"`` (up to seven parts),
                ``"shapley_value_sampling"``, ``"feature_ablation"``, ``"deep_lift"``, ``"gradient_shap"``, ...
            space: ``"features"``: named parts, each moved as one; or ``"codes"``: each dimension ``(N, d)``.
            target, contrast: as in :meth:`explain`.
            options: the method's own, under Captum's names, such as ``{"n_samples": 50}``.

        >>> found = explainer.attribute(images[:2], "shapley_value_sampling")
        >>> found.values.shape == (2, len(found.names)), bool(found.convergence_delta.abs().max() < 1e-5)
        (True, True)
        """
        return attribute(self.fitted, inputs, method, space, target, contrast, options)

    @overload
    def traverse(
        self,
        inputs: Any,
        feature: One,
        values: Values,
        *,
        relative: bool | None = ...,
        carry: VariantCarry = ...,
        show: Show | None = ...,
    ) -> Tensor: ...

    @overload
    def traverse(
        self,
        inputs: Any,
        feature: Pair,
        values: Values,
        *,
        relative: bool | None = ...,
        carry: VariantCarry = ...,
        show: Show | None = ...,
    ) -> Invariances: ...

    @renamed(steps="values")
    def traverse(
        self,
        inputs: Any,
        feature: Any,
        values: Values,
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
            feature: name or position of a feature, or name of a direction, which goes first where both have it; or
                two of them, of which the first runs down and the second across.
            values: the T values. Along a direction they are coordinates. A feature of several dimensions keeps its
                direction (or takes an even one where it is zero) and gets this length, in units of the square root
                of its width; 0 removes it.
            relative: add the values to the input's own; False sets them. None sets one feature, and adds to two.
            carry: ``"none"`` for decodings; ``"residual"`` adds what changes in the decoding to the real input.
            show: as in :meth:`explain`.

        Returns:
            frames ``(N, T, *S)`` of one feature; of two, :class:`xlens.Invariances` with variants
            ``(N, T, T, *S)`` and the classifier's verdict on each.

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
                under the mask, opened further only where the classifier sees another class on the decoding than on
                the reconstruction; ``"none"`` returns the decoding itself.
            hold: directions to which the edit is made perpendicular at the same length.

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

        >>> found = explainer.invariances(images[:2], 4, scale=0.5)
        >>> found.variants.shape, found.kept.shape
        (torch.Size([2, 4, 1, 8, 8]), torch.Size([2, 4]))
        """
        return invariances(self.fitted, inputs, n, scale, vary, carry, seed, show)

    def interpolate(
        self,
        first: Any,
        second: Any,
        n: int = 9,
        *,
        path: Literal["linear", "geodesic"] = "linear",
        carry: VariantCarry = "none",
    ) -> Interpolation:
        """Latent interpolation between pairs of real inputs: frames ``(N, n, *S)``, and what the classifier says.

        Args:
            first, second: ``(N, *S)``.
            n: frames, both ends included.
            path: between the codes; ``"geodesic"`` is the shortest for the eye.
            carry: ``"none"`` for decodings; ``"residual"`` adds what the lens leaves out of either input, fading
                from the one to the other, so that the ends are the inputs themselves.

        >>> explainer.interpolate(images[:2], images[2:4], 5, carry="residual").probabilities.shape
        torch.Size([2, 5, 2])
        """
        return interpolate(self.fitted, first, second, n, path, carry)

    def sample(
        self,
        n: int,
        target: int | str | None = None,
        *,
        amount: Amount = 1.0,
        attributes: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Samples of the generative model: `n` new inputs of class `target`, or of each in turn, ``(n, *S)``.

        Args:
            n, target, seed: how many, of which class by index or name, and what seeds the draw.
            amount: of the evidence: 1 for all, 0 for none (the sample's counterfactual), between them that share of
                the way through the code; ``"boundary"`` for where the classifier is undecided.
            attributes: name of a direction or feature -> the value that it is set to, as by :meth:`traverse`.

        >>> undecided = explainer.sample(3, target=1, amount="boundary")
        >>> explainer.sample(2, 1, attributes={"evidence for class 1": 0.5}).shape
        torch.Size([2, 1, 8, 8])
        """
        return sample(self.fitted, n, target, seed, amount, attributes)

    def save(self, path: str | Path) -> None:
        """Save the lens to a folder (safetensors and JSON); read it with :func:`xlens.load`.

        It is bound to the classifier as it was when the lens was fitted or loaded.

        Raises:
            OptionError: it is no folder, but meant for the hub: :meth:`push_to_hub`.
            StorageError: the folder cannot be written.

        Warns:
            XlensWarning: the classifier has changed since.
        """
        self.fitted.bound.warn("save")
        save_lens(self.fitted, folder_of(path, "save"))

    if not TYPE_CHECKING:
        # Names of earlier versions; a type checker does not know them.
        def __getattr__(self, name: str) -> Any:
            return forwarded(self, name)
