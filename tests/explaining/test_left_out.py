"""An edit shows what a lens changes, and not what it cannot draw of the input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xlens
from xlens.attr.curve import Segment
from xlens.counterfactual.carry import CarriedCurve
from xlens.counterfactual.edit import Edit
from xlens.errors import UntrustworthyWarning
from xlens.explaining.likeness import left_out


def edit(carry, inputs, reconstruction, decoded, mask):
    """Return an edit whose images are given."""
    codes = torch.zeros(len(inputs), 1)
    low, high = torch.full((1, 1, 1, 1), -9.0), torch.full((1, 1, 1, 1), 9.0)
    curve = CarriedCurve(inputs, Segment(codes, codes), reconstruction, lambda codes: codes, carry, mask, low, high)
    return Edit(inputs, codes, codes, reconstruction, decoded, mask, decoded, inputs, curve)


def test_it_is_the_share_of_the_squares_within_the_mask():
    inputs = torch.zeros(3, 1, 4, 4)
    reconstruction, decoded = inputs.clone(), inputs.clone()
    reconstruction[:, :, :2] = 3.0  # three too many in the upper half, which the mask shows
    reconstruction[:, :, 2:] = 100.0  # and many more in the lower one, which it does not
    decoded[:] = reconstruction
    decoded[0, :, :2] += 4.0  # 9 of 9 + 16
    decoded[1, :, :2] += 0.0  # all of it
    reconstruction[2] = 0.0  # nothing of it
    mask = torch.zeros(3, 1, 4, 4)
    mask[:, :, :2] = 0.5
    found = left_out(edit("masked", inputs, reconstruction, decoded, mask))
    torch.testing.assert_close(found, torch.tensor([9 / 25, 1.0, 0.0]))
    # Where the change alone is carried, or nothing at all, nothing is left out.
    assert not left_out(edit("residual", inputs, reconstruction, decoded, None)).any()
    assert not left_out(edit("masked", inputs, reconstruction, decoded, 0 * mask)).any()


class Smear(xlens.Lens):
    """Draws images without their texture, and adds a little light against the class that they have."""

    features = (xlens.Feature("class", (0,), "class"), xlens.Feature("none", (1,), "nuisance"))

    def __init__(self, classifier, light, sharp):
        super().__init__()
        self._classifier, self.light, self.sharp = [classifier], light, sharp
        self.seen = nn.Parameter(torch.zeros(()))
        self.kept = torch.zeros(1, 1, 24, 24)

    def encode(self, inputs):
        self.kept = inputs.detach()
        return torch.stack([torch.zeros(len(inputs)), torch.arange(len(inputs)) / 64], 1)

    def decode(self, codes):
        inputs = self.kept[(64 * codes[:, 1]).round().long() % len(self.kept)]
        drawn = inputs if self.sharp else F.avg_pool2d(F.pad(inputs, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return drawn + self.light * codes[:, :1, None, None] + 0 * self.seen

    def counterfactual(self, codes, target, contrast):
        return torch.stack([(contrast - target).to(codes), codes[:, 1]], 1)


@xlens.options
class Smearing(xlens.Backend):
    """Blurs."""

    name = "smearing"
    light: float = 0.02
    sharp: bool = False

    def build(self, classifier, spec):
        return Smear(classifier, self.light, self.sharp)

    def fit(self, classifier, data, run):
        return self.build(classifier, run.spec)


class Textured(nn.Module):
    """Sees class 1 where pixels differ from their neighbours, and a little where it is bright."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(60.0))

    def forward(self, inputs):
        rough = (
            (inputs - F.avg_pool2d(F.pad(inputs, (1, 1, 1, 1), mode="replicate"), 3, 1)).square().mean((1, 2, 3))
        )
        score = self.scale * (rough.sqrt() - 0.05 + 0.2 * (inputs.mean((1, 2, 3)) - 0.5))
        return torch.stack([-score, score], 1)


@pytest.fixture(scope="module")
def textured():
    generator = torch.Generator().manual_seed(0)
    images = torch.full((40, 1, 24, 24), 0.5)
    images[::2] += 0.12 * torch.randn(20, 1, 24, 24, generator=generator)
    return images.clamp(0, 1)


@pytest.mark.parametrize(("light", "sharp", "blamed"), [(0.01, False, True), (0.6, True, False)])
def test_an_edit_that_smooths_the_texture_away_is_not_like_its_input(textured, light, sharp, blamed):
    backend = Smearing(light=light, sharp=sharp)
    explainer = xlens.fit(Textured(), textured, backend, mask=xlens.MaskOptions(steps=3), progress=False)
    with pytest.warns(UntrustworthyWarning):
        found = explainer.explain(textured[::2][:4], target=1, contrast=0, attributions=())
    said = [any("cannot draw of the input" in line for line in problems) for problems in found.problems]
    assert said == [blamed] * 4
    if blamed:
        assert not found.verdicts["likeness"].any()
