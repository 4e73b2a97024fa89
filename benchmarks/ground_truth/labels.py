"""Many labels, one label: the four diseases of coffee leaves, each explained alone by infill.

    python -m benchmarks.ground_truth.labels --data coffee --seed 0

`--data` is a folder with labels.csv and leaf/ (BRACOL, repository esgario/lara2018, MIT). A small network is
trained from scratch on one half of the leaves at 96 pixels, with one logit per disease. Of the other half the first
leaves are explained that have the disease and on which the network says so: the disease against its absence, with
the other three as they are. No judge is asked: the figures say what the edit does to this network alone.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.leaves import DISEASES, images, leaves

SIDE = 96
STEPS, BATCH = 1200, 32


class Diseases(nn.Module):
    """Five convolutions, and one logit for each disease; takes images in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width, stride in ((16, 2), (32, 2), (64, 2), (64, 1), (96, 2)):
            layers += [nn.Conv2d(before, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * before, len(DISEASES))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        found = self.body(inputs * 4 - 2)
        # A small lesion counts in the largest value, what covers the leaf in the mean.
        return self.head(torch.cat([found.amax((2, 3)), found.mean((2, 3))], 1))


def diseases(folder: Path, names: list[str]) -> Tensor:
    """Return which diseases each leaf has, ``(N, 4)`` bool."""
    with (folder / "labels.csv").open() as file:
        rows = {row["id"]: [int(row[name]) for name in DISEASES] for row in csv.DictReader(file)}
    return torch.tensor([rows[name] for name in names]) > 0


def trained(seen: Tensor, has: Tensor, seed: int) -> Diseases:
    """Return the network, from the cache if it is there."""
    path = CACHE / f"diseases-{SIDE}-{seed}.safetensors"
    torch.manual_seed(seed)
    net = Diseases()
    if path.exists():
        net.load_state_dict(load_file(path))
        return net.eval()
    begun = time.process_time()
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    # Rare diseases are drawn as often as common ones.
    kinds = [*(has[:, k].nonzero()[:, 0] for k in range(len(DISEASES))), (~has.any(1)).nonzero()[:, 0]]
    for step in range(STEPS):
        picked = [kinds[(step + i) % len(kinds)] for i in range(BATCH)]
        rows = torch.stack([kind[torch.randint(len(kind), ())] for kind in picked])
        batch = seen[rows]
        batch = batch.flip(-1) if step % 2 else batch
        batch = batch.flip(-2) if step // 2 % 2 else batch
        light, shift = torch.randn(2, BATCH, 1, 1, 1)
        batch = (batch * (1 + 0.15 * light) + 0.05 * shift).clamp(0, 1)
        loss = F.binary_cross_entropy_with_logits(net(batch), has[rows].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"trained in {time.process_time() - begun:.0f} CPU seconds")
    CACHE.mkdir(exist_ok=True)
    save_file(net.state_dict(), path)
    return net.eval()


def area_under_curve(scores: Tensor, has: Tensor) -> float:
    """Return the chance that a leaf with the disease scores above one without."""
    pairs = scores[has][:, None] - scores[~has][None]
    return float((pairs > 0).float().mean() + 0.5 * (pairs == 0).float().mean())


def row_of(
    every: xlens.Classifier,
    k: int,
    seen: Tensor,
    unseen: Tensor,
    logits: Tensor,
    has: Tensor,
    count: int,
    seed: int,
) -> list[str]:
    """Return one disease's figures, as cells."""
    name = DISEASES[k]
    begun = time.process_time()
    explainer = xlens.fit(every.about(name), seen, "infill", seed=seed, progress=False)
    fitting = time.process_time() - begun
    rows = (has[:, k] & (logits[:, k] > 0)).nonzero()[:count, 0]
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xlens.errors.UntrustworthyWarning)
        found = explainer.explain(unseen[rows], target=name, contrast=f"no {name}", attributions=())
    explaining = (time.process_time() - begun) / max(1, len(rows))
    others = torch.stack(list(found.other_labels.values()), 1)  # (N, 3, 2)
    moved = (others[..., 1] - others[..., 0]).abs()
    turned = (others[..., 0] > 0.5) != (others[..., 1] > 0.5)
    flips = found.fidelity.flips
    alone = flips & ~turned.any(1)
    area = found.mask.flatten(1).mean(1)[flips]
    appears = turned & (others[..., 1] > 0.5)
    more, less = (part[flips].float().mean(0).tolist() for part in (appears, turned & ~appears))
    which = [f"{other} +{more[i]:.2f} -{less[i]:.2f}" for i, other in enumerate(found.other_labels)]
    return [
        name,
        f"{area_under_curve(logits[:, k], has[:, k]):.3f}",
        str(len(rows)),
        f"{float(flips.float().mean()):.2f}",
        f"{float(alone.float().mean()):.2f}",
        f"{float(found.trustworthy.float().mean()):.2f}",
        f"{float(moved[flips].mean()):.3f}",
        ", ".join(which),
        f"{float(area.median()):.3f}" if len(area) else "-",
        f"{fitting:.0f} / {explaining:.1f}",
    ]


HEAD = (
    "disease",
    "AUC, unseen",
    "explained",
    "flips",
    "flips alone",
    "trustworthy",
    "others move, mean",
    "others that appear (+), vanish (-), of flips",
    "area, median",
    "CPU s: fit / leaf",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--leaves", type=int, default=30, help="explained of each disease, at most")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    split = leaves(chosen.data, chosen.seed)
    seen, unseen = (images(chosen.data, "leaf", names, SIDE) for names in (split.of_classifier, split.of_judges))
    has = diseases(chosen.data, split.of_judges)
    net = trained(seen, diseases(chosen.data, split.of_classifier), chosen.seed)
    every = xlens.Classifier(net, outputs="multilabel", labels=DISEASES)
    with every.frozen(), torch.no_grad():
        logits = torch.cat([every(part) for part in unseen.split(64)])
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for k in range(len(DISEASES)):
        row = row_of(every, k, seen, unseen, logits, has, chosen.leaves, chosen.seed)
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
