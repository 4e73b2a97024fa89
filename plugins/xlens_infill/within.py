"""Foreground segmentation, where it is plain; everywhere else the whole image is the object.

A homogeneous background that touches the border (a leaf on paper, a part on a tray) is told from the object by two
mean colours. Knowing it keeps the fill from smudging the object's rim and the survey from counting the outline.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

BORDER = 4  # pixels
MOSTLY = 0.5  # of the border must be background
SHARES = (0.05, 0.9)  # of the image that a background may be
OFTEN = 0.5  # of the inputs of a class have to show an object
SHRINK = 2  # pixels of the rim left out: they are mixtures of both


def object_of(x: Tensor) -> Tensor:
    """(N, 1, H, W) bool for images (N, C, H, W) of any range; all true where no plain background is found."""
    smooth = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False).permute(0, 2, 3, 1).cpu().numpy()
    return torch.from_numpy(np.stack([_one(image) for image in smooth]))[:, None].to(x.device)


def shows_objects(within: Tensor, decision: Tensor) -> bool:
    """Whether objects ``(N, 1, H, W)`` are found in most inputs of every class.

    Where one class has none, what stands out in the others is the cause, and not an object that has it.
    """
    found = ~within.flatten(1).all(1)
    return all(float(found[decision == c].float().mean()) > OFTEN for c in decision.unique())


def _one(image: np.ndarray) -> np.ndarray:
    height, width, _ = image.shape
    border = np.ones((height, width), bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    middle = image[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    near = _two_means(image, np.median(image[border], 0), np.median(middle.reshape(-1, image.shape[2]), 0))
    named, _ = ndimage.label(near)
    touching = np.unique(named[border & near])
    background = np.isin(named, touching[touching > 0])
    if not _plain(image, background, border):
        return np.ones((height, width), bool)
    named, number = ndimage.label(~ndimage.binary_dilation(background, iterations=SHRINK))
    if not number:
        return np.ones((height, width), bool)
    largest = named == 1 + np.argmax(np.bincount(named.ravel())[1:])
    return ndimage.binary_fill_holes(largest)


def _two_means(image: np.ndarray, first: np.ndarray, second: np.ndarray, rounds: int = 6) -> np.ndarray:
    """True where a pixel is nearer to the border's colour than to the middle's, both re-estimated."""
    for _ in range(rounds):
        near = ((image - first) ** 2).sum(2) < ((image - second) ** 2).sum(2)
        if near.all() or not near.any():
            break
        first, second = image[near].mean(0), image[~near].mean(0)
    return near


def _plain(image: np.ndarray, background: np.ndarray, border: np.ndarray) -> bool:
    """The background holds most of the border, is neither all nor nothing, and differs by more than both vary."""
    if background[border].mean() <= MOSTLY or not SHARES[0] < background.mean() < SHARES[1]:
        return False
    apart = np.abs(image[background].mean(0) - image[~background].mean(0)).mean()
    return bool(apart > image[background].std(0).mean() + image[~background].std(0).mean())
