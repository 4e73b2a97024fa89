"""A backend whose lens edits inputs directly and does everything right; the broken ones change one thing."""

from __future__ import annotations

import torch
from exemplary import Exemplary
from torch import nn

import xlens
from xlens.contracts import EditingLens, LocalEdit
from xlens.testing.world import BRIGHT, DARK, patch_of


class ExemplaryEditingLens(EditingLens):
    """Fills the patch of the toy world with background, and puts the contrast class's in the middle."""

    features = (xlens.Feature("what comes", (0,), "class"), xlens.Feature("what goes", (1,), "class"))

    def __init__(self, classifier) -> None:
        super().__init__()
        self._classifier = [classifier]
        self.offset = nn.Parameter(torch.full((64,), 0.1))
        self.register_buffer("balance", torch.zeros(3))
        template = torch.zeros(1, 1, 8, 8)
        template[..., 2:5, 2:5] = 1.0
        self.register_buffer("template", template)

    def fill(self, inputs, mask):
        return torch.full_like(inputs, -0.5) + 0.0001 * self.offset.view(1, 8, 8)

    def edit(self, inputs, target, contrast):
        height = inputs.new_tensor([0.0, BRIGHT + 0.5, DARK + 0.5])[contrast][:, None, None, None]
        comes = self.template * (contrast > 0)[:, None, None, None]
        goes = patch_of(inputs).to(inputs.dtype) * (1 - comes)
        parts = torch.cat([comes, goes], 1)
        filled = self.fill(inputs, parts.sum(1, keepdim=True)) + height * comes
        after = inputs + parts.sum(1, keepdim=True) * (filled - inputs)
        flips = torch.stack([self._classifier[0](one[None]).argmax(1)[0] for one in after]) == contrast
        return LocalEdit(filled, parts, tuple(None if flip else "it does not flip" for flip in flips.tolist()))


@xlens.options
class ExemplaryEdits(Exemplary):
    """Trains an offset away, as the exemplary backend that decodes."""

    name = "exemplary_edits"
    capabilities = ("edits",)

    def build(self, classifier, spec):
        super().build(classifier, spec)
        return ExemplaryEditingLens(classifier)

    def fit(self, classifier, data, run):
        lens = self.build(classifier, run.spec).to(run.device)
        self.train(lens, classifier, data, run)
        return lens
