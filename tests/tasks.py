"""A training that uses all of the trainer, for its tests."""

from __future__ import annotations

import torch
import toys
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from xlens.data import as_data
from xlens.training import Trainer

X = torch.randn(23, 6, generator=torch.Generator().manual_seed(0))
STEPS = 13
DATA = {
    "indexed": lambda: X,
    "shuffling loader": lambda: DataLoader(TensorDataset(X), batch_size=4, shuffle=True),
}


class Task:
    """Two networks, two optimisers, an average, dropout, and noise of both kinds."""

    def __init__(self, data="indexed", steps=STEPS, at_step=lambda task: None, checkpoint_every=5, **run):
        self.at_step, self.data, self.calls, self.history = at_step, as_data(DATA[data]()), 0, []
        torch.manual_seed(1)
        self.networks = {
            "a": nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 6)),
            "b": nn.Linear(6, 1),
        }
        self.trainer = Trainer(
            toys.run_for(X, **run),
            "toy",
            networks=self.networks,
            optimizers={
                "a": torch.optim.Adam(self.networks["a"].parameters(), 1e-2),
                "b": torch.optim.SGD(self.networks["b"].parameters(), 1e-2, momentum=0.9),
            },
            steps=steps,
            schedule=lambda done: 1 - done / 2,
            ema={"a": 0.8},
            clip=1.0,
            checkpoint_every=checkpoint_every,
        )

    def step(self, batch):
        self.calls += 1
        noise = 0.1 * torch.randn(batch.inputs.shape, generator=self.trainer.generator)
        a, b = self.networks["a"], self.networks["b"]
        loss_a = (a(batch.inputs + noise) - batch.inputs).square().mean() - 0.1 * b(a(batch.inputs)).mean()
        self.trainer.minimise(loss_a, "a")
        loss_b = b(batch.inputs + torch.rand(())).square().mean() + b(a(batch.inputs).detach()).mean().exp()
        self.trainer.minimise(loss_b, "b")
        self.history.append(self.networks["a"][0].weight.detach().clone())
        self.at_step(self)
        return {"a": loss_a, "b": loss_b}

    def fit(self):
        self.trainer.fit(self.data, self.step, batch_size=4)
        return self

    def result(self):
        found = {f"{n}.{k}": v.clone() for n, net in self.networks.items() for k, v in net.state_dict().items()}
        average = self.trainer.averaged("a").state_dict()
        found |= {f"average.{key}": value.clone() for key, value in average.items()}
        return found | {"next": torch.rand(3), "noise": torch.rand(3, generator=self.trainer.generator)}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
