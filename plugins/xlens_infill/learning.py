"""Training of the inpainter, on images and regions that the classifier's survey calls free of evidence.

The classifier is asked nothing here, and no gradient of it is taken: what its survey calls evidence for an image's
own class is left out of what the network sees and of what it has to reproduce.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens import Run
from xlens.data import Batch, as_data
from xlens.training import Trainer, warmed_and_decayed
from xlens_infill.fill import harmonic, normalised_blur
from xlens_infill.learned import Inpainter, shrunk
from xlens_infill.survey import LEVELS, Survey, levels_of

RIM = 3  # pixels at 224 px around evidence that are no clean surroundings either
STROKES = 5  # ellipses that a random hole is made of, at most
RADII = (0.02, 0.16)  # of an ellipse, as shares of the side
TEXTURE = 0.3  # weight of the strength of edges inside the hole


def free_of_evidence(s: Survey, x: Tensor, within: Tensor, decided: Tensor) -> Tensor:
    """Return where images ``(N, C, H, W)`` show nothing that tells their class from others, ``(N, 1, H, W)``."""
    free = within.clone()
    total = s.counts.sum(0)
    reach = max(1, round(RIM * min(x.shape[-2:]) / 224))
    for c in decided.unique().tolist():
        against_rest = Survey(s.mean, s.basis, s.words, torch.stack([s.counts[c], total - s.counts[c]]))
        level = levels_of(against_rest, x, within, (decided != c).long(), 2)[0, 1, len(LEVELS) - 1]
        for i in (decided == c).nonzero()[:, 0].tolist():
            one = slice(i, i + 1)
            found = against_rest.evidence(x[one], within[one], 0, 1) > level
            free[one] &= F.max_pool2d(found.to(x.dtype), 2 * reach + 1, 1, reach) == 0
    return free


def learn(net: Inpainter, run: Run, x: Tensor, free: Tensor, *, steps: int, batch_size: int, rate: float) -> None:
    """Train on images ``(N, C, H, W)`` where they are free of evidence."""
    blurred, _, _ = shrunk(normalised_blur(x, free), free, ~free)
    _, clean, _ = shrunk(x, free, ~free)
    data = as_data(torch.cat([blurred, clean.to(x.dtype)], 1).cpu())
    trainer = Trainer(
        run,
        "inpainter",
        networks={"inpainter": net},
        optimizers={"inpainter": torch.optim.Adam(net.parameters(), rate)},
        steps=steps,
        schedule=lambda done: warmed_and_decayed(done),
        ema={"inpainter": 0.98},
        clip=1.0,
    )

    def step(batch: Batch) -> Mapping[str, Tensor]:
        target, clean = batch.inputs[:, :-1], batch.inputs[:, -1:] > 0.5
        hole = holes(len(target), target.shape[-2:], trainer.generator)
        known, asked = clean & ~hole, clean & hole
        base = harmonic(target, known, hole)
        found = base + net(base, known, hole)
        edges = _edges(found, target, asked, 1) + _edges(found, target, asked, 2)
        losses = {
            "difference": _mean((found - target).abs() / net.std, asked),
            "texture": (edges / net.std).mean() / 2,
        }
        trainer.minimise(losses["difference"] + TEXTURE * losses["texture"], "inpainter")
        return losses

    trainer.fit(data, step, batch_size=batch_size)
    net.load_state_dict(trainer.averaged("inpainter").state_dict())


def holes(count: int, size: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
    """Return random unions of ellipses ``(count, 1, *size)`` bool."""
    height, width = size
    device = generator.device
    drawn = torch.rand(count, STROKES, 6, 1, 1, generator=generator, device=device)
    row, column, first, second, angle, there = drawn.unbind(2)
    y = (torch.arange(height, device=device)[:, None] + 0.5) / height - row
    x = (torch.arange(width, device=device) + 0.5) / width - column
    turn = angle * torch.pi
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    low, high = RADII
    # Small ones are more frequent than large ones.
    one, two = (low * (high / low) ** share for share in (first, second))
    inside = (along / one) ** 2 + (across / two) ** 2 < 1
    inside[:, 1:] &= there[:, 1:] < 0.6
    return inside.any(1, keepdim=True)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / (where.sum() * values.shape[1]).clamp(min=1)


def _edges(found: Tensor, target: Tensor, where: Tensor, reach: int) -> Tensor:
    """Return by how much edges inside the hole differ in strength, ``(N, C, 1, 1)``: not in where they are."""
    out = torch.zeros_like(found[:, :, :1, :1])
    for axis in (2, 3):
        both = where & where.roll(reach, axis)
        number = both.sum((2, 3), keepdim=True).clamp(min=1)
        strengths = [((u - u.roll(reach, axis)).abs() * both).sum((2, 3), keepdim=True) for u in (found, target)]
        out = out + (strengths[0] - strengths[1]).abs() / number
    return out
