"""Velocity networks: state, time and condition to a velocity; a U-Net for images, a residual one for vectors."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens import Spec
from xlens.nn import Layout
from xlens_flow.velocities import Velocities

__all__ = ["Flow"]

#: Frequencies of the embedding of time, from 1 to this many radians.
_FREQUENCIES, _FASTEST = 32, 200.0


class Flow(Velocities):
    """The velocity dx/dt of states between noise (t = 0) and data (t = 1), in units of a like range.

    The number of attributes is found when the lens is fitted, so it is taken from the stored tensors on loading.

    Args:
        spec: shape and range of the data, and the number of classes.
        dense: a fully connected network, and not a U-Net.
        hidden: width of a fully connected network.
        width: channels of a U-Net at full resolution.
    """

    frequencies: Tensor
    network: nn.Module

    def __init__(self, spec: Spec, *, dense: bool, hidden: int, width: int) -> None:
        super().__init__(spec)
        self.num_classes = spec.num_classes
        powers = torch.linspace(0, math.log(_FASTEST), _FREQUENCIES)
        self.register_buffer("frequencies", powers.exp(), persistent=False)
        embedding = hidden if dense else 4 * width
        self.time = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        # No condition is all zeros: the bias of the embedding of time stands for it.
        self.condition = nn.Linear(spec.num_classes, embedding, bias=False)
        nn.init.normal_(self.condition.weight, 0, 1)
        # For each attribute one of its value, and one of that it is observed.
        self.attributes = nn.Parameter(torch.zeros(embedding, 0))
        self.network = _Dense(spec, embedding, hidden) if dense else _UNet(spec, embedding, width)

    @property
    def num_attributes(self) -> int:
        """Number A of attributes that are conditions."""
        return self.attributes.shape[1] // 2

    def add_attributes(self, count: int) -> None:
        """Make room for `count` attributes."""
        like = self.attributes
        self.attributes = nn.Parameter(torch.randn(len(like), 2 * count, device=like.device))

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        stored = state.get(prefix + "attributes")
        if stored is not None and stored.shape[1] != self.attributes.shape[1]:
            self.add_attributes(stored.shape[1] // 2)
        super()._load_from_state_dict(state, prefix, *rest)

    def forward(self, states: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        """Return velocities ``(N, *S)``.

        Args:
            states: ``(N, *S)``.
            times: ``(N,)`` in [0, 1].
            conditions: ``(N, K + 2 A)`` class probabilities, values of attributes, and 1 where they are observed;
                zeros where there is no condition.
        """
        angles = times[:, None] * self.frequencies
        classes = conditions[:, : self.num_classes]
        embedded = self.time(torch.cat([angles.cos(), angles.sin()], 1)) + self.condition(classes)
        if self.num_attributes:
            embedded = embedded + conditions[:, self.num_classes :] @ self.attributes.T
        return self.network(states, F.silu(embedded))


class _Dense(nn.Module):
    """Three residual blocks of one hidden width."""

    def __init__(self, spec: Spec, embedding: int, hidden: int) -> None:
        super().__init__()
        size = math.prod(spec.shape)
        self.entry = nn.Linear(size, hidden)
        self.blocks = nn.ModuleList(_DenseBlock(hidden, embedding) for _ in range(3))
        self.exit = nn.Linear(hidden, size)
        _silence(self.exit)

    def forward(self, states: Tensor, embedded: Tensor) -> Tensor:
        hidden = self.entry(states.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, embedded)
        return self.exit(F.silu(hidden)).view_as(states)


class _DenseBlock(nn.Module):
    def __init__(self, hidden: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.first, self.second = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.modulation = nn.Linear(embedding, 2 * hidden)
        _silence(self.second)

    def forward(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        scale, shift = self.modulation(embedded).chunk(2, 1)
        inner = F.silu(self.norm(hidden) * (1 + scale) + shift)
        return hidden + self.second(F.silu(self.first(inner)))


class _UNet(nn.Module):
    """A U-Net of one or two halvings, with 1, 2 and 3 times the channels.

    Large images are entered, and left, a cell of pixels at a time.
    """

    def __init__(self, spec: Spec, embedding: int, width: int) -> None:
        super().__init__()
        self.layout = layout = Layout(spec.shape)
        self.shape = spec.shape
        pixels = layout.channels * layout.stride**2
        widths = [width * (level + 1) for level in range(layout.levels + 1)]
        self.entry = nn.Conv2d(pixels, width, 3, padding=1)
        self.down = nn.ModuleList(_Block(one, one, embedding) for one in widths[:-1])
        self.halve = nn.ModuleList(
            nn.Conv2d(one, two, 3, 2, 1) for one, two in zip(widths, widths[1:], strict=False)
        )
        self.middle = nn.ModuleList(_Block(widths[-1], widths[-1], embedding) for _ in range(2))
        self.widen = nn.ModuleList(nn.Conv2d(two, one, 1) for one, two in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(_Block(2 * one, one, embedding) for one in widths[:-1])
        self.norm = nn.GroupNorm(_groups(width), width)
        self.exit = nn.Conv2d(width, pixels, 3, padding=1)
        _silence(self.exit)

    def forward(self, states: Tensor, embedded: Tensor) -> Tensor:
        hidden = self.entry(F.pixel_unshuffle(self.layout.pad(states), self.layout.stride))
        kept = []
        for block, halve in zip(self.down, self.halve, strict=True):
            hidden = block(hidden, embedded)
            kept.append(hidden)
            hidden = halve(hidden)
        for block in self.middle:
            hidden = block(hidden, embedded)
        for level in reversed(range(len(kept))):
            wide = F.interpolate(self.widen[level](hidden), scale_factor=2, mode="nearest")
            hidden = self.up[level](torch.cat([wide, kept[level]], 1), embedded)
        pixels = F.pixel_shuffle(self.exit(F.silu(self.norm(hidden))), self.layout.stride)
        return pixels[..., : self.shape[1], : self.shape[2]]


class _Block(nn.Module):
    """Two convolutions with a way around them, the second modulated by time and condition."""

    def __init__(self, before: int, after: int, embedding: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(_groups(before), before), nn.GroupNorm(_groups(after), after)])
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * after)
        self.around = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        _silence(self.second)

    def forward(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        scale, shift = self.modulation(embedded)[:, :, None, None].chunk(2, 1)
        inner = self.first(F.silu(self.norms[0](hidden)))
        inner = self.second(F.silu(self.norms[1](inner) * (1 + scale) + shift))
        return self.around(hidden) + inner


def _groups(channels: int) -> int:
    return math.gcd(8, channels)


def _silence(layer: nn.Linear | nn.Conv2d) -> None:
    """Begin a layer at zero, so that a block begins as the identity and a flow as standing still."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
