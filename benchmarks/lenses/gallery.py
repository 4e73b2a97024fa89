"""Pictures for docs/gallery.md: one backend on one data set, the first held-out images as they come.

    python -m benchmarks.lenses.gallery --backend medxgan --data digits
    python -m benchmarks.lenses.gallery --backend svae --data fashion-mnist

Nothing is picked: a picture that does not hold says so itself.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch

import xlens
from xlens import plot
from xlens.cli.demo import run_demo
from xlens.contracts import Feature
from xlens.datasets import load_images
from xlens.errors import XlensWarning
from xlens.explanation import Explanation


def strongest(explainer: xlens.LensExplainer, explanation: Explanation) -> Feature:
    """The part of the code that contributes most to the classifier's score, averaged over the images explained."""
    weight = dict(
        zip(explanation.feature_names, explanation.feature_contributions.abs().mean(0).tolist(), strict=True)
    )
    return max((one for one in explainer.features if one.role != "nuisance"), key=lambda one: weight[one.name])


def values_of(feature: Feature, explanation: Explanation) -> list[float]:
    """Values to set it to: lengths of a wide part; of a single number what 9 of 10 images have."""
    if len(feature.dims) > 1:
        return [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    low, high = explanation.codes[:, feature.dims[0]].float().quantile(torch.tensor([0.05, 0.95])).tolist()
    return [round(low + share * (high - low), 2) for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--data", choices=("digits", "fashion-mnist"), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/gallery"))
    chosen = parser.parse_args()
    name = f"gallery-{chosen.backend}-{chosen.data}"
    warnings.simplefilter("ignore", XlensWarning)
    explainer, explanation = run_demo(chosen.data, chosen.backend, out=chosen.cache / name, seed=chosen.seed)
    test = load_images(chosen.data).test
    explanation.plot(0).savefig(chosen.pictures / f"{name}.png", dpi=80)
    explanation.plot_features(0).savefig(chosen.pictures / f"{name}-features.png", dpi=80)
    feature = strongest(explainer, explanation)
    figure = plot.traversal(explainer, test[:3], feature.name, values_of(feature, explanation), target=1)
    figure.savefig(chosen.pictures / f"{name}-traversal.png", dpi=80)
    if "invariances" in explainer.backend.capabilities:
        plot.invariances(explainer, test[:3], 6).savefig(chosen.pictures / f"{name}-invariances.png", dpi=80)


if __name__ == "__main__":
    main()
