"""Defaults of infill on other data: where its evidence is local, and where it is not.

    python -m benchmarks.ground_truth.elsewhere blob digits leaves pcb --data data

`--data` is a folder with coffee/ and deeppcb/, for the last two. A judge of another architecture, trained on other
images than the classifier, says of each trustworthy counterfactual whether it belongs to the contrast class.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import xlens
from benchmarks.common.judges import predicted, residual_judge
from benchmarks.common.leaves import images, leaves
from benchmarks.common.tasks import planted
from xlens.datasets import load_images, small_cnn, train_classifier

STEPS = 600
EXPLAINED = 60


class Set(NamedTuple):
    """Two halves to train the classifier and the judge on, and what is explained: inputs of class 1."""

    mine: tuple[Tensor, Tensor]
    judges: tuple[Tensor, Tensor]
    asked: Tensor
    truth: Tensor | None = None


def _halves(inputs: Tensor, labels: Tensor, asked: Tensor, truth: Tensor | None = None) -> Set:
    return Set((inputs[::2], labels[::2]), (inputs[1::2], labels[1::2]), asked, truth)


def blob(_: Path) -> Set:
    task = planted(0)
    positive = task.test_labels == 1
    return _halves(task.train[:8000], task.train_labels[:8000], task.test[positive], task.test_masks[positive])


def digits(_: Path) -> Set:
    found = load_images("digits")
    return _halves(found.train, found.train_labels, found.test[found.test_labels == 1])


def small_leaves(folder: Path) -> Set:
    data = leaves(folder / "coffee", 0)
    names = data.of_classifier + data.of_judges
    inputs = images(data.folder, "leaf", names, 64)
    labels = torch.tensor([data.labels[name] for name in names])
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))
    return _halves(inputs[order], labels[order], images(data.folder, "masked", data.held_out, 64))


def boards(folder: Path, side: int = 64, count: int = 4000) -> Set:
    """Crops with and without defects, one place each; boards by their number are in one half or explained."""
    generator = torch.Generator().manual_seed(0)
    parts: dict[int, list[tuple[Tensor, int]]] = {0: [], 1: [], 2: []}
    for path in sorted((folder / "deeppcb").rglob("*_test.*")):
        template = path.with_name(path.name.replace("_test", "_temp"))
        listed = path.with_name(path.name.split("_test")[0] + ".txt")
        if not listed.exists():
            continue
        pair = [_bits(template), _bits(path)]
        boxes = [[int(v) / 2 for v in line.split()[:4]] for line in listed.read_text().splitlines()]
        for x0, y0, x1, y1 in boxes[:4]:
            jitter = (torch.rand(2, generator=generator) - 0.5) * side / 2
            left = int(np.clip((x0 + x1) / 2 + float(jitter[0]) - side / 2, 0, 320 - side))
            top = int(np.clip((y0 + y1) / 2 + float(jitter[1]) - side / 2, 0, 320 - side))
            crops = [one[:, top : top + side, left : left + side] for one in pair]
            parts[int(path.name[:5]) % 3] += [(crop, label) for label, crop in enumerate(crops)]
    stacked = [
        (torch.stack([i for i, _ in p[:count]]), torch.tensor([k for _, k in p[:count]])) for p in parts.values()
    ]
    return Set(stacked[0], stacked[1], stacked[2][0][stacked[2][1] == 1])


def _bits(path: Path) -> Tensor:
    return torch.from_numpy((np.array(Image.open(path).convert("L")) > 127).astype(np.float32))[None]


SETS: dict[str, Callable[[Path], Set]] = {
    "blob": blob,
    "digits": digits,
    "leaves": small_leaves,
    "pcb": boards,
    "pcb160": lambda folder: boards(folder, 160, 1200),
}


def row(name: str, folder: Path, fill: str | None) -> str:
    found = SETS[name](folder)
    shape = tuple(found.mine[0].shape[1:])
    wide = shape[1] % 14 and shape[1] < 28
    torch.manual_seed(0)
    net: nn.Module = small_cnn(shape)
    train_classifier(net, *found.mine, steps=STEPS, progress=False)
    torch.manual_seed(1)
    judge: nn.Module = small_cnn(shape) if wide else residual_judge(shape)
    train_classifier(judge, *found.judges, steps=STEPS, seed=1, progress=False)
    net, judge = net.eval(), judge.eval()
    right = [float((predicted(one, found.asked) == 1).float().mean()) for one in (net, judge)]
    chosen = (predicted(net, found.asked) == 1).nonzero()[:EXPLAINED, 0]
    inputs = found.asked[chosen]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        begun = time.process_time()
        options = {"fill": fill} if fill else {}
        explainer = xlens.fit(net, found.mine[0], "infill", progress=False, **options)
        fitted = time.process_time() - begun
        warned = any("no input has a local" in str(warning.message) for warning in said)
        begun = time.process_time()
        explanation = explainer.explain(inputs, target=1, contrast=0)
        spent = (time.process_time() - begun) / len(inputs)
    trusted, mask = explanation.trustworthy, explanation.mask > 0.5
    edited = mask.flatten(1).any(1)
    ill = predicted(judge, inputs) == 1
    sees = predicted(judge, explanation.counterfactual) == 0
    cells = [
        f"{name}{f', {fill}' if fill else ''}",
        "x".join(map(str, shape)),
        f"{right[0]:.2f}, {right[1]:.2f}",
        f"{float(explainer.lens.separation):.2f}{' (warns)' if warned else ''}",
        f"{_share(explanation.verdicts['flips']):.2f}",
        f"{_share(trusted):.2f}",
        f"{_share(sees[trusted & ill]):.2f} of {int((trusted & ill).sum())}",
        f"{float(mask[edited].float().mean()):.2f}",
        "-" if found.truth is None else _overlap(mask[edited], found.truth[chosen][edited]),
        f"{fitted:.0f}, {spent:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _overlap(mask: Tensor, true: Tensor) -> str:
    both = (mask & true).flatten(1).sum(1)
    return f"{_share(both / mask.flatten(1).sum(1)):.2f}, {_share(both / true.flatten(1).sum(1)):.2f}"


def _share(values: Tensor) -> float:
    return float(values.float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=tuple(SETS))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--fill", choices=("harmonic", "nearest"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| data | shape | right (classifier, judge) | separation | flips | trustworthy | judge confirms | area | "
        "precision, recall | CPU s: fit, an image |"
    )
    print("|---" * 10 + "|")
    for name in chosen.sets:
        print(row(name, chosen.data, chosen.fill), flush=True)


if __name__ == "__main__":
    main()
