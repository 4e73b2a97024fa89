"""Maps side by side on the first test inputs of a cell, as they come."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from matplotlib.figure import Figure

from benchmarks.common.judges import predicted
from benchmarks.ground_truth.cells import CEILING, REFERENCES, SMOOTHING, VALIDATION
from benchmarks.ground_truth.lenses import TASKS, lens, networks
from xlens.evaluation.contenders import Asked, blurred, lens_free, parse_methods

SHOWN = 8
BESIDE = ("integrated_gradients:nearest", "layer_grad_cam", "occlusion:mean", "integrated_gradients:black")


def draw(name: str, seed: int, backend: str, out: Path) -> None:
    """Draw input, true original, counterfactual and maps of the first test inputs."""
    task = TASKS[name](seed)
    model = networks(name, task, seed)["f"]
    explainer, _ = lens(name, task, model, backend, seed)
    chosen = ((predicted(model, task.test) == 1) & (task.test_labels == 1)).nonzero()[:, 0]
    chosen = chosen[VALIDATION : VALIDATION + SHOWN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanation = explainer.explain(task.test[chosen], attributions=("lig",))
    real = task.train[:REFERENCES]
    clean = None if task.test_clean is None else task.test_clean[chosen]
    asked = Asked(
        explainer.classifier, explainer.spec, explanation.inputs, explanation.target, explanation.contrast,
        references=(real, predicted(model, real)), clean=clean, seed=0,
    )  # fmt: skip
    rows = {"input": explanation.inputs, "counterfactual": explanation.counterfactual}
    maps = {"lig": explanation.attributions["lig"]}
    names = BESIDE
    if clean is not None:
        rows |= {"true original": clean, "mask": task.test_masks[chosen].float()}
        names = (CEILING, *BESIDE)
    contenders, _ = parse_methods(names, {"references": real, "clean": clean}, True)
    with explainer.classifier.frozen(seed=0):
        maps |= {one.name: lens_free(one, asked, torch.arange(len(chosen))) for one in contenders}
    figure = Figure(figsize=(1.1 * len(chosen) + 1, 1.1 * (len(rows) + len(maps))), layout="constrained")
    axes = figure.subplots(len(rows) + len(maps), len(chosen))
    for line, (label, images) in enumerate(rows.items()):
        for axis, image in zip(axes[line], images, strict=True):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        axes[line, 0].set_ylabel(label, fontsize=7)
    for line, (label, values) in enumerate(maps.items(), len(rows)):
        for axis, one in zip(axes[line], blurred(values.float(), SMOOTHING), strict=True):
            limit = float(one.abs().max()) or 1.0
            axis.imshow(one.sum(0), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes[line, 0].set_ylabel(label.replace("integrated_gradients", "IG"), fontsize=7)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(out, dpi=80)
