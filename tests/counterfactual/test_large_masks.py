"""The mask of large inputs: the classifier is asked seldom, and what is kept of it is what it would say again."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

import xlens
from xlens.counterfactual import EditMask
from xlens.counterfactual.mask_options import is_large

SIDE = 72


def spec_of(side):
    return xlens.Spec(
        shape=(1, side, side), num_classes=2, minimum=(0.0,), maximum=(1.0,), mean=(0.5,), std=(0.3,),
        class_margins=((0.0, 4.0), (4.0, 0.0)),
    )  # fmt: skip


class Spot(nn.Module):
    """Says whether there is a bright spot in the middle."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.look = nn.Conv2d(1, 4, 5, 4, 2)

    def forward(self, inputs):
        maps = self.look(inputs)
        score = 40 * (inputs[..., 30:42, 30:42].mean((1, 2, 3)) - 0.75) + 1e-3 * maps.mean((1, 2, 3))
        return torch.stack([-score, score], 1)


class DimLens(xlens.Lens):
    """Its counterfactual has every pixel dark, or, without a spot, bright."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encode(self, inputs):
        return inputs.flatten(1)

    def decode(self, codes):
        return codes.view(-1, 1, SIDE, SIDE)

    def counterfactual(self, codes, target, contrast):
        return torch.where(contrast[:, None] == 1, 0.95, 0.3).expand_as(codes)

    @property
    def features(self):
        return (xlens.Feature("all", tuple(range(SIDE**2)), "nuisance"),)


@xlens.options
class Dim(xlens.Backend):
    """Fits nothing."""

    name = "dim"

    def build(self, classifier, spec):
        return DimLens()

    def fit(self, classifier, data, run):
        return DimLens()


def spots(n):
    generator = torch.Generator().manual_seed(0)
    images = 0.5 + 0.2 * F.interpolate(torch.rand(n, 1, 9, 9, generator=generator) - 0.5, (SIDE, SIDE))
    images[::2, :, 28:44, 28:44] = 0.95
    return images


def fitted(n=80, **options):
    mask = xlens.MaskOptions(**options) if options else None
    return xlens.fit(Spot(), spots(n), Dim(), mask=mask, progress=False)


def test_large_inputs_get_fewer_and_smaller_batches_and_options_go_first():
    assert [is_large(spec_of(side)) for side in (28, 64, 65)] == [False, False, True]
    small, large = (xlens.MaskOptions().plan(spec_of(side)) for side in (64, 224))
    assert dataclasses.astuple(small) == (420, 140, 64, 4096, 64)
    assert large.steps * large.batch_size * 10 <= small.steps * small.batch_size
    assert xlens.MaskOptions(steps=7, pool=9).plan(spec_of(224)).pool == 9
    assert xlens.MaskOptions(steps=7).plan(spec_of(224)).batch_size == large.batch_size


def test_the_passes_of_a_mask_are_those_of_its_steps():
    """Each step asks about each of its inputs once, and takes one gradient; maps are kept, and so are logits."""
    found = [fitted(steps=steps, batch_size=8).provenance["passes"] for steps in (2, 12)]
    assert found[1]["forward"] - found[0]["forward"] == 80
    assert found[1]["backward"] - found[0]["backward"] == 80
    # Inputs, decoded ones and maps once each, beside the survey and the checks of the fit; and in the end inputs,
    # their reconstructions, and counterfactuals of 32, for whether the lens is sound.
    assert found[0]["forward"] <= 32 + 5 * 80 + 2 * 80 + 32


def test_kept_maps_say_what_the_classifier_would_say_again():
    torch.manual_seed(0)
    images, classifier = spots(6), xlens.Classifier(Spot())
    mask = EditMask(classifier, 1, 2, images)
    for projection in mask.projections:
        nn.init.normal_(projection.weight, 0, 1)
    nn.init.normal_(mask.exit.weight, 0, 0.3)
    given = (images, images * 0.9, images * 0.3, torch.zeros(6, dtype=torch.long))
    with torch.no_grad():
        asked, kept = mask(*given), mask(*given, mask.coarse_maps(images))
        without = mask(*given, [torch.zeros_like(one) for one in mask.coarse_maps(images)])
    assert torch.allclose(asked, kept, atol=1e-4)
    assert not torch.allclose(asked, without, atol=0.1)


def test_the_shorter_fit_still_confines_the_edit():
    images = spots(80)
    found = fitted(n=40, batch_size=4).explain(images[:8:2], attributions=())
    inside = found.edit.square()[..., 22:50, 22:50].flatten(1).sum(1)
    assert found.fidelity.flips.all()
    assert (inside / found.edit.square().flatten(1).sum(1)).min() > 0.9
