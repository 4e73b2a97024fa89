"""Data sets that have little in common: strokes, garments, photographs and boards; two classes to ten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.common.tasks import Task, digits, fashion
from xlens.datasets import leaves

__all__ = ["UNLIKE", "task_of"]

_ROWS, _HELD = 8500, 1000
_KINDS = ("none", "open", "short", "mousebite", "spur", "copper", "pin-hole")


def _strokes() -> Task:
    """The ten digits, enlarged to 28 pixels and turned, scaled and shifted at random: thin and mostly black."""
    small, generator = digits(), torch.Generator().manual_seed(0)
    train = _drawn(small.train, small.train_labels, _ROWS, generator)
    test = _drawn(small.test, small.test_labels, _HELD, generator)
    return Task("strokes", small.class_names, *train, *test)


def _drawn(images: Tensor, labels: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    chosen = torch.randint(len(images), (n,), generator=generator)
    angle = 0.4 * (torch.rand(n, generator=generator) - 0.5)
    size = 1.25 + 0.3 * (torch.rand(n, generator=generator) - 0.5)
    shift = 0.3 * (torch.rand(n, 2, generator=generator) - 0.5)
    across = torch.stack([size * angle.cos(), -size * angle.sin(), shift[:, 0]], 1)
    down = torch.stack([size * angle.sin(), size * angle.cos(), shift[:, 1]], 1)
    large = F.interpolate(images[chosen], size=(28, 28), mode="bicubic").clamp(0, 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(large.shape), align_corners=False)
    moved = F.grid_sample(large, grid, align_corners=False)
    # Sharpened, as enlarging has blurred them.
    return ((moved - 0.25) / 0.5).clamp(0, 1), labels[chosen]


def _garments() -> Task:
    whole = fashion()
    train, test = slice(_ROWS), slice(_HELD)
    parts = (whole.train[train], whole.train_labels[train], whole.test[test], whole.test_labels[test])
    return Task("garments", whole.class_names, *parts)


def _leaves() -> Task:
    found = leaves()
    train, test = (F.interpolate(part, size=(64, 64), mode="area") for part in (found.train, found.test))
    return Task("leaves", found.class_names, train, found.train_labels, test, found.test_labels)


def _boards(folder: Path) -> Task:
    """Circuit boards, one bit a pixel: 28 pixels around a defect of six kinds, or the same place without it."""
    generator = torch.Generator().manual_seed(0)
    names = sorted(path.stem for path in (folder / "deeppcb").glob("*.txt"))
    names = [name for name in names if (folder / "deeppcb" / f"{name}_test.png").exists()]
    held = set(sorted({name[:5] for name in names})[::4])
    parts: list[Tensor] = []
    for side, most in ((False, _ROWS), (True, _HELD)):
        crops, kinds = [], []
        for name in names[::2]:
            if (name[:5] in held) == side:
                for crop, kind in _crops(folder / "deeppcb", name, generator):
                    crops.append(crop)
                    kinds.append(kind)
        order = torch.randperm(len(crops), generator=generator)[:most]
        parts += [torch.stack(crops)[order, None], torch.tensor(kinds)[order]]
    return Task("boards", _KINDS, *parts)


def _crops(folder: Path, name: str, generator: torch.Generator) -> list[tuple[Tensor, int]]:
    faulty, clean = (
        torch.from_numpy(np.array(Image.open(folder / f"{name}_{which}.png").convert("L"))).float() / 255
        for which in ("test", "temp")
    )
    found = []
    for line in (folder / f"{name}.txt").read_text().splitlines():
        values = [int(value) for value in line.replace(",", " ").split()]
        if len(values) != 5:
            continue
        moved = torch.randint(-4, 5, (2,), generator=generator).tolist()
        # Places are given in coordinates of 640 pixels, and their middle is wanted: a quarter of the sum.
        middle = ((values[0] + values[2]) // 4 + moved[0], (values[1] + values[3]) // 4 + moved[1])
        x, y = (min(max(place - 14, 0), faulty.shape[0] - 28) for place in middle)
        found.append((faulty[y : y + 28, x : x + 28], values[4]))
        if float(torch.rand((), generator=generator)) < 0.3:
            found.append((clean[y : y + 28, x : x + 28], 0))
    return found


UNLIKE = ("digits", "strokes", "garments", "leaves", "boards")


def task_of(name: str, folder: Path) -> Task:
    """Return the data of that name; `folder` holds deeppcb/, for the boards alone."""
    if name == "boards":
        return _boards(folder)
    return {"digits": digits, "strokes": _strokes, "garments": _garments, "leaves": _leaves}[name]()
