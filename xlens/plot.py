"""One figure that shows an explanation, with its proof or its failure in plain sight."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from xlens._explain import not_local
from xlens.errors import UnsupportedError
from xlens.explanation import Explanation

__all__ = ["plot_explanation"]

_FRAMES = 6
_WARNING = "#b3261e"
_TITLES = {"lig": "latent IG", "ig_counterfactual": "IG from counterfactual"}


def plot_explanation(explanation: Explanation) -> Figure:
    """Draw the first input of an explanation.

    The upper rows show input, reconstruction, counterfactual, mask, signed difference and attributions (on one
    symmetric scale), the lower ones the path from counterfactual to input with f's probability.

    Args:
        explanation: of images ``(N, C, H, W)`` with 1 to 4 channels.

    Raises:
        UnsupportedError: the inputs are no images.
    """
    if explanation.inputs.dim() != 4:
        raise UnsupportedError(
            "plot: only images can be drawn",
            given=f"inputs of shape {tuple(explanation.inputs.shape[1:])}",
            allowed="(C, H, W)",
            do="read explanation.attributions and explanation.edit directly",
        )
    one = explanation[0].to("cpu")
    panels = _panels(one)
    figure = Figure(figsize=(2.0 * max(len(panels), _FRAMES), 7.2), layout="constrained")
    head, frames, curve = figure.subfigures(3, 1, height_ratios=(2.6, 1.7, 2.0))
    _draw_panels(head, one, panels)
    _draw_frames(frames, one)
    left, right = curve.subplots(1, 2, width_ratios=(1, 1.2))
    _draw_curve(left, one)
    _draw_words(right, one)
    figure.suptitle(_headline(one), fontsize=11, color="black" if bool(one.trustworthy[0]) else _WARNING)
    return figure


def _headline(one: Explanation) -> str:
    names = one.class_names
    target, contrast = names[int(one.target[0])], names[int(one.contrast[0])]
    question = f"Why {target!r} and not {contrast!r}?"
    if bool(one.trustworthy[0]):
        return question
    return f"{question}\nDO NOT TRUST THIS EXPLANATION: " + "; ".join(one.problems[0])


def _panels(one: Explanation) -> list[tuple[str, Tensor, str]]:
    """Return (title, image, kind) of the upper row; kind is image, mask or signed."""
    panels = [("input", one.inputs[0], "image")]
    if one.reconstruction is not None:
        panels.append(("reconstruction", one.reconstruction[0], "image"))
    panels.append(("counterfactual", one.counterfactual[0], "image"))
    if one.mask is not None:
        panels.append(("mask", one.mask[0], "mask"))
    if one.edit is not None:
        panels.append(("input - counterfactual", -one.edit[0], "signed"))
    panels += [(_TITLES.get(name, name), values[0], "map") for name, values in one.attributions.items()]
    return panels


def _draw_panels(head: Figure, one: Explanation, panels: list[tuple[str, Tensor, str]]) -> None:
    axes = np.atleast_1d(head.subplots(1, len(panels)))
    # Attributions of one explanation share their scale, so that they can be compared.
    maps = [float(values.sum(0).abs().quantile(0.999)) for _, values, kind in panels if kind == "map"]
    for axis, (title, values, kind) in zip(axes, panels, strict=True):
        if kind == "image":
            _show_image(axis, values, one)
        elif kind == "mask":
            axis.imshow(values[0].numpy(), cmap="cividis", vmin=0, vmax=1)
        else:
            limit = max(maps) if kind == "map" else float(values.sum(0).abs().max())
            drawn = axis.imshow(values.sum(0).numpy(), cmap="RdBu_r", vmin=-(limit or 1), vmax=limit or 1)
            # Inset, so that every panel keeps the same size.
            bar = head.colorbar(drawn, cax=axis.inset_axes((0, -0.09, 1, 0.05)), orientation="horizontal")
            bar.ax.tick_params(labelsize=6)
        _finish(axis, title)


def _draw_frames(frames: Figure, one: Explanation) -> None:
    total = one.path.shape[1]
    chosen = np.linspace(0, total - 1, min(_FRAMES, total)).round().astype(int)
    probability = one.path_scores[0].sigmoid()
    for axis, index in zip(np.atleast_1d(frames.subplots(1, len(chosen))), chosen, strict=True):
        _show_image(axis, one.path[0, index], one)
        axis.set_xlabel(f"{probability[index]:.2f}", fontsize=9)
        _finish(axis, "")
    frames.suptitle("path from counterfactual to input, f's probability under each frame", fontsize=9)


def _draw_curve(axis: Axes, one: Explanation) -> None:
    scores = one.path_scores[0]
    axis.plot(np.linspace(0, 1, len(scores)), scores.sigmoid().numpy(), marker="o", color="#3b6fb6")
    axis.axhline(0.5, color="grey", linewidth=0.8, linestyle="--")
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel("counterfactual (0) to input (1)", fontsize=8)
    names = one.class_names
    target, contrast = names[int(one.target[0])], names[int(one.contrast[0])]
    axis.set_ylabel(f"p({target}) against {contrast}", fontsize=8)
    axis.tick_params(labelsize=7)


def _draw_words(axis: Axes, one: Explanation) -> None:
    axis.axis("off")
    figures = one.fidelity
    yes = {True: "yes", False: "NO"}
    lines = [
        f"f's score (logit margin)   input {one.scores[0]:+.2f}   reconstruction "
        f"{one.reconstruction_scores[0]:+.2f}   counterfactual {one.counterfactual_scores[0]:+.2f}",
        f"f agrees on the reconstruction: {yes[bool(figures.agrees[0])]}",
        f"f's decision flips on the counterfactual: {yes[bool(figures.flips[0])]}",
        f"reconstruction: SSIM {figures.ssim[0]:.2f}, MSE {figures.mse[0]:.4f}",
        f"f rises along {100 * figures.monotone[0]:.0f}% of the path",
    ]
    for name, delta in one.convergence_delta.items():
        total = float(one.scores[0] - one.counterfactual_scores[0])
        lines.append(f"{_TITLES.get(name, name)}: sums to {total + float(delta[0]):.3f} of {total:.3f}")
    if one.mask is not None:
        local = "not local" if bool(not_local(figures, one.mask)[0]) else "local"
        lines.append(f"the mask lets {100 * figures.coverage[0]:.0f}% of the lens's change through ({local})")
    axis.text(0, 1, "\n".join(lines), va="top", fontsize=8, linespacing=1.6, transform=axis.transAxes)


def _show_image(axis: Axes, values: Tensor, one: Explanation) -> None:
    """Draw in the data's own range, whatever the normalisation; a fourth channel is opacity."""
    low, high = one.data_range
    shown = ((values.float() - low) / max(high - low, 1e-12)).clamp(0, 1)
    if len(shown) == 1:
        axis.imshow(shown[0].numpy(), cmap="gray", vmin=0, vmax=1)
    elif len(shown) == 2:
        axis.imshow(shown.mean(0).numpy(), cmap="gray", vmin=0, vmax=1)
    else:
        axis.imshow(shown[:4].permute(1, 2, 0).numpy())


def _finish(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
