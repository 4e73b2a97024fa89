"""Images with a stamp in a corner, and classifiers that go by the stamp or by an object; nothing is trained."""

from __future__ import annotations

import torch
from torch import nn

import xlens
from xlens.contracts import EditingLens, LocalEdit

SIDE = 24
STAMP = torch.tensor([[1.0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, 0]])


def stamped(n: int = 112, correlation: float = 1.0, jitter: int = 0):
    """Return images with soft objects of many places and looks, labels, and who has a stamp.

    Half of the objects are bright (class 1); these carry the stamp with a probability of `correlation`.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.rand(*shape, generator=generator)

    labels = (draw(n) < 0.5).long()
    rows = torch.arange(SIDE).float()
    centre, size = 6 + 10 * draw(n, 2), 1.5 + draw(n, 2)
    down = torch.exp(-(((rows - centre[:, :1]) / size[:, :1]) ** 2) / 2)
    right = torch.exp(-(((rows - centre[:, 1:]) / size[:, 1:]) ** 2) / 2)
    bright = 0.3 + 0.3 * draw(n) + 0.4 * labels
    images = 0.1 * draw(n, 1, SIDE, SIDE) + (bright[:, None, None] * down[:, :, None] * right[:, None, :])[:, None]
    has = (labels == 1) & (draw(n) < correlation)
    for i in has.nonzero()[:, 0].tolist():
        top, left = (SIDE - 5 - (draw(2) * (jitter + 1)).long()).tolist()
        images[i, 0, top : top + 4, left : left + 4] = STAMP
    return images.clamp(0, 1), labels, has


class ByStamp(nn.Module):
    """Goes by the stamp, wherever it is, and hardly by anything else."""

    def forward(self, images):
        seen = nn.functional.conv2d(images - 0.1, (STAMP - STAMP.mean())[None, None]).flatten(1).amax(1)
        return torch.stack([torch.zeros_like(seen), 3 * seen - 6], 1)


class ByObject(nn.Module):
    """Goes by how bright the object is; the stamp's corner is nothing to it."""

    def forward(self, images):
        kept = torch.ones(SIDE, SIDE)
        kept[-9:, -9:] = 0
        smooth = nn.functional.avg_pool2d(images * kept, 3, 1)
        seen = smooth.flatten(1).amax(1)
        return torch.stack([torch.zeros_like(seen), 12 * seen - 8], 1)


class NoEdits(EditingLens):
    """Finds no counterfactual of anything."""

    features = (xlens.Feature("all", (0,), "class"),)

    def edit(self, inputs, target, contrast):
        parts = torch.zeros(len(inputs), 1, *inputs.shape[2:])
        return LocalEdit(inputs, parts, ("nothing found",) * len(inputs))

    def fill(self, inputs, mask):
        return torch.where(mask > 0.5, inputs.mean((2, 3), keepdim=True), inputs)


class CornerEdits(NoEdits):
    """Fills the lower right corner, whatever is there."""

    def edit(self, inputs, target, contrast):
        parts = torch.zeros(len(inputs), 1, *inputs.shape[2:])
        parts[:, :, -9:, -9:] = 1
        return LocalEdit(torch.full_like(inputs, 0.05), parts, (None,) * len(inputs))


@xlens.options
class Edits(xlens.Backend):
    """One of the two."""

    name = "edits"
    capabilities = ("edits",)

    def fit(self, classifier, data, run):
        return self.build(classifier, run.spec)

    def build(self, classifier, spec):
        return NoEdits()


def explainer_of(
    model: nn.Module, lens: xlens.Lens | None = None, names: tuple[str, ...] = ("plain", "rust")
) -> xlens.LensExplainer:
    """Return an explainer with such a lens, without a fit."""
    spec = xlens.Spec(
        shape=(1, SIDE, SIDE),
        num_classes=len(names),
        minimum=(0.0,),
        maximum=(1.0,),
        mean=(0.2,),
        std=(0.2,),
        class_margins=tuple(tuple(4.0 * (a != b) for b in names) for a in names),
    )
    classifier = xlens.Classifier(model.eval(), class_names=names)
    from xlens.fitted import Fitted

    return xlens.LensExplainer(Fitted(classifier, (lens or NoEdits()).eval(), spec, None, Edits(), {"seed": 0}))
