"""Small networks with one logit for each disease of coffee leaves: a classifier, and a judge of another kind."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.common.cache import CACHE
from benchmarks.common.leaves import DISEASES

SIDE = 96
STEPS, BATCH = 1200, 32


class Diseases(nn.Module):
    """Five convolutions, and one logit for each disease; takes images in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width, stride in ((16, 2), (32, 2), (64, 2), (64, 1), (96, 2)):
            layers += [nn.Conv2d(before, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * before, len(DISEASES))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        found = self.body(inputs * 4 - 2)
        # A small lesion counts in the largest value, what covers the leaf in the mean.
        return self.head(torch.cat([found.amax((2, 3)), found.mean((2, 3))], 1))


class Patches(nn.Module):
    """The judge: patches of 4 pixels, mixed in place and across channels in turn; takes images in [0, 1]."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.GELU(), nn.BatchNorm2d(width))
        self.across = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 5, padding=2, groups=width), nn.GELU(), nn.BatchNorm2d(width))
            for _ in range(depth)
        )
        self.within = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width)) for _ in range(depth)
        )
        self.head = nn.Linear(2 * width, len(DISEASES))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        found = self.stem(inputs * 4 - 2)
        for across, within in zip(self.across, self.within, strict=True):
            found = within(found + across(found))
        return self.head(torch.cat([found.amax((2, 3)), found.mean((2, 3))], 1))


def diseases(folder: Path, names: list[str]) -> Tensor:
    """Return which diseases each leaf has, ``(N, 4)`` bool."""
    with (folder / "labels.csv").open() as file:
        rows = {row["id"]: [int(row[name]) for name in DISEASES] for row in csv.DictReader(file)}
    return torch.tensor([rows[name] for name in names]) > 0


def trained(kind: type[nn.Module], seen: Tensor, has: Tensor, seed: int) -> nn.Module:
    """Return a network of this kind, from the cache if it is there."""
    path = CACHE / f"{kind.__name__.lower()}-{SIDE}-{seed}.safetensors"
    torch.manual_seed(seed)
    net = kind()
    if path.exists():
        net.load_state_dict(load_file(path))
        return net.eval()
    begun = time.process_time()
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    # Rare diseases are drawn as often as common ones.
    kinds = [*(has[:, k].nonzero()[:, 0] for k in range(len(DISEASES))), (~has.any(1)).nonzero()[:, 0]]
    for step in range(STEPS):
        picked = [kinds[(step + i) % len(kinds)] for i in range(BATCH)]
        rows = torch.stack([kind[torch.randint(len(kind), ())] for kind in picked])
        batch = seen[rows]
        batch = batch.flip(-1) if step % 2 else batch
        batch = batch.flip(-2) if step // 2 % 2 else batch
        light, shift = torch.randn(2, BATCH, 1, 1, 1)
        batch = (batch * (1 + 0.15 * light) + 0.05 * shift).clamp(0, 1)
        loss = F.binary_cross_entropy_with_logits(net(batch), has[rows].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"trained in {time.process_time() - begun:.0f} CPU seconds")
    CACHE.mkdir(exist_ok=True)
    save_file(net.state_dict(), path)
    return net.eval()
