"""The latent scatter: where points lie, and by what they are coloured."""

import numpy as np
import pytest
import torch
import toys
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

import xlens
from xlens.errors import DataError, OptionError
from xlens.plot import codes

pytestmark = pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")


@pytest.fixture(scope="module")
def explainer():
    images = toys.pictures(60, seed=0)[0]
    corner = images[:, 0, 0, 0]
    table = torch.stack([images.mean((1, 2, 3)), (corner > corner.median()).float()], 1)
    return xlens.fit(
        toys.trained_cnn(), images, "introvac", steps=3, hidden=16, code=8, side_info=table, restarts=0,
        attributes=("brightness", "corner"), mask=toys.SHORT_MASK, progress=False,
    )  # fmt: skip


def points_of(figure):
    return np.concatenate([np.asarray(drawn.get_offsets()) for drawn in figure.axes[0].collections])


def code_of(explainer, images):
    with xlens.asking(explainer) as lens:
        return lens.encode(images).double()


def test_principal_components_are_those_of_scikit_learn(explainer):
    images = toys.pictures(40, seed=1)[0]
    figure = codes(explainer, images, colour=torch.arange(40.0))
    assert isinstance(figure, Figure)
    reference = PCA(2).fit(code_of(explainer, images).numpy())
    expected = reference.transform(code_of(explainer, images).numpy())
    # Their signs are open.
    for dim in range(2):
        found = points_of(figure)[:, dim]
        assert min(abs(found - expected[:, dim]).max(), abs(found + expected[:, dim]).max()) < 1e-5
    assert f"({reference.explained_variance_ratio_[0]:.0%} of the variance)" in figure.axes[0].get_xlabel()


def test_named_parts_are_values_of_features_and_directions(explainer):
    images = toys.pictures(30, seed=2)[0]
    found, direction = code_of(explainer, images), explainer.lens.directions["corner"].double()
    figure = codes(explainer, images, ("corner", 1), colour="brightness")
    with torch.no_grad():
        assert abs(points_of(figure)[:, 0] - (found @ direction).numpy()).max() < 1e-6
    own = found[:, list(explainer.features[1].dims)]
    assert np.corrcoef(points_of(figure)[:, 1], PCA(1).fit_transform(own.numpy())[:, 0])[0, 1] ** 2 > 0.999
    assert figure.axes[0].get_xlabel() == "corner"
    assert figure.axes[1].get_ylabel() == "brightness"


def test_colours_are_classes_margins_or_values_of_ones_own(explainer):
    images = toys.pictures(30, seed=3)[0]
    with explainer.classifier.frozen(), torch.no_grad():
        logits = explainer.classifier(images)
    by_class = codes(explainer, images)
    legend = [text.get_text() for text in by_class.axes[0].get_legend().get_texts()]
    assert set(legend) == {explainer.class_names[c] for c in logits.argmax(1).tolist()}
    counts = {
        name: len(drawn.get_offsets()) for name, drawn in zip(legend, by_class.axes[0].collections, strict=True)
    }
    assert counts == {
        explainer.class_names[c]: int((logits.argmax(1) == c).sum()) for c in logits.argmax(1).unique()
    }
    top = logits.topk(2, 1).values
    by_margin = codes(explainer, images, colour="margin").axes[0].collections[-1].get_array()
    assert abs(np.asarray(by_margin) - (top[:, 0] - top[:, 1]).numpy()).max() < 1e-5
    side = torch.arange(30.0)
    side[:5] = float("nan")
    grey, known = codes(explainer, images, colour=side).axes[0].collections
    assert (len(grey.get_offsets()), len(known.get_offsets())) == (5, 25)
    kinds = codes(explainer, images, colour=["a", "b", "$c_1$"] * 10).axes[0].get_legend().get_texts()
    assert [text.get_text() for text in kinds] == ["$c_1$", "a", "b"]
    assert len(codes(explainer, images, colour=torch.arange(30) % 12).axes[0].collections) == 12


def test_what_does_not_fit_is_refused(explainer):
    images = toys.pictures(6, seed=4)[0]
    with pytest.raises(OptionError, match="codes: there is no feature 'width'"):
        codes(explainer, images, ("width", 0))
    with pytest.raises(OptionError, match="codes: dims are wrong"):
        codes(explainer, images, "corner")
    with pytest.raises(DataError, match="codes: colour does not fit the inputs.*6 values"):
        codes(explainer, images, colour=[1, 2])
    with pytest.raises(DataError, match="codes: a scatter needs two inputs"):
        codes(explainer, images[:1])


@pytest.mark.parametrize(("backend", "options"), [("svae", {"hidden": 16}), ("dif", {"hidden": 16, "restarts": 0})])
def test_other_lenses_have_it_too(backend, options):
    images = toys.pictures(24, seed=0)[0]
    found = xlens.fit(toys.trained_cnn(), images, backend, steps=2, mask=toys.SHORT_MASK, progress=False, **options)
    assert len(points_of(codes(found, images, (0, 1)))) == 24
