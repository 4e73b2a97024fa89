"""The search by tiles, on classifiers whose evidence is known."""

import pytest
import torch
from infill_spec import grey
from xlens_infill import Infill
from xlens_infill.fill import fill_harmonic
from xlens_infill.tiles import searched, tilings
from xlens_infill.where import find_by_tiles, margin_of, margins_of

from xlens import Classifier


def picture(*places, side=56, brightness=(0.9,)):
    """Faint noise with bright squares of 6 pixels, the first of the first brightness and so on."""
    image = 0.1 * torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    true = torch.zeros(1, 1, side, side, dtype=torch.bool)
    for n, (top, left) in enumerate(places):
        true[..., top : top + 6, left : left + 6] = True
        image[..., top : top + 6, left : left + 6] = brightness[min(n, len(brightness) - 1)]
    return image, true, torch.ones_like(true)


class Strongest(torch.nn.Module):
    """Class 1 where any window is bright: of two spots the second counts once the first is gone."""

    def forward(self, x):
        peak = torch.nn.functional.avg_pool2d(x, 3, 1).flatten(1).amax(1) - 0.5
        return 10 * torch.stack([-peak, peak], 1)


def find(x, within, margin=None, **options):
    return find_by_tiles(
        margin or margin_of(Strongest(), 0), x, fill_harmonic, within, **{"goal": 0.0, "largest": 0.3} | options
    )


def test_every_tile_is_filled_from_outside_itself():
    x, true, within = picture((20, 12))
    cuts, number = tilings(x, fill_harmonic, within)
    assert len(cuts) == 4
    assert sorted({int(n) for cut in cuts for n in cut.names.unique()})[-1] == number - 1
    whole = [cut for cut in cuts if len(cut.names[true[0, 0]].unique()) == 1]
    assert whole, "no tile holds the spot"
    assert all(float(cut.filled[0][true[0, 0]].max()) < 0.3 for cut in whole)


@pytest.mark.parametrize("brightness", [(0.9,), (0.91, 0.9), (0.93, 0.9, 0.88)])
def test_spots_that_count_one_after_the_other_are_all_found(brightness):
    x, true, within = picture((8, 8), (36, 30), (20, 44), brightness=brightness)
    found = find(x, within)
    assert found.problem is None
    assert float(found.mask[true[0]].float().mean()) > 0.8
    assert float(found.mask.float().mean()) < 0.2
    assert float(Strongest()(found.filled[None]).diff(dim=1)) < 0
    assert len(found.credit) == found.parts.max() == 3


def test_what_is_not_local_is_not_found():
    class Tone(torch.nn.Module):
        def forward(self, x):
            tone = x.flatten(1).mean(1) - 0.02
            return 50 * torch.stack([-tone, tone], 1)

    x, _, within = picture((20, 20))
    found = find(x, within, margin_of(Tone(), 0))
    assert "no local counterfactual: with the tiles that help most filled" in found.problem


def test_where_no_slope_says_which_tile_helps_that_is_said():
    x, _, within = picture((20, 20))
    found = find(x, within, lambda points: points.flatten(1).amax(1).mul(0) - 1)
    assert "filling no tile of this input lifts the classifier's margin" in found.problem


def test_only_the_object_is_edited_and_the_search_stops_at_the_largest_area():
    x, true, within = picture((8, 8), (36, 30))
    within[..., :20] = False
    margin = lambda z: Strongest()(z).diff(dim=1)[:, 0].neg()  # noqa: E731
    mask, filled, reached = searched(margin, x, fill_harmonic, within, 0.0, 0.3)
    assert reached == pytest.approx(float(margin(filled)), abs=1e-5)
    assert not bool((mask & ~within).any())
    assert torch.equal(filled[~mask], x[~mask])
    small = find(x, torch.ones_like(true), largest=0.001)
    assert "it would take" in small.problem or "margin" in small.problem


class TwoLabels(torch.nn.Module):
    """The first label needs two spots, and the second follows one of them, or always the first label."""

    def __init__(self, follows):
        super().__init__()
        self.follows = follows

    def forward(self, x):
        left, right = x[:, 0, 22:25, 10:13].mean((1, 2)), x[:, 0, 22:25, 38:41].mean((1, 2))
        # The left spot is what moves it most.
        both = 10 * (left.square() * right - 0.2)
        return torch.stack(
            [
                both,
                {"left": 10 * (left - 0.4), "right": 10 * (right - 0.4), "first": both, "never": 0 * left}[
                    self.follows
                ],
            ],
            1,
        )


def two_labels(follows):
    x, _, within = picture((20, 8), (20, 36))
    every = Classifier(TwoLabels(follows), outputs="multilabel", labels=["first", "second"])
    return x, within, every


def decided(every, image):
    return (every.about(None)(image[None]) > 0)[0].tolist()


def test_of_a_label_among_others_what_turns_it_alone_is_found_first():
    both = []
    for spot in ("left", "right"):
        x, within, every = two_labels(spot)
        alone, plain = margins_of(every.about("first"), x, 0, 0.0)
        assert decided(every, x[0]) == [True, True]
        assert decided(every, find(x, within, alone).filled) == [False, True]
        both.append(decided(every, find(x, within, plain).filled))
    assert [False, False] in both, "either spot turns the first label, and nothing has to be avoided"


def test_a_label_at_its_boundary_is_absent_and_may_stay_there():
    x, within, every = two_labels("never")
    alone, plain = margins_of(every.about("first"), x, 0, 0.0)
    assert decided(every, x[0]) == [True, False]
    for margin in (alone, plain):
        found = find(x, within, margin)
        assert found.problem is None
        assert decided(every, found.filled) == [False, False]


def test_what_turns_no_label_alone_turns_it_with_others():
    x, within, every = two_labels("first")
    lens = Infill(search="tiles").build(every.about("first"), grey(56))
    assert margins_of(every.about("first"), x, 0, 0.0)[0](x) < 0
    found = lens.found(x, within, 1, 0, 0.0)
    assert found.problem is None
    assert decided(every, found.filled) == [False, False]


def test_a_label_without_others_is_a_class():
    one = Classifier(torch.nn.Flatten(), outputs="multilabel", labels=["only"], label="only")
    assert len(margins_of(one, torch.ones(1, 1, 1, 1), 0, 0.0)) == 1
