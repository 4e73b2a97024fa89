"""A backend that does everything right, of which the broken ones are made by changing one thing."""

from __future__ import annotations

import torch
import toys
from torch import nn

import xlens
from xlens.contracts import Question, Waypoints
from xlens.training import Trainer, supervising_logits


class ExemplaryLens(toys.ToyLens):
    """The exact lens of the toy world, with something to train and with every capability."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.full((64,), 0.1))
        self.register_buffer("balance", torch.zeros(3))
        self.register_buffer("brighter", torch.full((192,), 192**-0.5))
        self.register_buffer("below", torch.zeros(()))
        self.register_buffer("kept", torch.zeros(30, 1, 8, 8))
        self.register_buffer("kept_classes", torch.zeros(30, dtype=torch.long))

    def decode(self, codes):
        return super().decode(codes) + 0.0001 * self.offset.view(1, 8, 8)

    def sample(self, n, target, generator):
        codes = self.template.new_zeros(n, 192)
        codes[:, :64] = torch.rand(n, 64, generator=generator, device=codes.device) - 1
        classes = torch.full((n,), target, device=codes.device)
        # Its own, so that a broken counterfactual breaks nothing else.
        return self.decode(ExemplaryLens.counterfactual(self, codes, classes, classes))

    def invariances(self, codes, n, scale, generator, vary):
        varied = codes.unsqueeze(1).repeat(1, n, 1)
        if vary == "nuisance":
            noise = torch.randn(len(codes), n, 64, generator=generator, device=codes.device)
            varied[:, :, :64] += scale * 0.05 * noise
        else:
            varied[:, :, 64:] += scale * torch.rand(len(codes), n, 1, generator=generator, device=codes.device)
        return varied

    def invert(self, inputs, *, steps, restarts, generator):
        codes = torch.randn(restarts, len(inputs), 192, generator=generator, device=inputs.device)
        for _ in range(steps):
            # Gradient descent on half the squared error; each pixel is a sum of three parts.
            lack = inputs - self.decode(codes.flatten(0, 1)).view(restarts, *inputs.shape)
            codes = codes + lack.flatten(2).repeat(1, 1, 3) / 6
        return codes

    def divergence(self, inputs, variants, part):
        dims = slice(0, 64) if part == "nuisance" else slice(64, 192)
        return (self.encode(inputs)[:, dims] - self.encode(variants)[:, dims]).square().sum(1)

    def retrieve(self, codes, classes=None, first=()):
        distance = torch.cdist(codes[:, :64], self.encode(self.kept)[:, :64])
        if classes is not None:
            distance = distance.masked_fill(self.kept_classes != classes.unsqueeze(1), torch.inf)
        return self.kept[distance.argmin(1)]

    def waypoints(self, codes, moved):
        between = torch.stack([moved, (codes + moved) / 2, codes], 1)
        return Waypoints(between, self.decode(between.flatten(0, 1)).unflatten(0, (-1, 3)))

    @property
    def questions(self):
        return [Question("bright", (0.0, 1.0))]

    def informativeness(self, inputs, strategy, generator):
        return inputs.flatten(1).mean(1) + torch.rand(len(inputs), generator=generator)

    def teach(self, inputs, side_info, run):
        with torch.no_grad():
            self.template += 0.01

    @property
    def directions(self):
        return {"brighter": self.brighter}


@xlens.options
class Exemplary(xlens.Backend):
    """Trains an offset away, and remembers how often the classifier predicts each class.

    The last column of `side_info` says in which direction of the code something grows; from a lens that it is
    fitted over it takes how long that lens's codes are.
    """

    name = "exemplary"
    capabilities = (
        "sample", "invariances", "invert", "side_info", "over", "divergence", "directions", "retrieve", "teach",
        "waypoints",
    )  # fmt: skip

    steps: int = xlens.param(8, ge=1, le=100, help="training steps")
    rate: float = xlens.param(0.1, gt=0, lt=1, help="learning rate")
    batch_size: int = xlens.param(32, ge=1, help="inputs per step")
    kind: str = xlens.param("exact", choices=("exact",), help="which lens")

    def build(self, classifier, spec, over=None):
        if spec.shape != (1, 8, 8):
            raise xlens.errors.UnsupportedError("exemplary: only pictures of 8x8", given=spec.shape)
        return ExemplaryLens()

    def fit(self, classifier, data, run):
        lens = self.build(classifier, run.spec).to(run.device)
        self.train(lens, classifier, data, run)
        with torch.no_grad():
            first = next(iter(data.batches(30))).inputs[:30]
            lens.kept[: len(first)] = first
            lens.kept_classes[: len(first)] = classifier(first).argmax(1)
            if run.side_info is not None:
                column = run.side_info[:, -1].to(run.device, torch.float32)
                seen = column.isfinite()
                codes = torch.cat([lens.encode(batch.inputs.to(run.device)) for batch in data.batches()])[seen]
                slope = (codes - codes.mean(0)).T @ (column[seen] - column[seen].mean())
                lens.brighter.copy_(nn.functional.normalize(slope, dim=0))
            if run.over is not None:
                lengths = [run.over.lens.encode(batch.inputs).norm(dim=1) for batch in data.batches()]
                lens.below.copy_(torch.cat(lengths).mean())
        return lens

    def train(self, lens, classifier, data, run):
        optimizer = torch.optim.Adam([lens.offset], self.rate)
        trainer = Trainer(run, "offset", networks={"lens": lens}, optimizers={"lens": optimizer}, steps=self.steps)

        def step(batch):
            noise = torch.randn(lens.offset.shape, generator=trainer.generator)
            loss = (lens.offset + 0.01 * noise).square().sum()
            trainer.minimise(loss, "lens")
            classes = supervising_logits(classifier, run, batch).argmax(1)
            lens.balance += torch.bincount(classes, minlength=3)
            return {"loss": loss}

        trainer.fit(data, step, batch_size=self.batch_size)
