"""A backend that models whatever values it is given, and does that right."""

from __future__ import annotations

import math

import torch

import xlens


class ValuesLens(xlens.Lens):
    """Codes are the values themselves; a class is where the mean of its values lies."""

    def __init__(self, shape, classes):
        super().__init__()
        self.shape = shape
        self.register_buffer("means", torch.zeros(classes, math.prod(shape)))

    def encode(self, inputs):
        return inputs.flatten(1)

    def decode(self, codes):
        return codes.view(len(codes), *self.shape)

    def counterfactual(self, codes, target, contrast):
        return codes + self.means[contrast] - self.means[target]

    @property
    def features(self):
        return (xlens.Feature("values", tuple(range(math.prod(self.shape))), "class"),)


@xlens.options
class ExemplaryValues(xlens.Backend):
    """Takes the mean of the values of each class."""

    name = "exemplary"
    capabilities = ("representations",)

    def build(self, classifier, spec):
        return ValuesLens(spec.shape, spec.num_classes)

    def fit(self, classifier, data, run):
        lens = self.build(classifier, run.spec).to(run.device)
        batches = [batch.inputs.to(run.device) for batch in data.batches()]
        values = torch.cat(batches)
        with torch.no_grad():
            said = torch.cat([classifier(batch) for batch in batches]).argmax(1)
            for c in range(run.spec.num_classes):
                if bool((said == c).any()):
                    lens.means[c] = values[said == c].flatten(1).mean(0)
        return lens
