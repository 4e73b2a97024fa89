"""Photographs that ship with xlens: coffee leaves, healthy and with rust.

They are a sample of BRACOL, scaled down, under the MIT licence that stands beside them.

References:
    Krohling, Esgario and Ventura (2019), BRACOL - A Brazilian Arabica Coffee Leaf images dataset to identification
        and quantification of coffee diseases and pests. Repository esgario/lara2018.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xlens.datasets.examples import Images

__all__ = ["leaves"]

_FILE = Path(__file__).parent / "coffee" / "leaves.zip"
_CLASSES = ("healthy", "rust")
#: Every so many-th leaf of a class is held out.
_HELD_OUT = 3


def leaves() -> Images:
    """Load photographs of coffee leaves, healthy (0) and with rust (1): 528 of one leaf each, 3 x 96 x 96.

    A third is held out. Leaves with rust have no other disease. The two classes differ in tone as well as in spots,
    so a classifier may go by more than the spots.

    >>> from xlens.datasets import leaves
    >>> photographs = leaves()
    >>> photographs.train.shape, photographs.test.shape, photographs.class_names
    (torch.Size([352, 3, 96, 96]), torch.Size([176, 3, 96, 96]), ('healthy', 'rust'))
    """
    train: list[Tensor] = []
    test: list[Tensor] = []
    with zipfile.ZipFile(_FILE) as packed:
        for name in _CLASSES:
            photographs = [_decoded(packed.read(file)) for file in packed.namelist() if file.startswith(f"{name}/")]
            images = torch.stack(photographs).permute(0, 3, 1, 2).float() / 255
            held = torch.arange(len(images)) % _HELD_OUT == 0
            train.append(images[~held])
            test.append(images[held])
    labels = [torch.cat([torch.full((len(part),), c) for c, part in enumerate(parts)]) for parts in (train, test)]
    return Images(torch.cat(train), labels[0], torch.cat(test), labels[1], _CLASSES)


def _decoded(photograph: bytes) -> Tensor:
    with Image.open(io.BytesIO(photograph)) as image:
        return torch.from_numpy(np.array(image.convert("RGB")))
