"""The part of an explainer that varies inputs, and asks f about each variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor

from xlens._divergence import attribute_divergence
from xlens._vary import VariantCarry, draw_variants, grid_variants
from xlens.invariances import DivergenceAttributions, Invariances

__all__ = ["Variations"]


class Variations:
    """Mixed into the explainer, which brings everything that is only declared here."""

    _asking: Callable[[], AbstractContextManager[None]]
    _require: Callable[[str], None]
    _require_decoder: Callable[[str], None]
    _generator: Callable[[int], torch.Generator]

    def invariances(
        self,
        inputs: Any,
        n: int,
        scale: float = 1.0,
        *,
        vary: Literal["nuisance", "class"] = "nuisance",
        carry: VariantCarry = "none",
        seed: int = 0,
    ) -> Invariances:
        """Draw variants of each input in which one part of the code varies, and ask f about each.

        How it varies is the lens's: around the input's own part, or drawn anew from its prior. The draws are one
        sequence for the whole batch, so an input's variants depend on its place in it.

        Args:
            inputs: ``(N, *S)``.
            n: variants per input.
            scale: standard deviation of what is drawn; 0 changes nothing.
            vary: ``"nuisance"`` holds the class evidence; ``"class"`` holds everything else.
            carry: ``"none"`` for the lens's decodings; ``"residual"`` adds what changes in the decoding to the real
                input, which keeps what the lens leaves out.
            seed: seeds the draw.

        Raises:
            UnsupportedError: this lens cannot.
            OptionError: a number out of range, an unknown `vary` or `carry`.

        >>> found = explainer.invariances(images[:2], 4, scale=0.5)
        >>> found.variants.shape, found.kept.shape
        (torch.Size([2, 4, 1, 8, 8]), torch.Size([2, 4]))
        """
        self._require("invariances")
        self._require_decoder("invariances")
        with self._asking():
            return draw_variants(self, inputs, n, scale, vary, carry, self._generator(seed))

    def grid(
        self,
        inputs: Any,
        features: Sequence[str | int],
        steps: Sequence[float] | Tensor,
        *,
        relative: bool = True,
        carry: VariantCarry = "none",
    ) -> Invariances:
        """Cross two features of the code, and ask f about each variant, ``(N, T, T, *S)``.

        Args:
            inputs: ``(N, *S)``.
            features: two features, by name or position, or directions by name; the first runs down, the second
                across.
            steps: the T amounts, in the units of :meth:`traverse`.
            relative: add the amounts to the input's own, so that 0 is the input itself; False sets them.
            carry: as in :meth:`invariances`.

        Raises:
            OptionError: there is no such feature, the two overlap, or the amounts are not finite numbers.

        >>> explainer.grid(images[:2], (0, 1), [-0.5, 0.0, 0.5]).kept.shape
        torch.Size([2, 3, 3])
        """
        self._require_decoder("grid")
        with self._asking():
            return grid_variants(self, inputs, features, steps, relative, carry)

    def divergence_attributions(
        self,
        inputs: Any,
        variants: Any,
        part: Literal["class", "nuisance"] = "class",
        method: str = "gradient_shap",
        options: Mapping[str, Any] | None = None,
    ) -> DivergenceAttributions:
        """Say which pixels make each variant differ from its input, in one part of the code.

        What is attributed is d(x, x~), how far the lens's code of the variant x~ is from that of the input x, as a
        function of x~ with x as baseline.

        Args:
            inputs: ``(N, *S)`` x.
            variants: ``(N, *S)`` or ``(N, n, *S)``, x~: from :meth:`invariances`, counterfactuals, or other inputs.
            part: ``"class"`` shows what matters to f, ``"nuisance"`` what does not.
            method: any Captum method in snake case. The sum is the divergence where the method is complete.
            options: the method's own, under Captum's names, such as ``{"n_samples": 50}``.

        Raises:
            UnsupportedError: this lens cannot.
            OptionError: an unknown part, method or option; methods without rules for a divergence (DeepLift's).
            DataError: the variants do not fit the inputs, or are so far from the data that a number is not finite.
            ModelError: Captum cannot do this for the lens, with its own words.

        Warns:
            XlensWarning: a method that promises the sum misses it by more than 5%.
        """
        self._require("divergence")
        with self._asking():
            return attribute_divergence(self, inputs, variants, part, method, options)
