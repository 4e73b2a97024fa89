"""Explanations by an ILVM on a CNN's penultimate layer, Fashion-MNIST: are they complete? And pictures.

    python -m benchmarks.lenses.ilvm_explaining --seeds 0

Prints a table over the first test images; draws the first ones into docs/pictures.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch

import xlens
from benchmarks.common.layer import LAYER, MEASURED, layer_of
from benchmarks.common.tasks import fashion
from xlens import plot

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
IMAGES, OBSERVED, EXPLAINED = 6000, 600, 64


def explained(seed: int, draw: bool) -> dict[str, float]:
    """Return figures of one seed, and draw where asked."""
    task, layer = fashion(), layer_of(seed)
    side = layer.train_side[:IMAGES, 1:].clone()
    side[OBSERVED:] = torch.nan
    explainer = xlens.fit(
        xlens.Classifier(layer.model, layer=LAYER, class_names=task.class_names),
        task.train[:IMAGES],
        "ilvm",
        side_info=side,
        attributes=MEASURED,
        steps=400,
        bank=1000,
        seed=seed,
        progress=False,
    )
    images = task.test[:EXPLAINED]
    found = explainer.explain(images)
    difference = (found.scores - found.counterfactual_scores).double()
    size = difference.abs()
    whole = (found.feature_contributions.double().sum(1) - difference).abs() / size
    pixels = (found.attributions["lig"].double().flatten(1).sum(1) - difference).abs() / size
    sums = [found.attributions[f"lig: {name}"].double().flatten(1).sum(1) for name in found.feature_names]
    each = [(one - part).abs() / size for one, part in zip(sums, found.feature_contributions.T, strict=True)]
    if draw:
        found.plot(0).savefig(PICTURES / "ilvm-layer.png", dpi=75)
        moved = plot.traversal(explainer, images[:4], "width", [-2.0, -1.0, 0.0, 1.0, 2.0])
        moved.savefig(PICTURES / "ilvm-layer-width.png", dpi=75)
        plot.traversal(explainer, images[:4], "brightness", [-2.0, -1.0, 0.0, 1.0, 2.0]).savefig(
            PICTURES / "ilvm-layer-brightness.png", dpi=75
        )
    share = found.feature_contributions.abs() / found.feature_contributions.abs().sum(1, keepdim=True)
    return {
        "score gap, largest": float(found.fidelity.score_gap.max()),
        "contributions, relative error, largest": float(whole.max()),
        "pixels, relative error, largest": float(pixels.max()),
        "an attribute's pixels, error relative to the whole, largest": float(torch.stack(each).max()),
        "trustworthy": float(found.trustworthy.float().mean()),
        "the classifier puts the retrieved input in the contrast class": float(found.fidelity.flips.float().mean()),
        "moving the named dimensions alone flips the classifier": float(
            found.fidelity.decoding_flips.float().mean()
        ),
        **{f"share of {name}": float(share[:, i].mean()) for i, name in enumerate(found.feature_names)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = {seed: explained(seed, draw=seed == arguments.seeds[0]) for seed in arguments.seeds}
    print("\n| figure |", " | ".join(f"seed {seed}" for seed in rows), "|\n|" + "---|" * (len(rows) + 1))
    for name in rows[arguments.seeds[0]]:
        print(f"| {name} |", " | ".join(f"{row[name]:.4f}" for row in rows.values()), "|")


if __name__ == "__main__":
    main()
