"""Shortcuts planted into clothes and leaves: whether an audit finds them, and whether it is silent without them.

    python -m benchmarks.ground_truth.shortcuts --data coffee --seeds 0

Coats against shirts of Fashion-MNIST at 28 pixels, healthy against diseased coffee leaves (`--data`, as for
``benchmarks.ground_truth.photographs``) at 64. A share of class 1 gets the shortcut (`--shares`), and none of class
0. A classifier uses it by as much accuracy as it loses on the same held-out images without it. The audit is of
the backend ``infill``, on held-out images with the shortcut. It is right where its top alarm is the planted thing:
at least four fifths of the group's inputs have it, and what the group fills overlaps with it. A clean task has
none; any alarm there is false. Tone is what the audit tells of whole images: kind, effect.

Beside it, by maps of the same decisions: SpRAy, spectral clustering of Grad-CAM and of integrated gradients (zeros
as baseline), the number of clusters by the largest gap of eigenvalues; and the mean map, of which the brightest
tenth is compared with where the thing was planted (overlap, IoU), beside what the top alarm fills. None raises
alarms, so the best cluster is taken, by those who know the truth. The last line says how well the drop of accuracy
that the remedy of all alarms and tones estimates goes with the true one, over the rows of the call.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients
from PIL import Image, ImageDraw
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

SIDE = 64
#: Inputs that are audited, and training steps.
AUDITED, STEPS = 300, 300
#: The group's inputs that have to have the plant, and the overlap of what it fills with it (IoU).
PURE, OVERLAP = 0.8, 0.2
#: What is brighter is clothes.
BLACK = 0.02
TASKS = (
    "clothes, clean",
    "clothes, tag",
    "clothes, stroke",
    "leaves, clean",
    "leaves, sticker",
    "leaves, sticker jittered",
    "leaves, stamp",
    "leaves, cast",
    "leaves, vignette",
)


def leaf_cnn(classes: int = 2) -> nn.Module:
    """A CNN for colour images of 64 x 64 that trains in a minute.

    Normalised, as without that some seeds put every leaf into one class.
    """
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (SIDE // 8) ** 2, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
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


def stamp(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A camera's date in orange in the lower left corner, another one in every image."""
    out, mask = x.clone(), torch.zeros_like(x[:, :1], dtype=torch.bool)
    for i in range(len(x)):
        day, month = (int(torch.randint(1, most + 1, (1,), generator=generator)) for most in (28, 12))
        picture = Image.new("L", (SIDE, SIDE))
        ImageDraw.Draw(picture).text((2, SIDE - 13), f"{day:02d}.{month:02d}", fill=255)
        there = torch.from_numpy(np.array(picture) > 127)
        out[i, :, there] = torch.tensor([1.0, 0.6, 0.1])[:, None]
        mask[i, :, SIDE - 11 : SIDE - 2, 2:32] = True
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
    "stamp": stamp,
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


