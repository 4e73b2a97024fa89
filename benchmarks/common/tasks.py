"""Data sets of the benchmarks: real images, and real images with a planted cause."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from xlens.datasets import load_images, parts, plant, read_idx
from xlens.datasets.planted import Cause

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


def digits() -> Task:
    """All ten of scikit-learn's digits, 8x8: 1,347 for training, every fourth of the 1,797 for the test."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32).div(16).unsqueeze(1)
    labels = torch.tensor(found.target)
    held = torch.arange(len(labels)) % 4 == 0
    names = tuple(map(str, range(10)))
    return Task("digits", names, images[~held], labels[~held], images[held], labels[held])


def easy() -> Task:
    """Fashion-MNIST, T-shirt (0) against trouser (1): 12,000 training and 2,000 test images."""
    whole = fashion()
    seen, held = whole.train_labels < 2, whole.test_labels < 2
    parts = (whole.train[seen], whole.train_labels[seen], whole.test[held], whole.test_labels[held])
    return Task("easy", whole.class_names[:2], *parts)


def planted(seed: int, cause: Cause = "blob") -> Task:
    """Fashion-MNIST, all ten classes, half of the images with a soft cause at a random place in the object."""
    generator = torch.Generator().manual_seed(seed)
    halves = []
    for split, count in (("train", 16000), ("t10k", 4000)):
        images = read_idx(FASHION / f"{split}-images-idx3-ubyte.gz").float().div(255).unsqueeze(1)
        clean = images[torch.randperm(len(images), generator=generator)[:count]]
        labels = (torch.rand(count, generator=generator) < 0.5).long()
        caused, masks, _ = plant(clean, cause, generator)
        positive = labels.bool()[:, None, None, None]
        halves.append((torch.where(positive, caused, clean), labels, masks & positive, clean))
    (train, train_labels, _, _), (test, test_labels, masks, clean) = halves
    name = "planted" if cause == "blob" else f"planted-{cause}"
    return Task(name, ("clean", cause), train, train_labels, test, test_labels, masks, clean)


def cups(seed: int) -> Task:
    """Rendered cups without (0) and with a handle (1): 8,000 training and 2,000 test images."""
    train, test = parts(8000, seed=2 * seed), parts(2000, seed=2 * seed + 1)
    seen = (train.images, train.labels)
    return Task("cups", ("plain", "handle"), *seen, test.images, test.labels, test.masks, test.clean)


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
