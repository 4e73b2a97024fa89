"""A figure has room for what stands on it, however many maps there are."""

import dataclasses
import itertools

import pytest
import torch
from drawings import made
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

_COMPLETE = ("lig", "ig_counterfactual", "idgi", "guided_ig", "ig_ensemble", "integrated_gradients", "deep_lift")
_OTHERS = ("difference", "accumulated", "latent_shift", "layer_grad_cam", "shapley_value_sampling", "lig_paper")
_NAMED = tuple(f"lig: evidence for the class that has number {i}" for i in range(12))


def drawn(count: int) -> Figure:
    """Return a figure of `count` maps, of every kind and with long names, laid out."""
    one = made(n=1)
    mixed = itertools.chain.from_iterable(itertools.zip_longest(_COMPLETE, _OTHERS, _NAMED))
    names = list(filter(None, mixed))[:count]
    figure = dataclasses.replace(
        one,
        attributions=dict.fromkeys(names, one.inputs),
        convergence_delta={name: torch.zeros(1) for name in names if name in _COMPLETE},
    ).plot()
    FigureCanvasAgg(figure).draw()
    return figure


@pytest.fixture(scope="module", params=[3, 9, 25])
def figure(request):
    return drawn(request.param)


def test_no_title_lies_over_another_or_over_the_numbers_of_a_scale(figure):
    axes = figure.findobj(Axes)
    titles = [axis.title for axis in axes if axis.get_title()]
    numbers = [label for axis in axes for label in axis.get_xticklabels() if label.get_text()]
    assert len(titles) > 5
    boxes = [(text.get_text(), text.get_window_extent()) for text in (*titles, *numbers)]
    # Each title against all that comes after it, whichever row that stands in.
    pairs = ((boxes[i], other) for i in range(len(titles)) for other in boxes[i + 1 :])
    assert not [(first, second) for (first, one), (second, box) in pairs if one.overlaps(box)]


def test_all_words_are_inside_and_the_curve_is_not_pressed_flat(figure):
    titles = [axis.title for axis in figure.findobj(Axes) if axis.get_title()]
    (words,) = (text for text in figure.findobj(Text) if text.get_text().startswith("the classifier's score"))
    page = figure.bbox.padded(1)
    for text in (words, *titles):
        box = text.get_window_extent()
        assert page.contains(*box.min), text.get_text()
        assert page.contains(*box.max), text.get_text()
    (curve,) = (axis for axis in figure.findobj(Axes) if axis.get_ylabel().startswith("p("))
    assert curve.get_window_extent().height > 1.5 * figure.dpi


@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_colours_mean_lies_over_no_number_and_no_title(channels):
    one = made(n=1, channels=channels)
    figure = dataclasses.replace(
        one,
        attributions={"lig": one.inputs, "accumulated": one.inputs.abs()},
        convergence_delta={"lig": torch.zeros(1)},
    ).plot()
    FigureCanvasAgg(figure).draw()
    texts = figure.findobj(Text)
    (legend,) = (text for text in texts if "red where the input has more" in text.get_text())
    assert legend.get_text().count("\n") == 2
    others = [label for axis in figure.findobj(Axes) for label in axis.get_xticklabels() if label.get_text()]
    others += [text for text in texts if text.get_text().startswith("The path")]
    assert len(others) > 5
    box = legend.get_window_extent()
    assert not [text.get_text() for text in others if text.get_window_extent().overlaps(box)]
