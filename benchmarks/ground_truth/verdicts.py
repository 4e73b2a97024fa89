"""The verdict as a detector: does `trustworthy` tell edits that judges confirm from those that they do not?

    python -m benchmarks.ground_truth.verdicts --seeds 0 --data coffee

Two judges, of other architectures and trained on other images than the classifier, look at counterfactuals of good
lenses and of deliberately bad ones (`bad_lenses`). They confirm one where they put the input in the class that is
explained, and the counterfactual in the contrast class. `--data`, a folder of coffee leaves as in `photographs`,
adds leaves at 224 pixels.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import xlens
from benchmarks.common.judges import predicted, residual_judge, wide_judge
from benchmarks.common.leaves import images, leaves, networks
from benchmarks.common.tasks import Task, pair, planted
from benchmarks.ground_truth.bad_lenses import ATTACKS, Bad, shuffled
from xlens.datasets import small_cnn, train_classifier

STEPS, LENS_STEPS, EXPLAINED, LEAVES = 700, 350, 100, 24
MASK = xlens.MaskOptions(steps=300)
#: The classifier and two judges, images to fit on, images of class 1 to explain, and the names of the classes.
Images = tuple[list[nn.Module], Tensor, Tensor, tuple[str, ...]]
COLUMNS = ("flips", "likeness", "specific", "stable", "local", "complete")


def small(task: Task, seed: int) -> Images:
    """Return the classifier and two judges, images to fit on, and images of class 1 to explain."""
    half = len(task.train) // 2
    nets: list[nn.Module] = []
    for number, make in enumerate((small_cnn, residual_judge, wide_judge)):
        rows = slice(0, half) if number == 0 else slice(half, None)
        torch.manual_seed(10 * seed + number)
        net = make(tuple(task.train.shape[1:]))
        train_classifier(
            net, task.train[rows], task.train_labels[rows], steps=STEPS, seed=10 * seed + number, progress=False
        )
        nets.append(net.eval().requires_grad_(False))
    return nets, task.train[:half][:4000], task.test[task.test_labels == 1], task.class_names


def photographs(folder: Path, seed: int) -> Images:
    """Return the same of coffee leaves at 224 pixels; those to explain are of the held-out half."""
    data = leaves(folder, seed)
    nets = list(networks(data, seed).values())
    seen = images(folder, "leaf", data.of_classifier)
    return nets, seen, images(folder, "masked", data.held_out[: 2 * LEAVES]), ("healthy", "diseased")


def lenses(
    classifier: xlens.Classifier, seen: Tensor, seed: int, trained: bool
) -> Iterator[tuple[str, xlens.LensExplainer]]:
    """Return lenses by name, good ones and bad ones."""

    def fit(backend: object, **options: object) -> xlens.LensExplainer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return xlens.fit(classifier, seen, backend, seed=seed, progress=False, **options)  # type: ignore[call-overload]

    yield "infill", fit("infill")
    if trained:
        good = fit("medxgan", steps=LENS_STEPS, mask=MASK)
        yield "medxgan", good
        yield "medxgan, its weights shuffled", shuffled(good, seed)
        yield "medxgan, 20 steps", fit("medxgan", steps=20, mask=MASK)
        yield "ghosts", fit(Bad(kind="ghosts"), mask=MASK)
    for attack in ATTACKS:
        yield attack, fit(Bad(kind=attack))


def row(explainer: xlens.LensExplainer, inputs: Tensor, judges: list[nn.Module]) -> list[float]:
    """Return the figures of one lens: verdicts held, trustworthy, and what the judges confirm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = [explainer.explain(x, target=1, contrast=0, attributions=("lig",)) for x in inputs.split(25)]
    after = torch.cat([part.counterfactual for part in parts])
    trusted = torch.cat([part.trustworthy for part in parts])
    verdicts = {name: [held for part in parts if (held := part.verdicts[name]) is not None] for name in COLUMNS}
    sure = torch.stack([(predicted(j, inputs) == 1) & (predicted(j, after) == 0) for j in judges])
    flips = torch.cat(verdicts["flips"])
    return [
        *(_mean(torch.cat(held)) if held else float("nan") for held in verdicts.values()),
        _mean(trusted),
        float(trusted.sum()),
        _mean(sure.any(0)[trusted]),
        _mean(sure.all(0)[trusted]),
        _mean(sure.any(0)[flips & ~trusted]),
    ]


def _mean(held: Tensor) -> float:
    return float(held.float().mean()) if len(held) else float("nan")


def table(name: str, made: Images, seed: int, trained: bool) -> None:
    """Print the rows of one set of images."""
    (net, *judges), seen, asked, names = made
    with torch.no_grad():
        asked = asked[predicted(net, asked) == 1][: EXPLAINED if trained else LEAVES]
    for lens, explainer in lenses(xlens.Classifier(net, class_names=names), seen, seed, trained):
        figures = " | ".join(f"{value:.2f}" for value in row(explainer, asked, judges))
        print(f"| {name}, {seed} | {lens} | {figures} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", type=Path, help="a folder of coffee leaves; without, images of 28 pixels alone")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    tasks: dict[str, Callable[[int], Task]] = {"blob": planted, "coat/shirt": lambda _: pair()}
    print(
        f"| images, seed | lens | {' | '.join(COLUMNS)} | trustworthy | of them | a judge confirms | both judges "
        "| a judge, of those that flip and are not |"
    )
    print("|" + "---|" * (len(COLUMNS) + 7))
    for seed in chosen.seeds:
        for name, make in tasks.items():
            table(name, small(make(seed), seed), seed, True)
        if chosen.data:
            table("leaves", photographs(chosen.data, seed), seed, False)


if __name__ == "__main__":
    main()
