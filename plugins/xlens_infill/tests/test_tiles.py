"""The search by tiles, on classifiers whose evidence is known."""

import pytest
import torch
from xlens_infill.fill import fill_harmonic
from xlens_infill.tiles import searched, tilings
from xlens_infill.where import find_by_tiles


def picture(*places, side=56):
    """Faint noise with bright squares of 6 pixels."""
    image = 0.1 * torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    true = torch.zeros(1, 1, side, side, dtype=torch.bool)
    for top, left in places:
        true[..., top : top + 6, left : left + 6] = True
    return torch.where(true, 0.9, image), true, torch.ones_like(true)


class Strongest(torch.nn.Module):
    """Class 1 where any window is bright: of two spots the second counts once the first is gone."""

    def forward(self, x):
        peak = torch.nn.functional.avg_pool2d(x, 3, 1).flatten(1).amax(1) - 0.5
        return 10 * torch.stack([-peak, peak], 1)


def find(x, within, logits=None, **options):
    return find_by_tiles(
        logits or Strongest(), x, 0, fill_harmonic, within, **{"goal": 0.0, "largest": 0.3} | options
    )


def test_every_tile_is_filled_from_outside_itself():
    x, true, within = picture((20, 12))
    cuts, number = tilings(x, fill_harmonic, within)
    assert len(cuts) == 4
    assert sorted({int(n) for cut in cuts for n in cut.names.unique()})[-1] == number - 1
    whole = [cut for cut in cuts if len(cut.names[true[0, 0]].unique()) == 1]
    assert whole, "no tile holds the spot"
    assert all(float(cut.filled[0][true[0, 0]].max()) < 0.3 for cut in whole)


def test_spots_that_count_one_after_the_other_are_all_found():
    x, true, within = picture((8, 8), (36, 30), (20, 44))
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
    found = find(x, within, Tone())
    assert "no local counterfactual" in found.problem


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
