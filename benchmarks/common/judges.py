"""The frozen classifier and two judges of other topology, each trained independently."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.common.cache import CACHE
from benchmarks.common.tasks import Task
from xlens.datasets import small_cnn, train_classifier


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norms[1](self.second(F.relu(self.norms[0](self.first(x))))))


def residual_judge(shape: tuple[int, ...], num_classes: int = 2) -> nn.Module:
    """Strided residual network with batch norm and global average pooling, from a 14-pixel grid on."""

    def halve(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

    return nn.Sequential(
        nn.Conv2d(shape[0], 24, 3, max(1, shape[1] // 14), 1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        Residual(24),
        halve(24, 48),
        Residual(48),
        halve(48, 96),
        Residual(96),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, num_classes),
    )


def wide_judge(shape: tuple[int, ...], num_classes: int = 2) -> nn.Module:
    """5x5 kernels, GELU, max pooling, dropout, no batch norm."""
    height, width = shape[1] // 4, shape[2] // 4
    return nn.Sequential(
        nn.Conv2d(shape[0], 24, 5, padding=2),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 5, padding=2),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(48 * height * width, 96),
        nn.GELU(),
        nn.Linear(96, num_classes),
    )


def trained(task: Task, seed: int, epochs: int, only: str = "") -> dict[str, nn.Module]:
    """Return the classifier and both judges (or `only` one by name), trained with different seeds and cached."""
    shape = tuple(task.train.shape[1:])
    makers = {"f": small_cnn, "judge A (residual)": residual_judge, "judge B (wide)": wide_judge}
    nets = {}
    for number, (name, make) in enumerate(makers.items()):
        if only not in ("", name):
            continue
        torch.manual_seed(1000 * seed + number)
        net = make(shape, len(task.class_names))
        steps = epochs * len(task.train) // 64
        # With the steps, because benchmarks train on other shares of the same task, and for longer or shorter.
        path = CACHE / f"{task.name}-{number}-{seed}-{steps}.safetensors"
        if path.exists():
            net.load_state_dict(load_file(path))
        else:
            train_classifier(net, task.train, task.train_labels, steps=steps, seed=1000 * seed + number)
            CACHE.mkdir(exist_ok=True)
            save_file(net.state_dict(), path)
        nets[name] = net.eval().requires_grad_(False)
    return nets


@torch.no_grad()
def logits_of(net: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([net(part) for part in images.split(256)])


def predicted(net: nn.Module, images: Tensor) -> Tensor:
    return logits_of(net, images).argmax(1)


def judged(judge: nn.Module, before: Tensor, after: Tensor, target: Tensor, contrast: Tensor) -> float:
    """Share on which the judge sees the contrast class, of those it put in the target class before."""
    counted = predicted(judge, before) == target
    return float((predicted(judge, after)[counted] == contrast[counted]).float().mean())
