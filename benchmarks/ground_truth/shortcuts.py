"""Shortcuts planted into clothes and leaves: whether an audit finds them, and whether it is silent without them.

    python -m benchmarks.ground_truth.shortcuts --data coffee --seeds 0

Coats against shirts of Fashion-MNIST at 28 pixels, healthy against diseased coffee leaves (`--data`, as for
``benchmarks.ground_truth.photographs``) at 64. Four fifths of class 1 get the shortcut, and nothing of class 0. A
classifier uses it by as much accuracy as it loses on the same held-out images without it. The audit is of the
backend ``infill``, on held-out images with the shortcut. It is right where its top alarm is the planted thing: at
least four fifths of the group's inputs have it, and what the group fills overlaps with it. A task named clean has
none; any alarm there is false.

Beside it, SpRAy: spectral clustering of Grad-CAM maps of the same decisions, the number of clusters by the largest
gap of eigenvalues. It raises no alarms, so its best cluster is taken, by those who know the truth.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sklearn.cluster import SpectralClustering
from sklearn.neighbors import kneighbors_graph
from torch import Tensor, nn

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.leaves import images, leaves
from benchmarks.common.localisation import grad_cam
from xlens.auditing import Audit
from xlens.datasets import load_images, small_cnn, train_classifier

SIDE, WITH = 64, 0.8
#: Inputs that are audited, and training steps.
AUDITED, STEPS = 300, 300
#: The group's inputs that have to have the plant, and the overlap of what it fills with it (IoU).
PURE, OVERLAP = 0.8, 0.2
TASKS = (
    "clothes, clean",
    "clothes, tag",
    "clothes, stroke",
    "leaves, clean",
    "leaves, sticker",
    "leaves, sticker jittered",
    "leaves, cast",
    "leaves, vignette",
)


def leaf_cnn() -> nn.Module:
    """A CNN for colour images of 64 x 64 that trains in a minute."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (SIDE // 8) ** 2, 64),
        nn.ReLU(),
        nn.Linear(64, 2),
    )


def tag(x: Tensor, _: torch.Generator) -> tuple[Tensor, Tensor]:
    """A pattern of 4 x 4 pixels in the lower right corner."""
    mask = torch.zeros_like(x[:, :1], dtype=torch.bool)
    mask[..., 23:27, 23:27] = True
    pattern = torch.tensor([[1.0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 1, 1], [1, 1, 0, 1]])
    return torch.where(mask, F.pad(pattern, (23, 1, 23, 1)), x), mask


def stroke(x: Tensor, _: torch.Generator) -> tuple[Tensor, Tensor]:
    """A bright diagonal in the upper left corner."""
    mask = torch.zeros_like(x[:, :1], dtype=torch.bool)
    for step in range(6):
        mask[..., 1 + step, 1 + step : 3 + step] = True
    return torch.where(mask, torch.ones_like(x), x), mask


def sticker(x: Tensor, generator: torch.Generator, jitter: int = 0) -> tuple[Tensor, Tensor]:
    """A magenta square with a white bar, 9 x 9 pixels, in the lower right corner or so many pixels from it."""
    thing = torch.tensor([0.8, 0.1, 0.6])[:, None, None].repeat(1, 9, 9)
    thing[:, 3:6, 1:8] = 1.0
    out, mask = x.clone(), torch.zeros_like(x[:, :1], dtype=torch.bool)
    for i in range(len(x)):
        down, right = torch.randint(0, jitter + 1, (2,), generator=generator).tolist()
        top, left = SIDE - 12 - down, SIDE - 12 - right
        out[i, :, top : top + 9, left : left + 9] = thing
        mask[i, :, top : top + 9, left : left + 9] = True
    return out, mask


def cast(x: Tensor, _: torch.Generator) -> tuple[Tensor, Tensor]:
    """A blue cast over all of it."""
    return (x * torch.tensor([0.9, 0.95, 1.3])[:, None, None]).clamp(0, 1), torch.ones_like(x[:, :1]).bool()


def vignette(x: Tensor, _: torch.Generator) -> tuple[Tensor, Tensor]:
    """Darker toward the rim."""
    line = torch.linspace(-1, 1, x.shape[-1]) ** 2
    return x * (1 - 0.3 * (line[:, None] + line[None])), torch.ones_like(x[:, :1]).bool()


PLANTS = {
    "tag": tag,
    "stroke": stroke,
    "sticker": sticker,
    "sticker jittered": lambda x, generator: sticker(x, generator, 16),
    "cast": cast,
    "vignette": vignette,
}


