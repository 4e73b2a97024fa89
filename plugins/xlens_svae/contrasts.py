"""One counterfactual for each class, by moving one dimension of z1 alone, and what differs (paper, Fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import xlens
from xlens.data import as_inputs
from xlens.errors import OptionError
from xlens_svae.lens import SVAELens
from xlens_svae.models import SemiVAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Contrasts", "contrasts"]

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Of each of N inputs one variant for each of K classes, in which one dimension of z1 has another value.

    Args:
        inputs: ``(N, *S)``.
        variants: ``(N, K, *S)`` decoded.
        dims: ``(N, K)`` the dimension of z1 that was moved.
        values: ``(N, K)`` its value there.
        by_head: ``(N, K)`` bool, whether the lens's head takes the variant's code for the class.
        by_classifier: ``(N, K)`` bool, whether the classifier takes the variant for it.
        attributions: ``(N, K, *S)`` pixels that make z1 of the variant differ from the input's (eq. 9, k = 1).
        class_names: of the classes.
    """

    inputs: Tensor
    variants: Tensor
    dims: Tensor
    values: Tensor
    by_head: Tensor
    by_classifier: Tensor
    attributions: Tensor
    class_names: tuple[str, ...]

    def plot(self) -> Figure:
        """Draw for each input a row of variants, and under it a row of their attributions."""
        from matplotlib.figure import Figure  # only where something is drawn

        n, k = self.variants.shape[:2]
        figure = Figure(figsize=(1.3 * (k + 1), 2.8 * n), layout="constrained")
        axes = figure.subplots(2 * n, k + 1, squeeze=False)
        for axis in axes.flat:
            axis.set_xticks([])
            axis.set_yticks([])
        for i in range(n):
            _draw(axes[2 * i, 0], self.inputs[i])
            axes[2 * i, 0].set_title("input", fontsize=8)
            axes[2 * i + 1, 0].axis("off")
            for c in range(k):
                _draw(axes[2 * i, c + 1], self.variants[i, c])
                named = self.class_names[c] if bool(self.by_classifier[i, c]) else f"not {self.class_names[c]}"
                axes[2 * i, c + 1].set_title(named, fontsize=8, parse_math=False)
                _draw(axes[2 * i + 1, c + 1], self.attributions[i, c], signed=True)
        return figure


def contrasts(
    explainer: xlens.Explainer,
    inputs: Any,
    values: Sequence[float] | None = None,
    *,
    method: str = "gradient_shap",
) -> Contrasts:
    """Counterfactuals for every class by perturbing single dimensions of z1, with attributions (paper, Fig. 7).

    For each class the dimension and value are taken at which the lens's head is surest of it, and the classifier is
    asked as well. No search by gradients is needed, and none is made.

    Args:
        explainer: of an SVAE lens.
        inputs: ``(N, *S)``.
        values: tried for every dimension; None for 25 between -4 and 4 (for M2, whose class part is
            made to sum to 1, 0 and 100).
        method: of the attributions, as for :func:`xlens.evaluation.divergence_attributions`.

    Raises:
        UnsupportedError: its lens is of another backend.
        OptionError: no values, or an unknown method.
        DataError: inputs of another shape, none, or values that are not finite.

    >>> import xlens, xlens_svae
    >>> explainer = xlens.fit(classifier, images, "svae", steps=20, hidden=32, progress=False)
    >>> xlens_svae.contrasts(explainer, images[:2]).variants.shape
    torch.Size([2, 2, 1, 8, 8])
    """
    with xlens.asking(explainer, SVAELens, "contrasts") as lens:
        x = as_inputs(inputs, lens.spec.shape).to(lens.centres.device)
        tried = torch.as_tensor(_usual(lens) if values is None else list(values), dtype=x.dtype, device=x.device)
        if not tried.numel() or not bool(tried.isfinite().all()):
            raise OptionError(
                "contrasts: values are wrong", given=repr(values), allowed="one or more finite numbers"
            )
        codes = torch.cat([lens.encode(part) for part in x.split(_BATCH)])
        found = [_best(lens, code, tried) for code in codes]
        moved, dims, at, by_head = (torch.stack(part) for part in zip(*found, strict=True))
        flat = moved.flatten(0, 1)
        variants = torch.cat([lens.decode(part) for part in flat.split(_BATCH)])
        said = torch.cat([lens.classifier(part).argmax(1) for part in variants.split(_BATCH)])
        classes = torch.arange(lens.spec.num_classes, device=x.device)
        variants = variants.view(len(x), len(classes), *lens.spec.shape)
        names = lens.classifier.names(lens.spec.num_classes)
    maps = xlens.evaluation.divergence_attributions(explainer, x, variants, "class", method).attributions
    return Contrasts(
        inputs=x.cpu(),
        variants=variants.cpu(),
        dims=dims.cpu(),
        values=at.cpu(),
        by_head=by_head.cpu(),
        by_classifier=(said.view(len(x), -1) == classes).cpu(),
        attributions=maps.cpu(),
        class_names=tuple(names),
    )


def _usual(lens: SVAELens) -> list[float]:
    return [0.0, 100.0] if isinstance(lens.model, SemiVAE) else torch.linspace(-4, 4, 25).tolist()


def _best(lens: SVAELens, code: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return of a code ``(d,)`` moved codes ``(K, d)``, dimensions, values, and whether the head agrees."""
    d1, count = lens.model.evidence, len(values)
    rows = code.repeat(d1 * count, 1)
    dims = torch.arange(d1, device=code.device).repeat_interleave(count)
    rows[torch.arange(len(rows), device=code.device), dims] = values.repeat(d1)
    rows[:, :d1] = lens.model.admissible(rows[:, :d1])
    probabilities = lens.class_probabilities(rows)
    best = probabilities.argmax(0)
    agreed = probabilities[best].argmax(1) == torch.arange(len(best), device=code.device)
    return rows[best], dims[best], values.repeat(d1)[best], agreed


def _draw(axis: Any, values: Tensor, signed: bool = False) -> None:
    shown = values.sum(0) if signed and values.dim() > 1 else values
    limit = float(shown.abs().max()) or 1.0
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if signed else {"cmap": "gray"}
    if shown.dim() == 3 and len(shown) in (3, 4):
        low, high = shown.amin(), shown.amax()
        axis.imshow(((shown - low) / (high - low).clamp_min(1e-12)).permute(1, 2, 0)[:, :, :3].numpy())
    elif shown.dim() >= 2:
        axis.imshow((shown[0] if shown.dim() == 3 else shown).numpy(), **style)
    else:
        axis.plot(shown.numpy(), linewidth=1)
