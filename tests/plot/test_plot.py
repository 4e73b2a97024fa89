"""The figure says what it shows, and says loudly when it must not be trusted."""

import dataclasses

import pytest
import torch
from drawings import made, reshaped, texts
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xlens import plot
from xlens.classifier.normalization import Normalization
from xlens.errors import DataError, UnsupportedError
from xlens.plot import plot_invariances, plot_traversal
from xlens.plot.draw import least_edit, limit_of, strongest
from xlens.plot.pixels import natural_ranges, ranges_of, to_pixels
from xlens.plot.words import sentences


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("mask", [True, False])
def test_images_of_one_to_four_channels(channels, mask, tmp_path):
    figure = made(channels, mask=mask).plot(1)
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "a.png")
    words = texts(figure)
    for word in ("input", "reconstruction", "counterfactual", "latent IG", "Why 'ill' and not 'healthy'?", "+2.00"):
        assert word in words
    assert ("mask" in words) == mask
    assert "DO NOT TRUST" not in words


def test_the_warning_cannot_be_missed():
    figure = made(trustworthy=False).plot()
    words = texts(figure)
    assert "DO NOT TRUST THIS EXPLANATION: the counterfactual does not change the classifier's decision" in words
    assert "✗  Does NOT flip: the classifier does not change its decision to 'healthy'" in words
    red, green, blue, _ = figure.subfigs[0].get_facecolor()
    assert red > 0.5
    assert max(green, blue) < 0.2


def test_probabilities_stand_under_the_frames():
    words = texts(made().plot())
    for score in (-1.0, 2.0):
        assert f"{torch.tensor(score).sigmoid():.2f}" in words


def test_attributions_share_one_scale():
    one = made()
    louder = dataclasses.replace(one, attributions={"lig": one.inputs, "ig_counterfactual": 5 * one.inputs})
    limits = clims(louder.plot(), "latent IG", "IG from counterfactual")
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high


def test_a_method_that_adds_up_to_nothing_has_a_scale_of_its_own():
    one = made()
    small = dataclasses.replace(one, attributions={**one.attributions, "saliency": 1e-3 * one.inputs.abs()})
    figure = small.plot()
    assert clims(figure, "saliency\n(magnitude only)") != clims(figure, "latent IG")


def test_sums_are_those_of_the_method_itself():
    one = made()
    delta = {"lig": torch.tensor([0.25, 0.5]), "ig_counterfactual": torch.zeros(2)}
    said = [text for _, text in sentences(dataclasses.replace(one, convergence_delta=delta), 1)]
    total = float(one.attributions["lig"][1].sum())
    assert f"latent IG sums to {total:.2f} of {total - 0.5:.2f}." in said


def clims(figure: Figure, *titles: str) -> set[tuple[float, float]]:
    found = [axes for axes in figure.findobj(Axes) if axes.get_title() in titles]
    assert {axes.get_title() for axes in found} == set(titles)
    return {image.get_clim() for axes in found for image in axes.get_images()}


@pytest.mark.parametrize("shape", [(64,), (1, 64), (2, 32), (4, 16)])
def test_signals_are_drawn(shape, tmp_path):
    figure = reshaped(made(), shape).plot()
    figure.savefig(tmp_path / "a.png")
    (axes,) = [a for a in figure.findobj(Axes) if a.get_title() == "input"]
    lines = [line.get_ydata() for line in axes.get_lines()]
    expected = made().inputs[0].reshape(-1, shape[-1])
    assert len(lines) == len(expected)
    for line, row in zip(lines, expected, strict=True):
        assert torch.allclose(torch.as_tensor(line), row)


