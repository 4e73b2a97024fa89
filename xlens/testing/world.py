"""A toy world whose answers are known: a patch in a small picture decides its class.

Class 0 has no patch, class 1 a bright one and class 2 a dark one, at a random place on a weak background between
-1 and 0. Values lie between about -3 and 2, so nothing may assume [0, 1].
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xlens.errors import OptionError

__all__ = ["BACKGROUND", "BRIGHT", "DARK", "Cnn", "World", "patch_of", "pictures", "trained_cnn"]

BRIGHT, DARK = 2.0, -3.0
BACKGROUND = (-1.0, 0.0)
_CLASSES = 3


def pictures(n: int, seed: int, shape: tuple[int, ...] = (1, 8, 8)) -> tuple[Tensor, Tensor]:
    """Return pictures ``(n, *shape)`` and their classes ``(n,)``.

    The patch covers three eighths of each side, and all channels; in vectors ``(D,)`` it is a run of values.

    >>> from xlens.testing.world import pictures
    >>> inputs, labels = pictures(6, seed=0, shape=(2, 8, 10))
    >>> inputs.shape, labels.tolist()
    (torch.Size([6, 2, 8, 10]), [0, 1, 2, 0, 1, 2])
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(n, *shape, generator=generator) - 1
    labels = torch.arange(n) % _CLASSES
    sides = shape[1:] if len(shape) > 1 else shape
    for i, label in enumerate(labels.tolist()):
        where: list[Any] = []
        for side in sides:
            width = 3 * side // 8
            first = int(torch.randint(0, side - width + 1, (1,), generator=generator))
            where.append(slice(first, first + width))
        if label:
            inputs[i, ..., *where] = BRIGHT if label == 1 else DARK
    return inputs, labels


def patch_of(inputs: Tensor) -> Tensor:
    """Return where the cause is: bool, in the shape of the inputs."""
    return (inputs < BACKGROUND[0]) | (inputs > BACKGROUND[1])


class Cnn(nn.Module):
    """Small, with everything that makes freezing hard: batch norm, dropout, in-place ReLU."""

    def __init__(self, classes: int = _CLASSES, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
        )
        self.head = nn.Linear(32, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images, or of vectors seen as images of one row."""
        images = inputs[:, None, None, :] if inputs.dim() == 2 else inputs
        return self.head(self.body(images))


def trained_cnn(shape: tuple[int, ...] = (1, 8, 8)) -> Cnn:
    """Return a seeded classifier with an accuracy near 1, messy as a user would hand it over."""
    learned = _learned(shape)
    with torch.random.fork_rng(), torch.inference_mode(False):
        model = Cnn(channels=shape[0] if len(shape) > 1 else 1)
    model.load_state_dict(learned)
    return _made_messy(model)


@functools.lru_cache(maxsize=4)
def _learned(shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return the weights of that classifier, which is trained once."""
    with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(0)
        model = Cnn(channels=shape[0] if len(shape) > 1 else 1)
        inputs, labels = pictures(384, seed=7, shape=shape)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(8):
            for index in torch.randperm(len(inputs)).split(64):
                loss = nn.functional.cross_entropy(model(inputs[index]), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return {key: value.detach().clone() for key, value in model.state_dict().items()}


def _made_messy(model: Cnn) -> Cnn:
    """Leave what training leaves behind: mixed flags, a gradient, a hook."""
    model.head.bias.grad = torch.tensor([1.0, float("nan"), 0.0])
    model.body[0].weight.requires_grad_(False)
    model.body[3].eval()
    model.head.register_forward_hook(lambda *_: None)
    return model


@dataclass(frozen=True)
class World:
    """Pictures of one shape, and a classifier that has learned them.

    Args:
        shape: of one picture.
        inputs, labels: ``(n, *shape)`` and ``(n,)``, to fit on.
        held_out: ``(m, *shape)``, to explain.
        trained: the classifier; take :meth:`model` instead, which is a copy.
    """

    shape: tuple[int, ...]
    inputs: Tensor
    labels: Tensor
    held_out: Tensor
    trained: Cnn

    @staticmethod
    @functools.lru_cache(maxsize=4)
    def of(shape: tuple[int, ...]) -> World:
        """Return the world of that shape, made once.

        Raises:
            OptionError: the pictures would be too small for a patch, or are neither images nor vectors.
        """
        sides = shape[1:] if len(shape) > 1 else shape
        if len(shape) not in (1, 3) or min(sides, default=0) < 8:
            raise OptionError(
                "xlens.testing: there is no toy world of this shape",
                given=shape,
                allowed="(C, H, W) or (D,), with sides of at least 8",
                do="pass a shape that your backend takes: Candidate(backend, shape=(3, 32, 32))",
            )
        inputs, labels = pictures(240, seed=0, shape=shape)
        return World(shape, inputs, labels, pictures(48, seed=2, shape=shape)[0], trained_cnn(shape))

    def model(self) -> Cnn:
        """Return a classifier of your own, messy as a user would hand it over."""
        model = Cnn(channels=self.trained.channels)
        model.load_state_dict(self.trained.state_dict())
        return _made_messy(model)
