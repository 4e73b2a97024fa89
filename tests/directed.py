"""A lens whose directions, and what follows from them, are known."""

import torch
import torch.nn.functional as F

import xlens


class Directed(xlens.Lens):
    """The code is the picture; two correlated directions in it, and the classifier flips along one of them."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        patch, corner = torch.zeros(8, 8), torch.zeros(8, 8)
        patch[2:5, 2:5] = 1.0
        corner[:2, :2] = 1.0
        mixed = F.normalize(patch.flatten(), dim=0) + F.normalize(corner.flatten(), dim=0)
        self.register_buffer("patch", F.normalize(patch.flatten(), dim=0))
        self.register_buffer("mixed", F.normalize(mixed, dim=0))

    @property
    def directions(self):
        return {"patch": self.patch, "mixed": self.mixed}

    def encode(self, inputs):
        return inputs.flatten(1) / self.scale

    def decode(self, codes):
        return (codes * self.scale).view(-1, 1, 8, 8)

    def counterfactual(self, codes, target, contrast):
        sign = (contrast == 1).float() - (contrast != 1).float()
        return codes + 9 * sign[:, None] * self.patch

    @property
    def features(self):
        return (xlens.Feature("rows above", tuple(range(32)), "nuisance"), xlens.Feature("last", (63,), "nuisance"))


class ManyClasses(Directed):
    """K directions that sum to 0, each as far from the others as from any."""

    def __init__(self, k):
        super().__init__()
        self.k = k

    @property
    def directions(self):
        corners = torch.eye(self.k, 64) - torch.eye(self.k, 64).mean(0)
        return {f"class {c}": F.normalize(row, dim=0) for c, row in enumerate(corners)}
