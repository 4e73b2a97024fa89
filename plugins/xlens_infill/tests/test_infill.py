"""The infill lens end to end, on spots whose place is known."""

import dataclasses
import warnings

import pytest
import torch
import xlens_infill.lens
from torch import nn
from xlens_infill import Infill

import xlens
from xlens.errors import DataError, UnsupportedError, UntrustworthyWarning, XlensWarning
from xlens.registry.loading import standing_in


def blobs(n, side, channels=1, radius=2.0, kinds=2, seed=0):
    """Pictures with texture, a class by the spot that each has: none, a bright one, a dark one; and where it is."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.4 + 0.1 * torch.rand(n, channels, side, side, generator=generator)
    labels = torch.arange(n) % kinds
    rows, cols = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    margin = side // 4
    places = torch.randint(margin, side - margin, (n, 2), generator=generator)
    square = (rows - places[:, :1, None]) ** 2 + (cols - places[:, 1:, None]) ** 2
    true = ((square <= radius**2) & (labels > 0)[:, None, None])[:, None]
    heights = torch.tensor([0.0, 0.9, 0.0])[labels][:, None, None, None]
    return torch.where(true, heights, images), labels, true


def objects(n, side=64, seed=0):
    """Textured green discs on white ground, half of them with red spots, which are the class."""
    images, labels, true = blobs(n, side, 3, radius=4.0, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    coarse = torch.rand(n, 3, side // 8, side // 8, generator=generator)
    texture = nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear") * 0.15
    green = torch.tensor([0.2, 0.5, 0.2])[:, None, None] + texture + 0.05 * images
    red = torch.tensor([0.7, 0.25, 0.1])[:, None, None]
    rows, cols = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    disc = (rows - side / 2) ** 2 + (cols - side / 2) ** 2 < (0.42 * side) ** 2
    return torch.where(disc, torch.where(true, red, green), 0.95), labels, true


class Largest(nn.Module):
    """Sees a spot where the mean of a small window is far off: one that is bright, and one that is dark."""

    def __init__(self, kinds=2, channel=0, level=0.62, window=3):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))
        self.kinds, self.channel, self.level, self.window = kinds, channel, level, window

    def forward(self, x):
        smooth = nn.functional.avg_pool2d(x[:, self.channel : self.channel + 1], self.window, 1)
        bright = smooth.flatten(1).amax(1) - self.level
        dark = 0.25 - smooth.flatten(1).amin(1)
        logits = [torch.zeros_like(bright), bright, dark][: self.kinds]
        return self.scale * torch.stack(logits, 1)


class Red(Largest):
    """Sees red that is not white."""

    def forward(self, x):
        return super().forward(x[:, :1] - x[:, 2:])


def small():
    return Infill(survey=80, words=64, parts=3)


@pytest.fixture(scope="module")
def fitted():
    images, _, _ = blobs(80, 28)
    return xlens.fit(Largest(), images, small(), progress=False)


@pytest.fixture(scope="module")
def asked():
    images, labels, true = blobs(16, 28, seed=5)
    return images[labels == 1], true[labels == 1]


@pytest.fixture(scope="module")
def explained(fitted, asked):
    return quietly(fitted.explain, asked[0], attributions=("lig", "lig_features"), tolerance=1e-3)


def quietly(call, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        return call(*args, **options)


def overlap(mask, true):
    both = (mask & true).flatten(1).sum(1)
    return float((both / mask.flatten(1).sum(1)).mean()), float((both / true.flatten(1).sum(1)).mean())


def test_the_planted_spot_is_covered_and_little_else(explained, asked):
    mask = explained.mask > 0.5
    edited = mask.flatten(1).any(1)
    assert float(edited.float().mean()) >= 0.75
    precision, recall = overlap(mask[edited], asked[1][edited])
    # The survey's windows are 12 pixels wide and the spot is 5: the mask is whole and wide.
    assert precision >= 0.1
    assert recall >= 0.9


def test_spots_on_a_textured_object_are_covered():
    images, _, _ = objects(80)
    model = Red(level=0.3)
    held, labels, true = objects(16, seed=9)
    held, true = held[labels == 1], true[labels == 1]
    assert bool((model(held).argmax(1) == 1).all())
    explainer = xlens.fit(model, images, small(), progress=False)
    assert float(explainer.lens.cut) == 1
    found = quietly(explainer.explain, held)
    mask = found.mask > 0.5
    edited = mask.flatten(1).any(1)
    assert float(edited.float().mean()) >= 0.75
    precision, recall = overlap(mask[edited], true[edited])
    assert precision >= 0.2
    assert recall >= 0.9
    gone = (found.counterfactual - held)[edited].abs().sum(1, keepdim=True)[true[edited]]
    assert float(gone.mean()) > 0.4


def test_verdicts_hold_where_the_spot_is_taken(explained):
    assert set(explained.verdicts) >= {"flips", "likeness", "specific", "local", "complete"}
    flips = explained.verdicts["flips"]
    assert float(flips.float().mean()) >= 0.75
    for name in ("specific", "local", "complete"):
        assert bool(explained.verdicts[name][flips].all()), name


def test_parts_sum_to_the_difference(explained):
    difference = explained.scores - explained.counterfactual_scores
    torch.testing.assert_close(explained.feature_contributions.sum(1), difference, rtol=1e-3, atol=1e-3)
    maps = sum(explained.attributions[f"lig: {name}"] for name in ("part 1", "part 2", "all other parts"))
    torch.testing.assert_close(maps, explained.attributions["lig"], rtol=1e-4, atol=1e-6)


def test_nothing_outside_the_mask_changes(explained, asked):
    changed = (explained.counterfactual != asked[0]).any(1, keepdim=True)
    assert not bool((changed & (explained.mask == 0)).any())


def test_each_input_alone_is_edited_as_in_the_batch(fitted, asked, explained):
    alone = torch.cat([quietly(fitted.explain, one[None]).counterfactual for one in asked[0]])
    torch.testing.assert_close(alone, explained.counterfactual, rtol=1e-5, atol=1e-6)


def test_a_saved_lens_explains_alike(fitted, asked, explained, tmp_path):
    fitted.save(tmp_path / "lens")
    with standing_in(Infill):
        again = xlens.load(tmp_path / "lens", fitted.classifier.model)
    assert torch.equal(quietly(again.explain, asked[0]).counterfactual, explained.counterfactual)
    assert again.backend == fitted.backend


def test_three_classes():
    images, labels, _ = blobs(90, 28, kinds=3)
    explainer = xlens.fit(Largest(kinds=3), images, small(), progress=False)
    rows = labels[:30] > 0
    found = quietly(explainer.explain, images[:30][rows], contrast=0)
    assert set(found.target.tolist()) == {1, 2}
    for kind in (1, 2):
        assert float(found.verdicts["flips"][found.target == kind].float().mean()) >= 0.5, kind


def test_a_fill_that_copies_the_input_is_caught(fitted, asked, monkeypatch):
    monkeypatch.setitem(xlens_infill.lens._FILLS, "harmonic", lambda inputs, hole, within: inputs)
    with pytest.warns(UntrustworthyWarning, match="no local counterfactual"):
        found = fitted.explain(asked[0])
    assert not bool(found.trustworthy.any())
    assert torch.equal(found.counterfactual, asked[0])


def test_nearest_fills_it_too(asked):
    images, _, _ = blobs(80, 28)
    backend = dataclasses.replace(small(), fill="nearest")
    found = quietly(xlens.fit(Largest(), images, backend, progress=False).explain, asked[0])
    assert float(found.verdicts["flips"].float().mean()) >= 0.75


def test_one_class_alone_is_refused():
    images, labels, _ = blobs(80, 28)
    with pytest.raises(DataError, match="one class"):
        xlens.fit(Largest(), images[labels == 0], small(), progress=False)


def test_vectors_are_refused():
    with pytest.raises(UnsupportedError, match="fills holes in images"):
        xlens.fit(nn.Linear(20, 2), torch.randn(40, 20), small(), progress=False)


class Tone(nn.Module):
    """Sees how bright the whole image is: nothing local."""

    def forward(self, x):
        tone = x.flatten(1).mean(1) - 0.5
        return 50 * torch.stack([-tone, tone], 1)


def test_where_nothing_is_local_the_fit_warns_and_the_explanation_says_so():
    images = torch.rand(80, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2
    images = images + 0.35 + 0.1 * (torch.arange(80) % 2)[:, None, None, None]
    with pytest.warns(XlensWarning, match="no input has a local counterfactual"):
        explainer = xlens.fit(Tone(), images, small(), progress=False)
    found = quietly(explainer.explain, images[:6])
    assert all("no local counterfactual" in said[0] for said in found.problems)


def test_tiles_find_the_spot_without_the_survey(asked):
    images, _, _ = blobs(80, 28)
    explainer = xlens.fit(Largest(), images, dataclasses.replace(small(), search="tiles"), progress=False)
    assert float(explainer.lens.reach) >= 0.3, "more is not looked for"
    found = quietly(explainer.explain, asked[0])
    edited = found.verdicts["flips"]
    assert float(edited.float().mean()) >= 0.75
    precision, recall = overlap(found.mask[edited] > 0.5, asked[1][edited])
    assert precision >= 0.1
    assert recall >= 0.7


def test_where_neither_the_survey_nor_tiles_find_anything_both_are_named():
    images = torch.rand(80, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2
    images = images + 0.35 + 0.1 * (torch.arange(80) % 2)[:, None, None, None]
    for search, said in (("tiles", "filling tiles of an input turns the classifier on 0%"), ("survey", "AUC")):
        with pytest.warns(XlensWarning, match=said):
            xlens.fit(Tone(), images, dataclasses.replace(small(), search=search), progress=False)


def test_small_images_have_no_local_counterfactual():
    images = torch.rand(60, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    images[::2, :, 4:8, 4:8] = 1.0
    with pytest.warns(XlensWarning, match="16 pixels"):
        xlens.fit(Largest(level=0.95), images, small(), progress=False)


def test_shapley_values_of_the_parts_of_an_edit_sum_to_what_it_changes(fitted, asked, explained):
    found = quietly(fitted.attribute, asked[0], "shapley_values")
    assert found.names == tuple(explained.feature_names)
    assert float(found.convergence_delta.abs().max()) < 1e-5
    with torch.no_grad():
        change = [fitted.classifier(x).diff(dim=1)[:, 0].double() for x in (asked[0], explained.counterfactual)]
    assert torch.allclose(found.difference, change[0] - change[1], atol=1e-4)
    # A part that an edit does not have moves nothing.
    gone = explained.feature_contributions == 0
    assert bool(gone.any())
    assert float(found.values[gone].abs().max()) < 1e-5


def test_what_needs_a_decoder_is_refused_with_a_reason(fitted, asked):
    with pytest.raises(UnsupportedError, match="interpolate: this lens edits inputs"):
        fitted.interpolate(asked[0][:1], asked[0][1:2])
    with pytest.raises(UnsupportedError, match="sample: .*cannot do this.*backends that can: .*dif.*jlvm"):
        fitted.sample(2, 1)