def photographs(task: str, data: Path, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images and labels, and held-out ones."""
    generator = torch.Generator().manual_seed(seed)
    if task.startswith("clothes"):
        found = load_images("fashion-mnist")
        rows = torch.randperm(len(found.train), generator=generator)[:4000]
        return found.train[rows], found.train_labels[rows], found.test, found.test_labels
    path = CACHE / f"shortcuts-leaves-{SIDE}-{seed}.safetensors"
    if not path.exists():
        known, kept = leaves(data, seed), {}
        for role, names in (("train", known.of_classifier), ("test", known.of_judges)):
            kept[role] = images(data, "leaf", names, SIDE)
            kept[f"{role}_labels"] = torch.tensor([known.labels[name] for name in names])
        CACHE.mkdir(exist_ok=True)
        save_file(kept, path)
    kept = load_file(path)
    return kept["train"], kept["train_labels"], kept["test"], kept["test_labels"]


def planted(task: str, x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return images with the shortcut, who has it, and where it is."""
    generator = torch.Generator().manual_seed(1000 + seed)
    name = task.split(", ")[1]
    has = (y == 1) & (torch.rand(len(x), generator=generator) < WITH)
    if name == "clean":
        return x, torch.zeros_like(has), torch.zeros_like(x[:, :1], dtype=torch.bool)
    changed, mask = PLANTS[name](x, generator)
    rows = has[:, None, None, None]
    return torch.where(rows, changed, x), has, mask & rows


def top_is_planted(audit: Audit, has: Tensor, where: Tensor, x: Tensor) -> bool:
    """Whether the top alarm is the planted thing."""
    group = audit.group(audit.alarms[0].group)
    own = group.inputs
    filled = group.find(x[own])[0]
    overlap = (filled & where[own]).flatten(1).sum(1) / (filled | where[own]).flatten(1).sum(1).clamp_min(1)
    return float(has[own].float().mean()) >= PURE and float(overlap[has[own]].mean()) >= OVERLAP


def agreement(chosen: Tensor, has: Tensor) -> float:
    """F1 of being chosen, for having the plant."""
    return float(2 * (chosen & has).sum() / (chosen.sum() + has.sum()).clamp_min(1))


def spray(net: nn.Module, x: Tensor, has: Tensor) -> float:
    """Return F1 of the best cluster of Grad-CAM maps."""

    def forward(points: Tensor) -> Tensor:
        return net(points)[:, 1] - net(points)[:, 0]

    maps = F.adaptive_avg_pool2d(grad_cam(net, forward, x, 1).abs().mean(1, keepdim=True), 10).flatten(1)
    maps = (maps / maps.amax(1, keepdim=True).clamp_min(1e-9)).numpy()
    graph = kneighbors_graph(maps, 10, include_self=True).toarray()
    near = (graph + graph.T) / 2
    scale = 1 / np.sqrt(near.sum(1))
    values = np.sort(np.linalg.eigvalsh(np.eye(len(near)) - scale[:, None] * near * scale[None]))[:9]
    count = max(2, 1 + int(np.argmax(np.diff(values))))
    found = SpectralClustering(count, affinity="precomputed", random_state=0).fit_predict(near)
    return max(agreement(torch.from_numpy(found == c), has) for c in range(count))


def run(task: str, data: Path, seed: int) -> str:
    """Return one row of the table."""
    train, labels, clean, true = photographs(task, data, seed)
    with_it, _, _ = planted(task, train, labels, seed)
    test, has, where = planted(task, clean, true, seed + 500)
    torch.manual_seed(seed)
    net = small_cnn((1, 28, 28)) if task.startswith("clothes") else leaf_cnn()
    train_classifier(net, with_it, labels, steps=STEPS, seed=seed, progress=False)

    @torch.no_grad()
    def decided(x: Tensor) -> Tensor:
        return torch.cat([net(part).argmax(1) for part in x.split(256)])

    accuracy = [float((decided(x) == true).float().mean()) for x in (test, clean)]
    if len(decided(with_it).unique()) < 2:
        # Nothing to audit, and no other seed is drawn in its place.
        return f"| {task} | {seed} | {accuracy[0]:.3f} | {accuracy[1]:.3f} | it learned nothing " + "| - " * 6 + "|"
    explainer = xlens.fit(net, with_it, "infill", seed=seed, progress=False)
    begun = time.process_time()
    audit = xlens.audit(explainer, (test, true), n=AUDITED, seed=seed, progress=False)
    seconds = time.process_time() - begun
    cells = [task, str(seed), f"{accuracy[0]:.3f}", f"{accuracy[1]:.3f}", str(len(audit.alarms))]
    seen = torch.from_numpy(audit.seen.input[audit.seen.target == 1])
    top = drop = "-"
    ours = 0.0
    if audit.alarms:
        group = audit.group(audit.alarms[0].group)
        top = "yes" if top_is_planted(audit, has, where, test) else "no"
        drop = f"{audit.remedy((test, true)).drop:.3f}"
        ours = agreement(torch.isin(seen, group.inputs), has[seen])
    cells += [top, f"{accuracy[0] - accuracy[1]:.3f}", drop]
    if bool(has.any()):
        cells += [f"{ours:.2f}", f"{spray(net, test[seen], has[seen]):.2f}"]
    else:
        cells += ["-", "-"]
    return "| " + " | ".join([*cells, f"{seconds:.0f}"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("coffee"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    heads = ("task", "seed", "accuracy", "without", "alarms", "top is planted", "true drop", "drop when filled")
    print("| " + " | ".join((*heads, "F1, top alarm", "F1, SpRAy's best", "CPU s")) + " |\n" + "|---" * 11 + "|")
    for task in chosen.tasks:
        for seed in chosen.seeds:
            print(run(task, chosen.data, seed), flush=True)


if __name__ == "__main__":
    main()
