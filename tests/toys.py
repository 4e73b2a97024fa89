"""Lenses for the toy world of ``xlens.testing``, on pictures of 8x8 with patches of 3x3; one is exact."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import nn

import xlens
from xlens.testing.world import BACKGROUND, BRIGHT, DARK, Cnn, patch_of, pictures, trained_cnn

__all__ = ["BACKGROUND", "BRIGHT", "DARK", "SHORT_MASK", "Cnn", "patch_of", "pictures", "trained_cnn"]

#: A mask fitted in three steps on few inputs, for tests in which it does not matter.
SHORT_MASK = xlens.MaskOptions(steps=3, batch_size=16, pool=64)


class ToyLens(xlens.Lens):
    """Exact by construction: code = background, bright part and dark part of each pixel; decode = their sum."""

    reference_class = 0

    def __init__(self) -> None:
        super().__init__()
        template = torch.zeros(1, 8, 8)
        template[:, 2:5, 2:5] = 1.0
        # A parameter, so that there is something to store.
        self.template = nn.Parameter(template.flatten())

    def encode(self, inputs):
        flat = inputs.flatten(1)
        bright, dark = (flat - 0.5).clamp_min(0), (flat + 1.5).clamp_max(0)
        return torch.cat([flat - bright - dark, bright, dark], 1)

    def decode(self, codes):
        return codes.view(-1, 3, 1, 8, 8).sum(1)

    def counterfactual(self, codes, target, contrast):
        background, bright, dark = codes.split(64, 1)
        # Where a patch is taken away, what was saturated at its threshold goes back to the background.
        patch = (bright > 0) | (dark < 0)
        background = torch.where(patch, torch.full_like(background, -0.5), background)
        add = lambda c, height: (contrast == c).float().unsqueeze(1) * self.template * height  # noqa: E731
        return torch.cat([background, add(1, BRIGHT + 0.5), add(2, DARK + 0.5)], 1)

    @property
    def features(self):
        return (
            xlens.Feature("background", tuple(range(64)), "nuisance"),
            xlens.Feature("bright", tuple(range(64, 128)), "class", 1),
            xlens.Feature("dark", tuple(range(128, 192)), "class", 2),
        )

    def sample(self, n, target, generator):
        codes = torch.zeros(n, 192)
        codes[:, :64] = torch.rand(n, 64, generator=generator) - 1
        contrast = torch.full((n,), target)
        moved = self.counterfactual(codes, contrast, contrast)
        return self.decode(moved)

    def invariances(self, codes, n, scale, generator, vary):
        varied = codes.unsqueeze(1).repeat(1, n, 1)
        if vary == "nuisance":
            noise = torch.randn(len(codes), n, 64, generator=generator)
            varied[:, :, :64] += scale * 0.1 * noise
        else:
            varied[:, :, 64:] *= 1 + scale * torch.rand(len(codes), n, 1, generator=generator)
        return varied


class SloppyLens(ToyLens):
    """Changes the background as well when it takes the evidence away."""

    def counterfactual(self, codes, target, contrast):
        moved = super().counterfactual(codes, target, contrast)
        wave = torch.linspace(-0.6, 0.6, 64)
        return torch.cat([moved[:, :64] + wave, moved[:, 64:]], 1)


class BlindLens(ToyLens):
    """Does not reproduce the input: every code decodes to a bright patch."""

    def decode(self, codes):
        return super().decode(codes) * 0 - 0.5 + (self.template * 2.5).view(1, 1, 8, 8)


class StuckLens(ToyLens):
    """Its counterfactual is the input itself."""

    def counterfactual(self, codes, target, contrast):
        return codes.clone()


class NanLens(ToyLens):
    """Decodes to NaN."""

    def decode(self, codes):
        return super().decode(codes) * float("nan")


class VectorLens(xlens.Lens):
    """For inputs that are vectors: the code is the input, the counterfactual its mirror image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def encode(self, inputs):
        return inputs / self.scale

    def decode(self, codes):
        return codes * self.scale

    def counterfactual(self, codes, target, contrast):
        return -codes

    @property
    def features(self):
        return (xlens.Feature("all", tuple(range(len(self.scale))), "class"),)


@xlens.options
class Toy(xlens.Backend):
    """The faithful lens; nothing to train."""

    name = "toy"
    capabilities = ("sample", "invariances")

    strength: float = xlens.param(1.0, ge=0, help="not used")
    kind: str = xlens.param("exact", choices=("exact", "sloppy"), help="which lens")

    def fit(self, classifier, data, run):
        return self.build(classifier, run.spec)

    def build(self, classifier, spec):
        return SloppyLens() if self.kind == "sloppy" else ToyLens()


@xlens.options
class Plain(xlens.Backend):
    """A lens for vectors that can do nothing beyond explaining."""

    name = "plain"

    def fit(self, classifier, data, run):
        return self.build(classifier, run.spec)

    def build(self, classifier, spec):
        return VectorLens(spec.shape[0])


class _Plugin:
    """What an entry point loads: an object with the hook."""

    def __init__(self, backend):
        self._backend = backend

    @xlens.hookimpl
    def xlens_backend(self):
        return self._backend


TOY_PLUGIN, PLAIN_PLUGIN = _Plugin(Toy), _Plugin(Plain)


def linear_classifier(shape, k=2):
    torch.manual_seed(0)
    return xlens.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), k)))


def spec(shape, k=2, margins=None):
    low, high, mean, std = ((value,) * shape[0] for value in (-1.5, 2.0, 0.2, 0.7))
    return xlens.Spec(
        shape=shape,
        num_classes=k,
        minimum=low,
        maximum=high,
        mean=mean,
        std=std,
        class_margins=margins or tuple(tuple(0.0 if a == b else 4.0 for b in range(k)) for a in range(k)),
    )


def explainer_with(lens: xlens.Lens, like):
    """Return an explainer like `like`, around another lens."""
    fitted = dataclasses.replace(like.fitted, lens=lens.eval().requires_grad_(False))
    return xlens.LensExplainer(fitted)


def run_for(inputs: torch.Tensor, **changes):
    """Return a Run over these inputs with made-up facts."""
    channels = inputs.shape[1]
    spec = xlens.Spec(
        shape=tuple(inputs.shape[1:]),
        num_classes=2,
        minimum=(-1.0,) * channels,
        maximum=(1.0,) * channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )
    facts = {"seed": 0, "device": torch.device("cpu"), "spec": spec, "progress": False, "identity": "me"}
    return xlens.Run(**{**facts, **changes})


def margins(model, inputs, target, contrast):
    """Score the classifier by hand, in eval mode, beside the model's own state; ``(N,)``."""
    logits = copy.deepcopy(model).eval()(inputs).detach()
    return torch.stack([row[t] - row[c] for row, t, c in zip(logits, target, contrast, strict=True)])
