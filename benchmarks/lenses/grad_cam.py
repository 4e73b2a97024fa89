"""Grad-CAM on the planted task, at the last convolution and at the ReLU after it; needs no lens.

    python -m benchmarks.lenses.grad_cam --seeds 0 1 2

The same classifiers and images as ``benchmarks.lenses.medxgan --task planted``.
"""

from __future__ import annotations

import argparse

from torch import Tensor

from benchmarks.common.judges import predicted, trained
from benchmarks.common.localisation import figures, grad_cam
from benchmarks.common.tasks import planted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    print("| layer | seed | pointing (smoothed) | IoU (smoothed) | mass |\n|---|---|---|---|---|")
    for seed in parser.parse_args().seeds:
        task = planted(seed)
        model = trained(task, seed, 8)["f"]
        found = predicted(model, task.test)
        chosen = ((found == 1) & (task.test_labels == 1)).nonzero()[:400, 0]

        def forward(points: Tensor, model=model) -> Tensor:
            return model(points)[:, 1] - model(points)[:, 0]

        for after, name in enumerate(("last convolution", "ReLU after it")):
            got = figures(grad_cam(model, forward, task.test[chosen], after), task.test_masks[chosen])
            pointing = f"{got['pointing']:.3f} ({got['pointing, smoothed']:.3f})"
            iou = f"{got['IoU']:.3f} ({got['IoU, smoothed']:.3f})"
            print(f"| {name} | {seed} | {pointing} | {iou} | {got['mass']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
