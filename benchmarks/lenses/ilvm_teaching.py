"""Which inputs to ask a person about: strategies of active learning compared on an ILVM, Fashion-MNIST.

    python -m benchmarks.lenses.ilvm_teaching --seeds 0 1 2 3 4

50 rows with side information to begin with, then rounds of 50 more; the metric on test rows after each. Prints a
table with the mean over seeds and one standard deviation, and how much better each strategy is than asking at
random, seed by seed. All seeds share the CNN of seed 0.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.layer import Layer, layer_of
from xlens.metrics import interpretability

BEGIN, ROUND, ROUNDS, POOL = 50, 50, 4, 2000
FITTED, SCORED = 1000, 3000
STRATEGIES = ("random", "max_entropy", "mutual_information", "power_mutual_information")


class Setting(NamedTuple):
    """Side information of all rows, what kind it is, and the flow."""

    side: Tensor
    kinds: tuple[str, ...]
    flow: str


def settings(side: Tensor) -> dict[str, Setting]:
    """Return what is compared: many attributes, rare ones, and a weaker lens."""
    bright = (side[:, 1] > side[:, 1].quantile(0.95)).float()
    dark_dress = ((side[:, 0] == 3) & (side[:, 1] < side[:, 1].median())).float()
    rare = torch.stack([bright, dark_dress], 1)
    return {
        "two rare attributes": Setting(rare, ("binary", "binary"), "coupling"),
        "class and three measurements": Setting(side, ("classes:10", *["measured"] * 3), "coupling"),
        "two rare attributes, linear lens": Setting(rare, ("binary", "binary"), "linear"),
    }


@torch.no_grad()
def figure(explainer: xlens.LensExplainer, layer: Layer, side: Tensor) -> float:
    """Return exp(mean log p) on test rows, the mean over attributes; classes as a column each."""
    if side.shape[1] == 4:
        side = torch.cat([torch.nn.functional.one_hot(side[:, 0].long(), 10).float(), side[:, 1:]], 1)
    with xlens.asking(explainer):
        codes = explainer.lens.encode(layer.test[: FITTED + SCORED])
    found = interpretability(
        codes[:FITTED],
        side[:FITTED],
        test_codes=codes[FITTED:],
        test_side_info=side[FITTED : FITTED + SCORED],
    )
    return float(found.likelihood.mean())


def curves(seed: int, name: str) -> dict[str, list[float]]:
    """Return the figure after each round, for each strategy, from the same beginning."""
    layer = layer_of(0)
    both = settings(torch.cat([layer.train_side, layer.test_side]))[name]
    train_side, test_side = both.side.split([len(layer.train_side), len(layer.test_side)])
    order = torch.randperm(len(layer.train), generator=torch.Generator().manual_seed(seed))[:POOL]
    pool, side = layer.train[order], train_side[order]
    known = side.clone()
    known[BEGIN:] = torch.nan
    classifier = xlens.Classifier(layer.tail(), layer="0")
    began = xlens.fit(
        classifier, pool, "ilvm", side_info=known, kinds=both.kinds, flow=both.flow, steps=300, teaching_steps=60,
        seed=seed, progress=False,
    )  # fmt: skip
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        began.save(folder)
        for strategy in STRATEGIES:
            explainer = xlens.load(folder, classifier)
            left = torch.arange(BEGIN, POOL)
            line = [figure(explainer, layer, test_side)]
            for turn in range(ROUNDS):
                asked = explainer.teaching.query(pool[left], ROUND, strategy, seed=100 * seed + turn)
                rows = left[asked]
                explainer.teaching.teach(pool[rows], side[rows], seed=seed, progress=False)
                left = left[~torch.isin(left, rows)]
                line.append(figure(explainer, layer, test_side))
            found[strategy] = line
            print(seed, name, strategy, [round(value, 4) for value in line], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--fresh", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    names = list(settings(torch.rand(100, 4)))
    table: dict[str, list[dict[str, list[float]]]] = {name: [] for name in names}
    for name in names:
        for seed in arguments.seeds:
            path = CACHE / f"ilvm-teaching-{name.replace(', ', '-').replace(' ', '-')}-{seed}.json"
            if arguments.fresh or not path.exists():
                path.write_text(json.dumps(curves(seed, name)))
            table[name].append(json.loads(path.read_text()))
    labels = [BEGIN + ROUND * turn for turn in range(ROUNDS + 1)]
    for name, found in table.items():
        print(f"\n{name}, {len(found)} seeds\n\n| labels |", " | ".join(map(str, labels)), "| mean over random |")
        print("|" + "---|" * (len(labels) + 2))
        random = torch.tensor([one["random"] for one in found])
        for strategy in STRATEGIES:
            values = torch.tensor([one[strategy] for one in found])
            cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(values.mean(0), values.std(0), strict=True)]
            gain = (values - random)[:, 1:].mean(1)
            print(f"| {strategy} |", " | ".join(cells), f"| {gain.mean():+.4f} ± {gain.std():.4f} |")


if __name__ == "__main__":
    main()
