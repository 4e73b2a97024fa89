"""Small real data sets and classifiers for examples, tests and the demonstration."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from xlens.data import as_data
from xlens.errors import DataError
from xlens.training.stream import BatchStream

__all__ = ["Images", "load_images", "read_idx", "small_cnn", "train_classifier"]

_FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Images:
    """Images of two classes, split into train and test.

    Args:
        train, test: ``(n, C, H, W)`` in [0, 1].
        train_labels, test_labels: ``(n,)``, 0 or 1.
        class_names: names of the two classes.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    class_names: tuple[str, str]


def load_images(name: str, folder: Path = _FASHION) -> Images:
    """Load two look-alike classes of a data set.

    Args:
        name: ``"digits"`` (3 against 8, from scikit-learn) or ``"fashion-mnist"`` (coat against shirt).
        folder: where the Fashion-MNIST idx.gz files are.

    Raises:
        DataError: the files are not there.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).div(16).unsqueeze(1)
        labels = torch.tensor(digits.target)
        keep = (labels == 3) | (labels == 8)
        images, labels = images[keep], (labels[keep] == 8).long()
        # Every fourth image is held out; the data set's own order mixes the writers.
        held = torch.arange(len(images)) % 4 == 0
        return Images(images[~held], labels[~held], images[held], labels[held], ("3", "8"))
    parts: list[tuple[Tensor, Tensor]] = []
    for split in ("train", "t10k"):
        images = read_idx(folder / f"{split}-images-idx3-ubyte.gz").float().div(255).unsqueeze(1)
        labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz").long()
        keep = (labels == 4) | (labels == 6)
        parts.append((images[keep], (labels[keep] == 6).long()))
    return Images(*parts[0], *parts[1], ("coat", "shirt"))


def small_cnn(shape: tuple[int, ...], num_classes: int = 2) -> nn.Module:
    """Return an untrained CNN for images ``(C, H, W)`` of 8 pixels and more."""
    height, width = shape[1] // 4, shape[2] // 4
    return nn.Sequential(
        nn.Conv2d(shape[0], 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * height * width, 128),
        nn.ReLU(),
        nn.Linear(128, num_classes),
    )


def train_classifier(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int,
    seed: int = 0,
    progress: bool | None = None,
    watch: Callable[[int], object] | None = None,
) -> nn.Module:
    """Train a classifier with AdamW and a one-cycle schedule, and return it in eval mode.

    Args:
        model: the classifier.
        images, labels: ``(n, C, H, W)`` and ``(n,)``.
        steps: of 64 images each.
        seed: of the order.
        progress: show a progress bar; None shows it on a terminal.
        watch: called after each step with the number of steps that are done.
    """
    stream = BatchStream(as_data((images, labels)), 64, seed)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    model.train()
    hide = None if progress is None else not progress
    for step in tqdm(range(steps), desc="classifier", disable=hide):
        batch = stream.next()
        loss = F.cross_entropy(model(batch.inputs), cast(Tensor, batch.labels), label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if watch is not None:
            watch(step + 1)
    return model.eval()


def read_idx(path: Path) -> Tensor:
    """Read a gzipped idx file of bytes.

    Raises:
        DataError: it is not there.
    """
    if not path.is_file():
        raise DataError(
            "demo: the Fashion-MNIST files are not installed",
            given=path,
            do="apt-get install dataset-fashion-mnist, or use --data digits",
        )
    content = gzip.decompress(path.read_bytes())
    dims = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(content[3])]
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(dims).copy())
