"""Figures of attribution maps against slow loops, and maps that say nothing at the bottom of each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from xlens import metrics
from xlens.errors import DataError, OptionError
from xlens.metrics.maps import removal_order


@pytest.fixture(scope="module")
def made():
    """Maps of three channels with random signs, and masks of random pixels."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(6, 3, 5, 7, generator=generator)
    masks = torch.rand(6, 1, 5, 7, generator=generator) < 0.3
    return maps, masks


def ranked(values):
    """Positions of one map's pixels, the largest magnitude first, by a plain sort."""
    flat = np.abs(values.double().numpy().sum(0)).ravel()
    return sorted(range(len(flat)), key=lambda i: -flat[i]), flat


def test_localisation_against_loops(made):
    maps, masks = made
    found = {
        name: getattr(metrics, name)(maps, masks)
        for name in ("pointing_game", "relevance_mass", "relevance_rank", "mask_iou")
    }
    for i in range(len(maps)):
        order, size = ranked(maps[i])
        inside = set(np.flatnonzero(masks[i].numpy().ravel()).tolist())
        top = set(order[: len(inside)])
        assert found["pointing_game"][i] == (order[0] in inside)
        assert found["relevance_mass"][i] == pytest.approx(sum(size[p] for p in inside) / size.sum(), rel=1e-5)
        assert found["relevance_rank"][i] == pytest.approx(len(top & inside) / len(inside))
        assert found["mask_iou"][i] == pytest.approx(len(top & inside) / len(top | inside))


def test_ties_count_by_their_expectation_over_all_orders():
    maps = torch.tensor([[[[3.0, 1.0, 1.0, 1.0, 0.0]]]])
    mask = torch.tensor([[[[True, True, False, False, True]]]])
    # Two of the three ones are taken with the 3; the one inside is among them two times out of three.
    assert metrics.relevance_rank(maps, mask)[0] == pytest.approx((1 + 2 / 3) / 3)
    assert metrics.pointing_game(torch.ones(1, 1, 1, 5), mask)[0] == pytest.approx(3 / 5)
    assert metrics.relevance_mass(torch.zeros(1, 1, 1, 5), mask)[0] == 0


def test_sparseness_is_the_gini_index(made):
    maps, _ = made
    for values, found in zip(maps, metrics.sparseness(maps).tolist(), strict=True):
        _, size = ranked(values)
        mean_difference = np.abs(size[:, None] - size[None]).mean()
        assert found == pytest.approx(mean_difference / (2 * size.mean()), rel=1e-5)
    assert metrics.sparseness(torch.zeros(1, 1, 2, 2)).tolist() == [0.0]


def test_rank_correlation_is_spearmans(made):
    maps, _ = made
    other = maps.roll(1, 0)
    other[0] = maps[0].round()  # with ties
    for a, b, found in zip(maps, other, metrics.rank_correlation(maps, other).tolist(), strict=True):
        assert found == pytest.approx(scipy.stats.spearmanr(ranked(a)[1], ranked(b)[1]).statistic, abs=1e-6)
    flat = torch.ones_like(maps)
    assert metrics.rank_correlation(flat, flat).tolist() == [1.0] * 6
    assert metrics.rank_correlation(flat, maps).tolist() == [0.0] * 6


