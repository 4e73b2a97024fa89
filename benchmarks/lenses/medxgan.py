"""The medXGAN lens on real images: fidelity, edits judged by independent classifiers, localisation.

    python -m benchmarks.lenses.medxgan --task pair --seeds 0 1 2
    python -m benchmarks.lenses.medxgan --task planted --seeds 0 1 2
    python -m benchmarks.lenses.medxgan --task solar --seeds 0 1 2

Each prints a table: one column per seed, then median and range.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import torch
import xlens_medxgan
from torch import Tensor, nn

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.judges import predicted, trained
from benchmarks.common.localisation import localisation
from benchmarks.common.tables import options_of, table
from benchmarks.common.tasks import Task, pair, planted, solar

EPOCHS = {"pair": 6, "planted": 8, "solar": 15}


def generated(explainer: xlens.LensExplainer, model: nn.Module, n: int = 4000) -> float:
    """Share of generated images, half of each class, that the classifier puts in the intended class."""
    right = [predicted(model, explainer.sample(n // 2, c, seed=c)) == c for c in (0, 1)]
    return float(torch.cat(right).float().mean())


def judged(
    rows: dict[str, float], label: str, judges: dict[str, nn.Module], before: Tensor, after: Tensor, source: int
) -> None:
    """Share of the inputs of class `source`, for each judge, on which it sees the other class afterwards."""
    for name, judge in judges.items():
        counted = predicted(judge, before) == source
        rows[f"{label}: {name}"] = float((predicted(judge, after)[counted] == 1 - source).float().mean())


def restarts(rows: dict[str, float], explainer: xlens.LensExplainer, images: Tensor) -> None:
    """Three inversions from random starts: likeness of their codes and of their images (paper, table 3)."""
    from xlens.metrics import ssim

    codes = xlens_medxgan.invert(explainer, images, steps=500, restarts=3, seed=0)
    with xlens.asking(explainer) as lens:
        decoded = [lens.decode(code) for code in codes]
    pairs = ((0, 1), (0, 2), (1, 2))
    d1 = explainer.lens.nuisance_code
    for name, part in (("codes as they are", codes), ("z2", codes[:, :, d1:])):
        cosine = [torch.cosine_similarity(part[a], part[b]).mean() for a, b in pairs]
        rows[f"3 inversions: cosine of {name}"] = float(torch.stack(cosine).mean())
    # z1 in units of its prior, so that a shared mean does not count as likeness.
    codes = [torch.cat([explainer.lens.prior.whiten(code[:, :d1]), code[:, d1:]], 1) for code in codes]
    cosine = [torch.cosine_similarity(codes[a], codes[b]).mean() for a, b in pairs]
    rows["3 inversions: cosine of codes (paper .965)"] = float(torch.stack(cosine).mean())
    alike = [ssim(decoded[a], decoded[b], 1.0).mean() for a, b in pairs]
    rows["3 inversions: SSIM of images (paper .970)"] = float(torch.stack(alike).mean())


def fitted(task: Task, model: nn.Module, seed: int, options: dict) -> xlens.LensExplainer:
    """Fit a lens, and keep it in the cache folder."""
    classifier = xlens.Classifier(model, class_names=task.class_names)
    explainer = xlens.fit(classifier, task.train, "medxgan", seed=seed, **options)
    explainer.save(CACHE / f"lens-{task.name}-{seed}")
    return explainer


def measure(task: Task, seed: int, picture: Path, options: dict) -> dict[str, float]:
    """Fit one lens and return every figure by name."""
    nets = trained(task, seed, EPOCHS[task.name])
    model = nets.pop("f")
    rows: dict[str, float] = {}
    for name, net in {"the classifier": model, **nets}.items():
        rows[f"test accuracy: {name}"] = float((predicted(net, task.test) == task.test_labels).float().mean())
    began = time.perf_counter()
    explainer = fitted(task, model, seed, options)
    rows["fit, seconds"] = time.perf_counter() - began
    rows["generated images: the classifier sees the intended class"] = generated(explainer, model)
    found = predicted(model, task.test)
    right = found == task.test_labels
    sizes = 400
    for source, way in ((1, "positive -> negative"), (0, "negative -> positive")):
        chosen = (right & (found == source)).nonzero()[:sizes, 0]
        before = task.test[chosen]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            explanation = explainer.explain(before)
        after, fidelity = explanation.counterfactual, explanation.fidelity
        rows[f"{way}: the classifier agrees on reconstruction"] = float(fidelity.agrees.float().mean())
        rows[f"{way}: reconstruction MSE"] = float(fidelity.mse.mean())
        rows[f"{way}: the classifier flips on x'"] = float(fidelity.flips.float().mean())
        judged(rows, f"{way}: x'", nets, before, after, source)
        with xlens.asking(explainer):
            decoded = explainer.lens.decode(explanation.counterfactual_codes)
        judged(rows, f"{way}: G(z0)", nets, before, decoded, source)
        for name, judge in nets.items():
            share = (predicted(judge, before) == 1 - source).float().mean()
            rows[f"{way}: unedited, all inputs that the classifier is right on: {name}"] = float(share)
        whole = (
            explanation.path_scores.diff(dim=1) >= -0.01 * explanation.path_scores.diff(dim=1).sum(1, True).abs()
        )
        rows[f"{way}: the classifier monotone on the whole path"] = float(whole.all(1).float().mean())
        rows[f"{way}: mask area"] = float(explanation.mask.mean())
        rows[f"{way}: share of the change let through"] = float(fidelity.coverage.mean())
        difference = (explanation.scores - explanation.counterfactual_scores).abs()
        error = explanation.convergence_delta["lig"].abs() / difference
        rows[f"{way}: lig completeness error, median"] = float(error.median())
        rows[f"{way}: lig completeness error, worst"] = float(error.max())
        rows[f"{way}: trustworthy"] = float(explanation.trustworthy.float().mean())
        if source == 1:
            if task.test_masks is not None:
                clean = task.test_clean[chosen]
                rows["true clean original: the classifier"] = float((predicted(model, clean) == 0).float().mean())
                judged(rows, "true clean original", nets, before, clean, 1)
                masks = task.test_masks[chosen]
                energy = explanation.edit.square()
                share = (energy * masks).flatten(1).sum(1) / energy.flatten(1).sum(1).clamp_min(1e-12)
                rows["edit energy inside the mask, mean"] = float(share.mean())
                rows["edit energy inside the mask, median"] = float(share.median())
                rows |= localisation(model, explanation, masks, clean, task)
            draw(explanation, picture)
    restarts(rows, explainer, task.test[right & (found == 1)][:16])
    return rows


def draw(explanation: xlens.Explanation, path: Path, n: int = 12) -> None:
    """Write the first images as rows: input, reconstruction, counterfactual, mask, difference, lig."""
    from matplotlib.figure import Figure

    low, high = explanation.data_range
    figure = Figure(figsize=(n, 6.3), layout="constrained")
    axes = figure.subplots(6, n)
    for i in range(n):
        lig = explanation.attributions["lig"][i].sum(0)
        images = [explanation.inputs[i], explanation.reconstruction[i], explanation.counterfactual[i]]
        for row, image in enumerate(images):
            axes[row, i].imshow(image[0], cmap="gray", vmin=low, vmax=high)
        axes[3, i].imshow(explanation.mask[i, 0], cmap="cividis", vmin=0, vmax=1)
        limit = float(explanation.edit[i].abs().max()) or 1.0
        axes[4, i].imshow(-explanation.edit[i][0], cmap="RdBu_r", vmin=-limit, vmax=limit)
        limit = float(lig.abs().max()) or 1.0
        axes[5, i].imshow(lig, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for row, name in enumerate(("input", "reconstruction", "counterfactual", "mask", "difference", "latent IG")):
        axes[row, 0].set_ylabel(name, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("pair", "planted", "solar"), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE of the backend")
    chosen = parser.parse_args()
    options = options_of(chosen.option)
    results = []
    for seed in chosen.seeds:
        task = {"pair": pair, "solar": solar}[chosen.task]() if chosen.task != "planted" else planted(seed)
        results.append(measure(task, seed, chosen.pictures / f"medxgan-{chosen.task}-{seed}.png", options))
        print(table(results, chosen.seeds[: len(results)]), flush=True)


if __name__ == "__main__":
    main()
