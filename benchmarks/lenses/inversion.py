"""Inversion (medXGAN, eq. 5): warm-started steps against 10,000 plain Adam steps from a random start.

    python -m benchmarks.lenses.inversion --lens benchmarks/cache/lens-pair-0 --seeds 0 1 2

Takes a lens that ``benchmarks.lenses.medxgan`` saved, and the same images for both. Prints the mean loss, and the
number of warm-started steps after which it is at most that of the long search.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

import xlens
from benchmarks.common.judges import predicted, trained
from benchmarks.common.tasks import pair

COUNT = 16
MARKS = (0, 10, 25, 50, 100, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lens", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=10_000)
    chosen = parser.parse_args()
    task = pair()
    seed = int(chosen.lens.name.rsplit("-", 1)[1])
    model = trained(task, seed, 6)["f"]
    explainer = xlens.load(chosen.lens, model)
    lens = explainer.lens
    positives = task.test[predicted(model, task.test) == 1]
    print(
        f"| images (seed) | random start, {chosen.steps} steps | " + " | ".join(f"warm, {m}" for m in MARKS) + " |"
    )
    print("|---" * (len(MARKS) + 2) + "|")
    needed = []
    for seed in chosen.seeds:
        generator = torch.Generator().manual_seed(seed)
        images = positives[torch.randperm(len(positives), generator=generator)[:COUNT]]
        with xlens.asking(explainer):
            probabilities = explainer.classifier.probabilities(images).detach()
            warm = []
            for mark in MARKS:
                codes = lens.inversion.search(images, lens.initial(images), steps=mark)
                warm.append(float(lens.inversion.loss(codes, images, probabilities).mean()))
            began = time.perf_counter()
            (cold,) = lens.invert(images, steps=chosen.steps, restarts=1, generator=generator)
            reached = float(lens.inversion.loss(cold, images, probabilities).mean())
        needed.append(next((m for m, value in zip(MARKS, warm, strict=True) if value <= reached), None))
        cells = " | ".join(f"{value:.5f} ({value / reached:.2f})" for value in warm)
        print(
            f"| {COUNT} (seed {seed}) | {reached:.5f} ({time.perf_counter() - began:.0f} s) | {cells} |", flush=True
        )
    print(f"\nwarm-started steps to reach the long search's loss: {needed} (None: more than {MARKS[-1]})")
    if None not in needed:
        print(f"median: {statistics.median(needed)}")


if __name__ == "__main__":
    main()