class Linear(nn.Module):
    """Logits that are linear in the pixels, each channel with weights of its own."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.randn(3, 2 * 4 * 4, generator=generator)

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


@pytest.fixture(scope="module")
def linear():
    generator = torch.Generator().manual_seed(2)
    inputs, baselines, maps = (torch.randn(3, 2, 4, 4, generator=generator) for _ in range(3))
    return Linear(), inputs, baselines, maps, torch.tensor([0, 2, 1])


def slow_curve(model, start, end, values, target, steps):
    """Probabilities while pixels of `start` become those of `end`, one image at a time."""
    order = np.argsort(-values.double().numpy().sum(0).ravel(), kind="stable")
    curve = []
    for step in range(steps + 1):
        image = start.clone()
        for pixel in order[: round(step * 16 / steps)]:
            image[:, pixel // 4, pixel % 4] = end[:, pixel // 4, pixel % 4]
        curve.append(float(torch.softmax(model(image[None])[0], 0)[target]))
    return curve


def area(curve):
    return sum((a + b) / 2 for a, b in zip(curve, curve[1:], strict=False)) / (len(curve) - 1)


@pytest.mark.parametrize("steps", [1, 5, 16])
def test_deletion_and_insertion_against_loops(linear, steps):
    model, inputs, baselines, maps, target = linear
    deleted = metrics.deletion(model, inputs, maps, target, baselines, points=steps)
    inserted = metrics.insertion(model, inputs, maps, target, baselines, points=steps)
    for i in range(3):
        one = (maps[i], int(target[i]), steps)
        assert deleted[i] == pytest.approx(area(slow_curve(model, inputs[i], baselines[i], *one)), rel=1e-4)
        assert inserted[i] == pytest.approx(area(slow_curve(model, baselines[i], inputs[i], *one)), rel=1e-4)
    both = metrics.diff_id(model, inputs, maps, target, baselines, points=steps)
    assert torch.allclose(both, inserted - deleted)


def test_the_drop_against_a_loop(linear):
    model, inputs, _, maps, target = linear
    for share, count in ((0.01, 1), (0.25, 4), (1.0, 16)):
        found = metrics.intensity_drop(model, inputs, maps, target, share=share)
        for i in range(3):
            grey = inputs[i].mean((1, 2), keepdim=True).expand(2, 4, 4)
            curve = slow_curve(model, inputs[i], grey, maps[i], int(target[i]), 16)
            assert found[i] == pytest.approx(curve[0] - curve[count], abs=1e-5)


def test_no_second_copy_of_all_inputs_is_made(linear):
    """However many inputs there are, so many are exchanged at once, and each figure is that of its own input."""
    model, inputs, baselines, maps, target = linear
    many = [values.repeat(200, *[1] * (values.dim() - 1)) for values in (inputs, maps, target, baselines)]
    asked = []

    def classify(x):
        asked.append(x.untyped_storage().nbytes() // x[0].nbytes)
        return model(x)

    found = metrics.deletion(classify, *many, points=4)
    assert torch.allclose(found, metrics.deletion(model, inputs, maps, target, baselines, points=4).repeat(200))
    assert max(asked) <= 256
    asked.clear()
    dropped = metrics.intensity_drop(classify, *many[:3])
    assert torch.allclose(dropped, metrics.intensity_drop(model, inputs, maps, target).repeat(200), atol=1e-6)
    assert sorted(set(asked)) == [88, 256, 600]  # the last are the inputs themselves


def test_vectors_have_an_element_a_pixel():
    classify = lambda x: torch.stack([torch.zeros(len(x)), x.sum(1)], 1)  # noqa: E731
    inputs, maps = torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    found = metrics.deletion(classify, inputs, maps, torch.tensor([1]), torch.zeros(1, 2), points=2)
    expected = [torch.sigmoid(torch.tensor(v)) for v in (4.0, 1.0, 0.0)]
    assert float(found) == pytest.approx(area([float(v) for v in expected]), rel=1e-5)
    assert metrics.pointing_game(maps, torch.tensor([[True, False]])).tolist() == [1.0]


def test_equal_pixels_go_in_no_direction():
    places = removal_order(torch.zeros(2, 1, 20, 20)).view(2, 20, 20).float()
    assert torch.equal(places[0], places[1])
    assert abs(float(places[0, :10].mean() - places[0, 10:].mean())) < 40  # from the top it would be 200
    assert sorted(places[0].flatten().tolist()) == list(range(400))


def edges(images):
    """Sobel's magnitude: where an image has edges, whatever the classifier."""
    kernel = torch.tensor([[[[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]]])
    padded = nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    across, down = nn.functional.conv2d(padded, kernel), nn.functional.conv2d(padded, kernel.mT)
    return (across.square() + down.square()).sqrt()


def bright_spot(x):
    """Sees a spot of 3x3 where the mean is high, and nothing in what alternates from pixel to pixel."""
    height = nn.functional.avg_pool2d(x, 3, 1).flatten(1).amax(1)
    return torch.stack([torch.zeros_like(height), 12 * (height - 0.5)], 1)


def spots_and_distractors(n):
    """A spot in the left half, and a chequered dark square with stronger edges in the right half."""
    generator = torch.Generator().manual_seed(0)
    clean = 0.1 * torch.rand(n, 1, 12, 12, generator=generator)
    chequers = (torch.arange(12)[:, None] + torch.arange(12)) % 2 * 4.0 - 4
    clean[:, :, 3:9, 6:] += chequers[3:9, 6:]
    masks = torch.zeros(n, 1, 12, 12, dtype=torch.bool)
    for i, row in enumerate(torch.randint(0, 10, (n,), generator=generator).tolist()):
        masks[i, 0, row : row + 3, 1:4] = True
    return clean + masks.float(), clean, masks


def test_maps_that_say_nothing_are_at_the_bottom_of_every_figure():
    """The gradient times what the cause added, against a random map, an edge detector and a constant."""
    inputs, clean, masks = spots_and_distractors(60)
    points = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(bright_spot(points)[:, 1].sum(), points)
    maps = {
        "true": gradient * (inputs - clean),
        "random": torch.randn(inputs.shape, generator=torch.Generator().manual_seed(1)),
        "edges": edges(inputs),
        "constant": torch.ones_like(inputs),
    }
    target, baselines = torch.ones(60, dtype=torch.long), torch.zeros_like(inputs)
    assert (bright_spot(inputs).argmax(1) == 1).all()
    assert (bright_spot(clean).argmax(1) == 0).all()
    figures = {
        "pointing": lambda m: metrics.pointing_game(m, masks),
        "mass": lambda m: metrics.relevance_mass(m, masks),
        "rank": lambda m: metrics.relevance_rank(m, masks),
        "iou": lambda m: metrics.mask_iou(m, masks),
        "deletion": lambda m: -metrics.deletion(bright_spot, inputs, m, target, baselines),
        "insertion": lambda m: metrics.insertion(bright_spot, inputs, m, target, baselines),
        "DiffID": lambda m: metrics.diff_id(bright_spot, inputs, m, target, baselines),
        "drop": lambda m: metrics.intensity_drop(bright_spot, inputs, m, target, share=9 / 144),
        "sparseness": metrics.sparseness,
    }
    for name, figure in figures.items():
        reached = {kind: float(figure(values).mean()) for kind, values in maps.items()}
        others = max(value for kind, value in reached.items() if kind != "true")
        assert reached["true"] > others + 0.05, (name, reached)


def test_what_does_not_fit_is_refused(made, linear):
    maps, masks = made
    with pytest.raises(DataError, match="a mask is empty.*input 2"):
        metrics.mask_iou(maps, masks & (torch.arange(6) != 2).view(6, 1, 1, 1))
    with pytest.raises(DataError, match="masks do not fit"):
        metrics.pointing_game(maps, masks[:, :, :4])
    with pytest.raises(DataError, match="attributions cannot be judged"):
        metrics.sparseness(maps * math.nan)
    model, inputs, baselines, values, target = linear
    with pytest.raises(DataError, match="do not fit together"):
        metrics.deletion(model, inputs, values[:2], target, baselines)
    with pytest.raises(DataError, match="do not fit together"):
        metrics.insertion(model, inputs, values[:, :, :2], target, baselines)
    with pytest.raises(DataError, match="attributions do not fit"):
        metrics.intensity_drop(model, inputs, values[:, :, :2], target)
    with pytest.raises(OptionError, match="points"):
        metrics.deletion(model, inputs, values, target, baselines, points=0)
    with pytest.raises(OptionError, match="share"):
        metrics.intensity_drop(model, inputs, values, target, share=0)