def planted(task: str, x: Tensor, y: Tensor, seed: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return images with the shortcut, who has it, and where it is."""
    generator = torch.Generator().manual_seed(1000 + seed)
    name = task.split(", ")[1]
    has = (y == 1) & (torch.rand(len(x), generator=generator) < share)
    if name == "clean":
        return x, torch.zeros_like(has), torch.zeros_like(x[:, :1], dtype=torch.bool)
    changed, mask = PLANTS[name](x, generator)
    rows = has[:, None, None, None]
    return torch.where(rows, changed, x), has, mask & rows


def filled_and_planted(audit: Audit, has: Tensor, where: Tensor, x: Tensor) -> tuple[float, float]:
    """Return the share of the top alarm's inputs that have the planted thing, and the overlap with it (IoU)."""
    group = audit.group(audit.alarms[0].group)
    own = group.inputs
    filled = group.find(x[own])[0]
    overlap = (filled & where[own]).flatten(1).sum(1) / (filled | where[own]).flatten(1).sum(1).clamp_min(1)
    pure = float(has[own].float().mean())
    return pure, float(overlap[has[own]].mean()) if pure else 0.0


def agreement(chosen: Tensor, has: Tensor) -> float:
    """F1 of being chosen, for having the plant."""
    return float(2 * (chosen & has).sum() / (chosen.sum() + has.sum()).clamp_min(1))


def maps_of(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return heat maps ``(N, 1, H, W)`` of decisions for class 1, by name."""

    def forward(points: Tensor) -> Tensor:
        scores = net(points)
        return scores[:, 1] - scores[:, 0]

    gradients = [IntegratedGradients(forward).attribute(part, n_steps=16) for part in x.split(64)]
    found = {"Grad-CAM": grad_cam(net, forward, x, 1), "IG": torch.cat(gradients)}
    return {name: values.detach().abs().mean(1, keepdim=True) for name, values in found.items()}


def spray(maps: Tensor, has: Tensor) -> float:
    """Return F1 of the best cluster of heat maps."""
    small = F.adaptive_avg_pool2d(maps, 10).flatten(1)
    points = (small / small.amax(1, keepdim=True).clamp_min(1e-9)).numpy()
    graph = kneighbors_graph(points, 10, include_self=True).toarray()
    near = (graph + graph.T) / 2
    scale = 1 / np.sqrt(near.sum(1))
    values = np.sort(np.linalg.eigvalsh(np.eye(len(near)) - scale[:, None] * near * scale[None]))[:9]
    count = max(2, 1 + int(np.argmax(np.diff(values))))
    found = SpectralClustering(count, affinity="precomputed", random_state=0).fit_predict(near)
    return max(agreement(torch.from_numpy(found == c), has) for c in range(count))


def mean_map(maps: Tensor, where: Tensor) -> float:
    """Return the overlap (IoU) of the mean map's brightest tenth with the mean place of the thing."""
    mean, often = maps.mean((0, 1)), where.float().mean((0, 1))
    usual = often >= 0.5 * often.max()
    bright = mean >= mean.flatten().quantile(0.9)
    return float((bright & usual).sum() / (bright | usual).sum())


def run(task: str, data: Path, seed: int, share: float, masked: bool) -> tuple[str, tuple[float, float] | None]:
    """Return one row of the table, and the true and the estimated drop where there is an audit."""
    train, labels, clean, true = photographs(task, data, seed)
    with_it, _, _ = planted(task, train, labels, seed, share)
    test, has, where = planted(task, clean, true, seed + 500, share)
    torch.manual_seed(seed)
    net = small_cnn((1, 28, 28)) if task.startswith("clothes") else leaf_cnn()
    train_classifier(net, with_it, labels, steps=STEPS, seed=seed, progress=False)
    net.eval()

    @torch.no_grad()
    def decided(x: Tensor) -> Tensor:
        return torch.cat([net(part).argmax(1) for part in x.split(256)])

    right, besides = (float((decided(x) == true).float().mean()) for x in (test, clean))
    cells = [task, f"{share:.1f}", str(seed), f"{right:.3f}", f"{besides:.3f}"]
    if len(decided(with_it).unique()) < 2:
        # Nothing to audit, and no other seed is drawn in its place.
        return "| " + " | ".join([*cells, "it learned nothing", *["-"] * (len(HEADS) - 6)]) + " |", None
    explainer = xlens.fit(net, with_it, "infill", seed=seed, progress=False)
    begun = time.process_time()
    objects = clean.amax(1, keepdim=True) > BLACK if masked and task.startswith("clothes") else None
    audit = xlens.audit(explainer, (test, true), masks=objects, n=AUDITED, seed=seed, progress=False)
    seconds = time.process_time() - begun
    seen = torch.from_numpy(audit.seen.input[audit.seen.target == 1])
    top, ours, overlap, drop, words = "-", 0.0, 0.0, 0.0, "-"
    if audit.alarms:
        group = audit.group(audit.alarms[0].group)
        pure, overlap = filled_and_planted(audit, has, where, test)
        top = "yes" if pure >= PURE and overlap >= OVERLAP else "no"
        ours = agreement(torch.isin(seen, group.inputs), has[seen])
        words = f"{group.p_place:.3f}, {group.template.p:.3f}"
    told = [one for one in audit.tones if one.target == audit.fitted.class_names[1]]
    if audit.alarms or told:
        drop = audit.remedy((test, true), [*(alarm.group for alarm in audit.alarms), *told]).drop
    tones = [f"{one.kind} {one.effect:.2f}" for one in told]
    cells += [", ".join(tones) or "-", str(len(audit.alarms)), top, words, f"{right - besides:.3f}", f"{drop:.3f}"]
    if bool(has.any()):
        maps = maps_of(net, test[seen])
        cells += [f"{ours:.2f}", *(f"{spray(one, has[seen]):.2f}" for one in maps.values())]
        own = has[seen]
        cells += [f"{overlap:.2f}", *(f"{mean_map(one[own], where[seen][own]):.2f}" for one in maps.values())]
    else:
        cells += ["-"] * 6
    return "| " + " | ".join([*cells, f"{seconds:.0f}"]) + " |", (right - besides, drop)


HEADS = (
    "task",
    "share",
    "seed",
    "accuracy",
    "without",
    "tone",
    "alarms",
    "top is planted",
    "p: place, same",
    "true drop",
    "drop when filled",
    "F1, top alarm",
    "SpRAy, Grad-CAM",
    "SpRAy, IG",
    "IoU, top alarm",
    "mean Grad-CAM",
    "mean IG",
    "CPU s",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("coffee"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.8], help="of class 1 that has the thing")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--masks", action="store_true", help="say where the clothes are")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| " + " | ".join(HEADS) + " |\n" + "|---" * len(HEADS) + "|")
    drops = []
    for task in chosen.tasks:
        for share in chosen.shares if not task.endswith("clean") else [0.0]:
            for seed in chosen.seeds:
                row, pair = run(task, chosen.data, seed, share, chosen.masks)
                print(row, flush=True)
                drops += [pair] if pair is not None and share else []
    if len(drops) > 2:
        true, estimated = np.array(drops).T
        found = np.corrcoef(true, estimated)[0, 1]
        print(f"\nTrue drop and drop when filled, {len(drops)} rows: correlation {found:.3f}")


if __name__ == "__main__":
    main()
