"""The learned fill: what it learns, what it never sees, and that it is a part of the lens."""

import dataclasses
import warnings

import pytest
import torch
from torch import nn
from xlens_infill import Infill
from xlens_infill.fill import fill_harmonic
from xlens_infill.learned import Inpainter, shrunk, worked_at
from xlens_infill.learning import free_of_evidence, holes, learn
from xlens_infill.survey import survey

import xlens
from xlens.contracts import Run, Spec
from xlens.errors import OptionError, XlensWarning


def pictures(count, side=32, seed=0):
    """Noise with a bright square in every second one: class 1."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.2 * torch.rand(count, 1, side, side, generator=generator)
    true = torch.zeros(count, 1, side, side, dtype=torch.bool)
    for i in range(1, count, 2):
        top, left = torch.randint(3, side - 9, (2,), generator=generator).tolist()
        true[i, :, top : top + 6, left : left + 6] = True
    return images + 0.8 * true, true


class Bright(nn.Module):
    """Class 1 where a window of three pixels is bright."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x):
        peak = nn.functional.avg_pool2d(x, 3, 1).flatten(1).amax(1) - 0.5
        return self.scale * torch.stack([-peak, peak], 1)


def spec_of(images):
    channels = images.shape[1]
    statistics = {"mean": images.mean((0, 2, 3)), "std": images.std((0, 2, 3))}
    return Spec(
        shape=tuple(images.shape[1:]),
        num_classes=2,
        minimum=(0.0,) * channels,
        maximum=(1.0,) * channels,
        class_margins=((0.0, 1.0), (1.0, 0.0)),
        **{name: tuple(value.tolist()) for name, value in statistics.items()},
    )


def waves(count, side=32, seed=0):
    """Stripes of one wavelength, whose phase and level differ: a hole as wide as a stripe can be known."""
    generator = torch.Generator().manual_seed(seed)
    phase, level = torch.rand(2, count, 1, 1, 1, generator=generator)
    columns = torch.arange(side) * (2 * torch.pi / 16) + 2 * torch.pi * phase
    return (0.5 + 0.1 * level + 0.3 * columns.sin()).expand(-1, 1, side, side).contiguous()


@pytest.fixture(scope="module")
def learned():
    images = waves(32)
    spec = spec_of(images)
    torch.manual_seed(0)
    net = Inpainter(spec, 8)
    run = Run(seed=0, device=torch.device("cpu"), spec=spec, progress=False)
    learn(net, run, images, torch.ones_like(images, dtype=torch.bool), steps=60, batch_size=16, rate=8e-3)
    return net.eval()


def middle(images, size):
    hole = torch.zeros_like(images[:, :1], dtype=torch.bool)
    start = images.shape[-1] // 2 - size // 2
    hole[..., start : start + size, start : start + size] = True
    return hole


def test_what_other_images_show_is_learned_and_a_smooth_continuation_misses_it(learned):
    images = waves(8, seed=9)
    hole = middle(images, 10)
    wrong = [(fill(images, hole) - images)[hole].abs().mean() for fill in (learned.fill, fill_harmonic)]
    assert float(wrong[0]) < 0.85 * float(wrong[1])


def test_it_begins_as_the_harmonic_fill():
    images = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    hole = middle(images[..., :40], 12)
    hole = nn.functional.pad(hole, (0, 8))
    net = Inpainter(spec_of(images), 4).eval()
    torch.testing.assert_close(net.fill(images, hole), fill_harmonic(images, hole))


def test_nothing_outside_the_hole_changes_and_what_lay_in_it_is_forgotten(learned):
    images = waves(1, seed=3)
    hole = middle(images, 8)
    other = torch.where(hole, images.flip(2) * 0.7 + 0.15, images)
    found, again = learned.fill(images, hole), learned.fill(other, hole)
    assert torch.equal(found[~hole], images[~hole])
    torch.testing.assert_close(found, again, rtol=1e-4, atol=1e-5)


def test_large_images_are_worked_at_a_smaller_size():
    assert [worked_at(side) for side in (28, 112, 113, 224, 320)] == [1, 1, 2, 2, 3]
    images = torch.full((1, 3, 225, 230), 0.4)
    hole = torch.zeros_like(images[:, :1], dtype=torch.bool)
    hole[..., 50:90, 60:100] = True
    small, known, empty = shrunk(images, ~hole, hole)
    assert small.shape[-2:] == (75, 77)
    assert float((small[known.expand_as(small)] - 0.4).abs().max()) < 1e-6
    assert not bool((known & empty).any())
    filled = Inpainter(spec_of(torch.rand(4, 3, 225, 230)), 2).fill(images, hole)
    torch.testing.assert_close(filled, images, rtol=1e-3, atol=1e-4)


def test_evidence_is_left_out_of_what_is_learned():
    images, true = pictures(24)
    within, decided = torch.ones_like(true), torch.arange(24) % 2
    found = survey(images, within, decided, 2, words=32, seed=0)
    free = free_of_evidence(found, images, within, decided)
    assert float(free[true].float().mean()) < 0.05
    assert float(free.float().mean()) > 0.5


def test_random_holes_leave_surroundings():
    found = holes(200, (48, 40), torch.Generator().manual_seed(0)).flatten(1).float().mean(1)
    assert 0.001 < float(found.median()) < 0.3
    assert float(found.max()) < 0.6


def test_a_lens_with_it_is_saved_resumed_and_explains(tmp_path):
    images, _ = pictures(60)
    backend = Infill(survey=60, words=24, parts=2, fill="learned", steps=6, batch_size=8, width=4)
    losses = []
    options = {"progress": False, "seed": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        whole = xlens.fit(Bright(), images, backend, on_step=lambda event: losses.append(event), **options)

        def stop(event):
            if event.step == 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            xlens.fit(Bright(), images, backend, on_step=stop, output_dir=tmp_path / "run", **options)
        again = xlens.fit(Bright(), images, backend, output_dir=tmp_path / "run", resume=True, **options)
        assert [event.phase for event in losses] == ["inpainter"] * 6
        assert losses[0].total == 6
        whole.save(tmp_path / "lens")
        loaded = xlens.load(tmp_path / "lens", Bright())
        after = [one.explain(images[1:6:2]).counterfactual for one in (whole, again, loaded)]
    assert torch.equal(after[0], after[2])
    torch.testing.assert_close(after[0], after[1])
    assert any("inpainter" in name for name in whole.lens.state_dict())


def test_options_of_the_training_are_refused_where_nothing_is_trained():
    with pytest.raises(OptionError, match="fill='nearest' is not trained, and has no steps, width"):
        Infill(fill="nearest", steps=5, width=8)
    assert dataclasses.replace(Infill(fill="learned", steps=5), steps=400, fill="harmonic").fill == "harmonic"
