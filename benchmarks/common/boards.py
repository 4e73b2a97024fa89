"""Crops of printed circuit boards with drawn defects and the same place without them, and a classifier of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.common.cache import CACHE

SIDE, WHOLE = 160, 320
#: The classifier is trained on mirrored, turned crops of this side; it takes images of any.
TRAINED = 96
#: Steps of the training, and of the cycle of its learning rate, which it does not go through to the end.
STEPS, CYCLE = 1150, 1400


@dataclass
class Boards:
    """IDs of pairs by role; a board, the first five digits of an ID, has one role."""

    folder: Path
    of_classifier: list[str]
    development: list[str]
    held_out: list[str]


def boards(folder: Path) -> Boards:
    """Return who is trained on what; `folder` holds ID_test.png, ID_temp.png and ID.txt."""
    names = sorted(p.stem.removesuffix("_test") for p in folder.glob("*_test.png"))
    names = [name for name in names if (folder / f"{name}.txt").exists()]
    rank = {board: i % 4 for i, board in enumerate(sorted({name[:5] for name in names}))}
    roles = [[name for name in names if rank[name[:5]] in part] for part in ((0, 1), (2,), (3,))]
    return Boards(folder, *roles)


@cache
def pair(folder: Path, name: str) -> Tensor:
    """Return the template and the board with defects, ``(2, 320, 320)`` bool."""
    found = [np.array(Image.open(folder / f"{name}_{kind}.png").convert("L")) > 127 for kind in ("temp", "test")]
    return torch.from_numpy(np.stack(found))


@cache
def boxes(folder: Path, name: str) -> Tensor:
    """Return the boxes of the defects ``(n, 4)``: left, top, right, bottom in pixels of the pair."""
    lines = (folder / f"{name}.txt").read_text().split("\n")
    rows = [[float(value) / 2 for value in line.split()[:4]] for line in lines if line.strip()]
    return torch.tensor(rows).reshape(-1, 4)


@dataclass
class Crops:
    """What is explained: crops with defects, the same places without them, and the boxes of the defects."""

    inputs: Tensor
    templates: Tensor
    boxed: Tensor


def crops(folder: Path, names: list[str]) -> Crops:
    """Return one crop of each pair, around one of its defects; which one and how far off is decided by its ID."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for name in names:
        rows = boxes(folder, name)
        if not len(rows):
            continue
        code = int(hashlib.md5(name.encode()).hexdigest(), 16)
        x0, y0, x1, y1 = rows[code % len(rows)].tolist()
        shift = [code // 101 % 81 - 40, code // 9973 % 81 - 40]
        left, top = (
            int(np.clip(centre - SIDE / 2 + off, 0, WHOLE - SIDE))
            for centre, off in zip(((x0 + x1) / 2, (y0 + y1) / 2), shift, strict=True)
        )
        both = pair(folder, name)[:, top : top + SIDE, left : left + SIDE].float()
        found.append((both[1:], both[:1], _boxed(rows, left, top)))
    return Crops(*(torch.stack(part) for part in zip(*found, strict=True)))


def _boxed(rows: Tensor, left: int, top: int) -> Tensor:
    mask = torch.zeros(1, WHOLE, WHOLE, dtype=torch.bool)
    for x0, y0, x1, y1 in rows.tolist():
        mask[:, int(y0) : int(np.ceil(y1)) + 1, int(x0) : int(np.ceil(x1)) + 1] = True
    return mask[:, top : top + SIDE, left : left + SIDE]


class Seer(nn.Module):
    """Convolutions, and the strongest answer of each filter anywhere; takes images of any size in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (24, 32, 64, 64, 128)
        layers: list[nn.Module] = [nn.Conv2d(1, widths[0], 5, 2, 2)]
        for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
            layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, after, 3, 2 if i in (1, 3) else 1, 1)]
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(widths[-1]), nn.ReLU())
        self.head = nn.Linear(widths[-1], 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.features(inputs * 2 - 1).amax((2, 3)))


def classifier(data: Boards, seed: int) -> Seer:
    """Return the classifier, trained where it is not in the cache: is there a defect?"""
    path = CACHE / f"boards-{seed}.safetensors"
    torch.manual_seed(seed)
    net = Seer()
    if path.exists():
        net.load_state_dict(load_file(path))
    else:
        _train(net, data, seed)
        CACHE.mkdir(exist_ok=True)
        save_file(net.state_dict(), path)
    return net.eval().requires_grad_(False)


def _train(net: Seer, data: Boards, seed: int) -> None:
    draw = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, CYCLE)
    net.train()
    for _ in range(STEPS):
        both = torch.cat([_drawn(data, draw, TRAINED) for _ in range(16)])
        labels = torch.tensor([0, 1]).repeat(16)
        loss = F.cross_entropy(net(both), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()


def _drawn(data: Boards, draw: np.random.Generator, side: int) -> Tensor:
    """Return a random place without and with its defects ``(2, 1, side, side)``, turned at random."""
    name = data.of_classifier[draw.integers(len(data.of_classifier))]
    rows = boxes(data.folder, name)
    x0, y0, x1, y1 = rows[draw.integers(len(rows))].tolist()
    room = side / 2 - 14
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + draw.uniform(-room, room, 2)
    left, top = np.clip(centre - side / 2, 0, WHOLE - side).astype(int)
    both = pair(data.folder, name)[:, None, top : top + side, left : left + side].float()
    both = both.rot90(int(draw.integers(4)), (2, 3))
    return both.flip(3) if draw.integers(2) else both


@torch.no_grad()
def right(net: nn.Module, found: Crops) -> tuple[float, float]:
    """Return the share of templates called free of defects, and of defects seen."""
    free, seen = (torch.cat([net(p).argmax(1) for p in x.split(32)]) for x in (found.templates, found.inputs))
    return float((free == 0).float().mean()), float((seen == 1).float().mean())
