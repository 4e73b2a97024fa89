"""Normalised photographs are drawn in their own colours, from wherever mean and std are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import xlens
from xlens.classifier.normalization import Normalization, as_normalization, normalization_in
from xlens.data import as_data
from xlens.errors import ModelError
from xlens.plot.pixels import ranges_of, to_pixels, true_colours
from xlens.report import to_html

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = Normalization(MEAN, STD)


class Normalize:
    """As torchvision has it."""

    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]


class Compose:
    def __init__(self, *transforms):
        self.transforms = list(transforms)

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class Photos(torch.utils.data.Dataset):
    """Cuts of one photograph, in [0, 1] before its transform."""

    def __init__(self, cuts, transform):
        self.cuts, self.transform = cuts, transform

    def __len__(self):
        return len(self.cuts)

    def __getitem__(self, i):
        return self.transform(self.cuts[i])


class Bright(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        tone = x.flatten(1).mean(1)
        return self.scale * torch.stack([torch.zeros_like(tone), tone - 0.5], 1)


@pytest.fixture(scope="module")
def cuts():
    """24 cuts of 16x16 of a photograph of a temple under a blue sky."""
    from sklearn.datasets import load_sample_image

    photo = torch.from_numpy(np.array(load_sample_image("china.jpg"))).permute(2, 0, 1).float() / 255
    rows = torch.randint(0, 370, (24, 2), generator=torch.Generator().manual_seed(0)).tolist()
    return torch.stack([photo[:, 4 * (top // 4) :: 3, left::3][:, :16, :16] for top, left in rows])


def fitted(model, data, progress=False):
    return xlens.fit(model, data, "infill", words=8, survey=8, progress=progress)


def drawn(explainer, inputs):
    one = explainer.explain(inputs)
    ranges = ranges_of(one)
    return torch.stack([torch.from_numpy(to_pixels(x, ranges)).permute(2, 0, 1) for x in one.inputs]).float() / 255


WAYS = {
    "said": lambda cuts: (xlens.Classifier(Bright(), normalization=(MEAN, STD)), Normalize(MEAN, STD)(cuts)),
    "a transform": lambda cuts: (
        xlens.Classifier(Bright(), normalization=Compose(abs, Normalize(list(MEAN), list(STD)))),
        Normalize(MEAN, STD)(cuts),
    ),
    "the data's transform": lambda cuts: (
        Bright(),
        torch.utils.data.DataLoader(Photos(cuts, Compose(Normalize(MEAN, STD))), batch_size=5),
    ),
    "timm's configuration": lambda cuts: (with_config(Bright()), Normalize(MEAN, STD)(cuts)),
}


def with_config(model):
    model.pretrained_cfg = {"mean": MEAN, "std": STD}
    return model


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_photograph_comes_back_within_one_level(cuts, way, tmp_path):
    model, data = WAYS[way](cuts)
    explainer = fitted(model, data)
    given = Normalize(MEAN, STD)(cuts)
    assert (drawn(explainer, given) - cuts).abs().max() <= 1 / 255
    # Saved with the lens, for whoever loads it around the bare model, and with the explanation.
    explainer.save(tmp_path / "lens")
    loaded = xlens.load(tmp_path / "lens", xlens.Classifier(explainer.classifier.model))
    assert (drawn(loaded, given) - cuts).abs().max() <= 1 / 255
    one = loaded.explain(given[:2])
    one.save(tmp_path / "one")
    assert xlens.Explanation.load(tmp_path / "one").display_ranges == one.display_ranges != ()


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_where_nothing_is_known_contrast_changes_and_no_hue(cuts):
    given = Normalize((0.5,) * 3, (0.2,) * 3)(cuts)
    shown = drawn(fitted(Bright(), given), given)
    slope, level = np.polyfit(cuts.flatten().numpy(), shown.flatten().numpy(), 1)
    assert (shown - (slope * cuts + level)).abs().max() < 1.5 / 255


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_mean_and_std_are_asked_for_where_nobody_says_them(cuts, caplog):
    caplog.set_level("INFO", "xlens")
    given = Normalize(MEAN, STD)(cuts)
    said = "normalization=(mean, std)", "Contrast and colours may not be"
    one = fitted(Bright(), given, progress=None).explain(given[:1])
    assert (said[0] in caplog.text, said[1] in to_html(one)) == (True, True)
    caplog.clear()
    for model, images in ((xlens.Classifier(Bright(), normalization=(MEAN, STD)), given), (Bright(), cuts)):
        one = fitted(model, images, progress=None).explain(images[:1])
        assert (said[0] in caplog.text, said[1] in to_html(one)) == (False, False)
    # Of darkness alone no colour is changed.
    assert true_colours((), (0.2,) * 3, (0.7,) * 3)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_timms_configuration_is_not_believed_of_images_that_are_not_normalised(cuts):
    explainer = fitted(with_config(Bright()), cuts)
    assert explainer.fitted.display_ranges == ()


@pytest.mark.parametrize(
    "given",
    [
        {"mean": list(MEAN), "std": list(STD), "input_size": (3, 224, 224)},
        SimpleNamespace(image_mean=list(MEAN), image_std=list(STD)),
        Compose(Compose(Normalize(torch.tensor(MEAN).double(), torch.tensor(STD).double()))),
        (MEAN, STD),
    ],
)
def test_every_form_is_read(given):
    found = as_normalization(given)
    assert found.mean == pytest.approx(MEAN)
    assert found.std == pytest.approx(STD)


@pytest.mark.parametrize("given", [((0.5,), (0.0,)), ((0.5,), (1.0, 1.0)), ((float("nan"),), (1.0,)), "no", 3])
def test_what_says_no_mean_and_std_is_refused(given):
    with pytest.raises(ModelError, match="normalization says no mean and std"):
        xlens.Classifier(Bright(), normalization=given)


def test_arrays_and_plain_data_sets_say_nothing():
    assert as_data(torch.zeros(4, 3, 8, 8)).normalization is None
    assert as_data(torch.utils.data.TensorDataset(torch.zeros(4, 3, 8, 8))).normalization is None
    assert normalization_in(Photos([], lambda image: image)) is None
    assert IMAGENET.ranges(1) == ()


def test_a_damaged_normalisation_is_refused():
    from xlens.storage.kinds import facts_faults

    facts = {"provenance": {"seed": 0, "supervision": "classifier", "normalization": {"mean": [0.5], "std": [0.0]}}}
    assert any("normalization has no mean and std" in fault for fault in facts_faults(facts))
