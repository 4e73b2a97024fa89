"""A frozen CNN's penultimate layer on Fashion-MNIST, with what can be measured on each image."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.common.cache import CACHE
from benchmarks.common.tasks import fashion
from xlens.datasets import train_classifier

#: The penultimate layer before its ReLU.
LAYER = "6"
WIDTH = 64
MEASURED = ("brightness", "width", "height")


class Layer(NamedTuple):
    """The CNN, and of training and test images: activations, its class, and the measured attributes."""

    model: nn.Module
    train: Tensor
    train_side: Tensor
    test: Tensor
    test_side: Tensor

    def tail(self) -> nn.Module:
        """Return what follows the layer, as a model of activations whose first module gives them back."""
        return nn.Sequential(nn.Identity(), self.model[7], self.model[8])


def cnn(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, 10),
    )


def measured(images: Tensor) -> Tensor:
    """Return mean intensity, and the share of columns and of rows in which something is, ``(n, 3)``."""
    seen = images[:, 0] > 0.1
    width, height = (seen.any(dim).float().mean(1) for dim in (1, 2))
    return torch.stack([images.mean((1, 2, 3)), width, height], 1)


@functools.cache
@torch.no_grad()
def layer_of(seed: int) -> Layer:
    """Return the layer of the CNN of that seed; trained once, and kept."""
    task, path, model = fashion(), CACHE / f"layer-{seed}.safetensors", cnn(seed)
    if not path.exists():
        with torch.enable_grad():
            train_classifier(model, task.train, task.train_labels, steps=1400, seed=seed, progress=False)
        body = model[:7]
        seen = {
            name: torch.cat([body(part) for part in images.split(1000)])
            for name, images in (("train", task.train), ("test", task.test))
        }
        CACHE.mkdir(exist_ok=True)
        save_file({**{f"model.{k}": v for k, v in model.state_dict().items()}, **seen}, path)
    kept = load_file(path)
    model.load_state_dict({k.removeprefix("model."): v for k, v in kept.items() if k.startswith("model.")})
    # The class is f's own, which is what the lens explains.
    sides = [
        torch.cat([model[7:](kept[name]).argmax(1, keepdim=True).float(), measured(images)], 1)
        for name, images in (("train", task.train), ("test", task.test))
    ]
    found = Layer(model.eval().requires_grad_(False), kept["train"], sides[0], kept["test"], sides[1])
    right = (model(task.test[:2000]).argmax(1) == task.test_labels[:2000]).float().mean()
    print(f"CNN of seed {seed}: right on {right:.3f} of test images", flush=True)
    return found
