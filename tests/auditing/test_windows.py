"""Windows of large images: fewer are tried, and what costs the score is found all the same."""

from __future__ import annotations

import pytest
import torch
from shortcuts import explainer_of
from torch import nn

from xlens.auditing.windows import LARGE, of_windows

SIDE = 160
#: Images that the classifier was asked about.
SEEN: list[int] = []


class Any9(nn.Module):
    """Sees class 1 where anything of 3 by 3 pixels is bright: each piece of a spot is enough."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, inputs):
        score = self.scale * (nn.functional.avg_pool2d(inputs[:, 0], 3, 1).flatten(1).amax(1) - 0.5)
        return torch.stack([-score, score], 1)


class Spot(nn.Module):
    """Sees class 1 by how bright one place is."""

    def __init__(self, top, left):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))
        self.top, self.left = top, left

    def forward(self, inputs):
        SEEN.append(len(inputs))
        score = self.scale * (inputs[:, 0, self.top : self.top + 16, self.left : self.left + 16].mean((1, 2)) - 0.5)
        return torch.stack([-score, score], 1)


def spotted(top, left):
    """Return a noisy image with a bright square of 16 pixels."""
    image = 0.1 * torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    image[..., top : top + 16, left : left + 16] = 0.95
    return image


def asked(top, left, large):
    """Return where evidence is found, and how many images the classifier was asked about."""
    model = Spot(top, left)
    fitted = explainer_of(model).fitted
    image = spotted(top, left)
    with fitted.asking():
        SEEN.clear()
        filled, mask = of_windows(fitted, image, torch.tensor([1]), torch.tensor([0]), large=large)
    return mask[0], sum(SEEN), filled


@pytest.mark.parametrize(("top", "left"), [(0, 0), (144, 144), (40, 76), (71, 9), (62, 120), (20, 33)])
def test_fewer_windows_find_the_same_place(top, left):
    whole, all_of_them, _ = asked(top, left, 10_000)
    mask, some, filled = asked(top, left, LARGE)
    assert some < 0.65 * all_of_them
    spot = torch.zeros_like(mask)
    spot[top : top + 16, left : left + 16] = True
    assert int((mask & spot).sum()) >= 0.9 * int((whole & spot).sum()) > 100
    assert int(mask.sum()) <= 1.5 * int(whole.sum())
    assert float(filled[0, 0][spot].mean()) < 0.6


@pytest.mark.parametrize(("top", "left"), [(26, 26), (60, 60), (94, 94), (62, 120), (26, 60), (60, 94)])
def test_what_lies_across_windows_of_which_each_piece_is_enough_is_found(top, left):
    fitted = explainer_of(Any9()).fitted
    with fitted.asking():
        _, mask = of_windows(fitted, spotted(top, left), torch.tensor([1]), torch.tensor([0]))
    assert bool(mask[0, top : top + 16, left : left + 16].any())


def test_where_nothing_costs_the_score_nothing_is_found():
    model = Spot(0, 0)
    fitted = explainer_of(model).fitted
    with fitted.asking():
        flat = torch.full((1, 1, SIDE, SIDE), 0.9)
        filled, mask = of_windows(fitted, flat, torch.tensor([1]), torch.tensor([0]))
    assert not mask.any()
    assert torch.equal(filled, flat)
