"""Data sets of the benchmarks: real images, and real images with a planted cause."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.demo import load_images, read_idx

FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass
class Task:
    """A task; where it is binary, class 1 is the positive class, the one whose evidence is taken away."""

    name: str
    class_names: tuple[str, ...]
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    #: ``(n, 1, H, W)`` where the cause is, and the images before it was planted; None where unknown.
    test_masks: Tensor | None = None
    test_clean: Tensor | None = None


def pair() -> Task:
    """Fashion-MNIST, coat (0) against shirt (1): 12,000 training and 2,000 test images."""
    images = load_images("fashion-mnist")
    return Task("pair", images.class_names, images.train, images.train_labels, images.test, images.test_labels)


def fashion() -> Task:
    """Fashion-MNIST, all ten classes: 60,000 training and 10,000 test images."""
    names = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
    parts: list[Tensor] = []
    for split in ("train", "t10k"):
        parts.append(read_idx(FASHION / f"{split}-images-idx3-ubyte.gz").float().div(255).unsqueeze(1))
        parts.append(read_idx(FASHION / f"{split}-labels-idx1-ubyte.gz").long())
    return Task("fashion", names, *parts)


def easy() -> Task:
    """Fashion-MNIST, T-shirt (0) against trouser (1): 12,000 training and 2,000 test images."""
    whole = fashion()
    seen, held = whole.train_labels < 2, whole.test_labels < 2
    parts = (whole.train[seen], whole.train_labels[seen], whole.test[held], whole.test_labels[held])
    return Task("easy", whole.class_names[:2], *parts)


def planted(seed: int) -> Task:
    """Fashion-MNIST, all ten classes, half of the images with a soft blob at a random place in the object."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for split, count in (("train", 16000), ("t10k", 4000)):
        images = read_idx(FASHION / f"{split}-images-idx3-ubyte.gz").float().div(255).unsqueeze(1)
        clean = images[torch.randperm(len(images), generator=generator)[:count]]
        labels = (torch.rand(count, generator=generator) < 0.5).long()
        blobs, masks = plant_blobs(clean, generator)
        positive = labels.bool()[:, None, None, None]
        parts.append((torch.where(positive, blobs, clean), labels, masks & positive, clean))
    (train, train_labels, _, _), (test, test_labels, masks, clean) = parts
    return Task("planted", ("clean", "blob"), train, train_labels, test, test_labels, masks, clean)


def plant_blobs(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Add a Gaussian blob toward the opposite tone, centred inside each object.

    Its strength is .45 to .8, its standard deviation 1.4 to 2.4 pixels; the mask is where the Gaussian exceeds .3.
    """
    n, _, height, width = images.shape
    inside = (images[:, 0] > 0.25).float()
    eroded = -F.max_pool2d(-inside[:, None], 5, 1, 2)[:, 0]
    places = torch.where(eroded.flatten(1).sum(1, keepdim=True) > 0, eroded.flatten(1), inside.flatten(1) + 1e-6)
    centre = torch.multinomial(places, 1, generator=generator)[:, 0]
    rows, columns = (centre // width).float(), (centre % width).float()
    sigma = 1.4 + torch.rand(n, generator=generator)
    strength = 0.45 + 0.35 * torch.rand(n, generator=generator)
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    squared = (y - rows[:, None, None]).square() + (x - columns[:, None, None]).square()
    blob = torch.exp(-squared / (2 * sigma[:, None, None].square()))[:, None]
    tone = (images * blob).sum((1, 2, 3)) / blob.sum((1, 2, 3))
    sign = torch.where(tone > 0.5, -1.0, 1.0)
    planted_images = (images + (sign * strength)[:, None, None, None] * blob).clamp(0, 1)
    return planted_images, blob > 0.3


def solar(size: int = 64) -> Task:
    """ELPV solar cells, functional (0) against certainly defective (1); 3 of 4 cells for training.

    Module ids are not published, so cells of one module may lie on both sides of the split.
    """
    try:
        from elpv_dataset.utils import load_dataset
    except ImportError:
        raise SystemExit("this benchmark needs: pip install elpv-dataset (licence CC BY-NC-SA 4.0)") from None
    images, probability, _ = load_dataset()
    certain = (probability < 0.1) | (probability > 0.9)
    images = torch.from_numpy(np.ascontiguousarray(images[certain])).float().div(255).unsqueeze(1)
    images = F.interpolate(images, (size, size), mode="area")
    labels = torch.from_numpy((probability[certain] > 0.9).astype(np.int64))
    held = torch.rand(len(images), generator=torch.Generator().manual_seed(0)) < 0.25
    return Task("solar", ("functional", "defective"), images[~held], labels[~held], images[held], labels[held])
