"""Attributes as conditions of the flow: 3 and 8, edited and drawn by how much ink the upper and left half have.

    python -m benchmarks.lenses.flow_attributes --seed 0

The classifier is a small CNN, the flow's network a small dense one; a third of the table is not observed. `held`
says on how many inputs the classifier's class is what it was. One standard deviation over the training images is
the unit of the changes of ink.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import xlens
from xlens.datasets import load_images, small_cnn, train_classifier

NAMES = ("upper ink", "left ink")
AMOUNTS = (-2.0, -1.0, 1.0, 2.0)
INPUTS, DRAWN = 40, 80


def measured(images: Tensor) -> Tensor:
    """Return the mean of the upper and of the left half ``(N, 2)``."""
    return torch.stack([images[:, 0, :4].mean((1, 2)), images[:, 0, :, :4].mean((1, 2))], 1)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images = load_images("digits")
    torch.manual_seed(asked.seed)
    model = small_cnn((1, 8, 8))
    train_classifier(model, images.train, images.train_labels, steps=150, progress=False)
    real = measured(images.train)
    # Of the first column only whether it is above the median is told.
    table = torch.stack([(real[:, 0] > real[:, 0].median()).float(), real[:, 1]], 1)
    table[::3, 0] = float("nan")
    small = {"network": "dense", "hidden": 96, "ode_steps": 6, "batch_size": 64, "learning_rate": 3e-3}
    explainer = xlens.fit(
        model, images.train, "flow", steps=asked.steps, side_info=table, attributes=NAMES, seed=asked.seed,
        progress=False, **small,
    )  # fmt: skip
    print(f"correlation of the two: {float(torch.corrcoef(real.T)[0, 1]):.2f}\n")
    x = images.test[:INPUTS]
    decided = model(x).argmax(1)
    print("| edit | by | upper ink | left ink | held | change (L1) |\n|---|---|---|---|---|---|")
    for name in NAMES:
        for amount in AMOUNTS:
            edited = explainer.edit(x, {name: amount}, carry="none")
            gained = ((measured(edited) - measured(x)) / real.std(0)).mean(0)
            held = float((model(edited).argmax(1) == decided).float().mean())
            change = float((edited - x).abs().mean())
            print(f"| {name} | {amount:+g} | {gained[0]:+.2f} | {gained[1]:+.2f} | {held:.2f} | {change:.3f} |")
    print("\n| drawn with | upper ink | left ink | of its class |\n|---|---|---|---|")
    for name in NAMES:
        for amount in AMOUNTS:
            drawn = torch.cat([explainer.sample(DRAWN // 2, c, attributes={name: amount}) for c in (0, 1)])
            gained = ((measured(drawn) - real.mean(0)) / real.std(0)).mean(0)
            right = model(drawn).argmax(1) == torch.arange(2).repeat_interleave(DRAWN // 2)
            share = float(right.float().mean())
            print(f"| {name} {amount:+g} | {gained[0]:+.2f} | {gained[1]:+.2f} | {share:.2f} |")


if __name__ == "__main__":
    main()