@pytest.mark.parametrize("shape", [(8, 8, 1), (2, 2, 4, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(UnsupportedError, match="images \\(C, H, W\\) with 1 to 4 channels, signals"):
        reshaped(made(), shape).plot()


def test_a_lens_that_decodes_to_a_hidden_layer_is_drawn():
    hidden = dataclasses.replace(made(), reconstruction=None, edit=None, mask=None)
    words = texts(hidden.plot())
    assert "reconstruction\n" not in words
    assert "another real case" in words
    assert "SSIM" not in words


@pytest.mark.parametrize("name", ["$\\frac{1$", "<script>alert(1)</script>", "x" * 400, "two\nlines", "naïve ✓ 猫"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_any_class_name_can_be_drawn(name, tmp_path):
    one = dataclasses.replace(made(), class_names=("healthy", name), feature_names=(name,))
    one.plot().savefig(tmp_path / "a.png")
    one.plot_features().savefig(tmp_path / "b.png")
    plot_traversal(one.path, [0, 1], feature=name, probabilities=one.path_scores, class_name=name).savefig(
        tmp_path / "c.png"
    )


MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.mark.parametrize("transform", ["none", "bytes", "signed", "imagenet"])
def test_the_natural_range_whatever_the_normalisation(transform):
    original = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    original[:, 0, 0], original[:, 0, 1] = 0, 1
    change = {
        "none": lambda x: x,
        "bytes": lambda x: 255 * x,
        "signed": lambda x: 2 * x - 1,
        "imagenet": lambda x: (x - MEAN[:, None, None]) / STD[:, None, None],
    }[transform]
    given = change(original)
    pairs = tuple((float(c.min()), float(c.max())) for c in given)
    known = Normalization(tuple(MEAN.tolist()), tuple(STD.tolist())).ranges(3) if transform == "imagenet" else ()
    one = dataclasses.replace(made(3), channel_ranges=pairs, display_ranges=known)
    shown = torch.from_numpy(to_pixels(given, ranges_of(one)).copy()).permute(2, 0, 1)
    assert (shown.float() - 255 * original).abs().max() <= 0.51


def test_colours_of_data_that_need_no_change_stay_as_they_are():
    assert natural_ranges((0.0, 0.1, 0.0), (1.0, 0.7, 0.9)) == [(0.0, 1.0)] * 3
    # Without ranges per channel there is one for all.
    assert ranges_of(made(3)) == [(-3.0, 3.0)]


def test_two_alike_channels_are_grey_and_different_ones_are_not():
    grey = to_pixels(torch.full((2, 1, 1), 0.5), [(0.0, 1.0)])[0, 0]
    assert max(grey) - min(grey) <= 1
    first = to_pixels(torch.tensor([1.0, 0.0]).view(2, 1, 1), [(0.0, 1.0)])[0, 0]
    assert first[0] == 255
    assert first[2] == 0


def test_feature_contributions_are_the_lengths_of_the_bars():
    values = torch.tensor([[0.5, -2.0, 1.0], [0.0, 0.0, 0.0]])
    one = dataclasses.replace(made(), feature_names=("a", "b", "c"), feature_contributions=values)
    (axes,) = one.plot_features().axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    drawn = dict(zip(labels, (bar.get_width() for bar in axes.patches), strict=True))
    assert drawn == {"b": -2.0, "c": 1.0, "a": 0.5}


def test_many_features_are_summed_up():
    values = torch.arange(25.0).expand(2, 25)
    one = dataclasses.replace(made(), feature_names=tuple(map(str, range(25))), feature_contributions=values)
    (axes,) = one.plot_features().axes
    assert [bar.get_width() for bar in axes.patches] == [*range(24, 4, -1), 0 + 1 + 2 + 3 + 4]
    assert axes.get_yticklabels()[-1].get_text() == "5 others"


def test_a_traversal_shows_values_and_probabilities():
    frames = torch.rand(2, 3, 1, 8, 8)
    figure = plot_traversal(
        frames, [0.0, 0.5, 1.25], feature="evidence", inputs=frames[:, 0], probabilities=torch.full((2, 3), 0.25)
    )
    words = texts(figure)
    for word in ("evidence set to", "1.25", "p = 0.25", "input"):
        assert word in words
    assert len(figure.axes) == 8


def test_invariances_mark_what_f_does_not_keep():
    kept = torch.tensor([[True, False]])
    words = texts(plot_invariances(torch.rand(1, 3, 8, 8), torch.rand(1, 2, 3, 8, 8), kept))
    assert "stayed on 1 of 2" in words
    assert words.count("✓ same decision") == words.count("✗ other decision") == 1
    assert "decision" in texts(plot_invariances(torch.rand(1, 16), torch.rand(1, 2, 16)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: plot_traversal(torch.rand(2, 3, 1, 8, 8), [0.0]),
        lambda: plot_traversal(torch.rand(8), [0.0]),
        lambda: plot_traversal(torch.rand(2, 1, 1, 8, 8), [0.0], inputs=torch.rand(3, 1, 8, 8)),
        lambda: plot_traversal(torch.rand(2, 1, 1, 8, 8), [0.0], probabilities=torch.rand(2)),
        lambda: plot_invariances(torch.rand(1, 1, 8, 8), torch.rand(2, 2, 1, 8, 8)),
        lambda: plot_invariances(torch.rand(1, 1, 8, 8), torch.rand(1, 2, 1, 8, 8), torch.tensor([True])),
    ],
)
def test_parts_that_do_not_fit_are_refused(call):
    with pytest.raises(DataError, match="do not fit together"):
        call()


def test_the_explainer_draws_its_own_traversals_and_invariances(fitted, images):
    words = texts(plot.traversal(fitted, images[:2], "bright", [0.0, 1.0], target=1))
    assert "bright set to" in words
    assert "p: the classifier's probability of 'class 1'" in words
    frames = fitted.traverse(images[:2], "bright", [0.0, 1.0])
    with torch.no_grad(), fitted.classifier.frozen():
        p = fitted.classifier.probabilities(frames.flatten(0, 1))[:, 1]
    for value in p.tolist():
        assert f"p = {value:.2f}" in words
    assert "it stayed on" in texts(plot.invariances(fitted, images[:2], 3))


def test_figures_are_matplotlibs_and_show_themselves_in_notebooks():
    one = made()
    for figure in (one.plot(), one.plot_features(), plot_traversal(one.path, [0, 1])):
        assert type(figure) is Figure
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_drawing_leaves_pyplot_alone(programs, tmp_path):
    code = "import sys, xlens.plot; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert programs(cwd=tmp_path, code=code).returncode == 0


def test_with_three_classes_the_probability_is_of_two():
    words = texts(dataclasses.replace(made(), class_names=("healthy", "ill", "odd")).plot())
    assert "p = p('ill' against 'healthy') under each frame" in words
    assert "the classifier's probability of" not in words
    assert "the classifier's probability of 'ill' under each frame" in texts(made().plot())


def test_differences_of_channels_do_not_cancel_and_rounding_noise_is_pale():
    difference = torch.tensor([1.0, -1.0, 0.0])[:, None, None].expand(3, 4, 4)
    assert strongest(difference).abs().min() == 1
    assert limit_of(torch.full((1, 4, 4), 1e-7), least_edit((-3.0, 3.0))) == pytest.approx(6e-3)


def test_maps_without_a_sign_claim_none():
    one = dataclasses.replace(made(), attributions={**made().attributions, "saliency": made().inputs.abs()})
    words = texts(one.plot())
    assert "saliency\n(magnitude only)" in words
    assert "purple: magnitude only" in words


def test_a_path_that_ends_in_the_reconstruction_says_so():
    one = made()
    other = one.inputs + 0.5
    path = torch.stack([one.path[:, 0], other], 1)
    words = texts(dataclasses.replace(one, reconstruction=other, path=path).plot())
    assert "p = 0.88\nreconstruction" in words
    assert "p = 0.88\ninput" not in words


def test_tensorboard_takes_the_figure_as_it_is(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        writer.add_figure("why", made().plot(), close=False)
        writer.add_figure("features", made().plot_features())
    seen = EventAccumulator(str(tmp_path)).Reload()
    assert set(seen.Tags()["images"]) == {"why", "features"}
    (event,) = seen.Images("why")
    width, height = (int(round(side)) for side in made().plot().bbox.size)
    assert abs(event.width - width) <= 1
    assert abs(event.height - height) <= 1
