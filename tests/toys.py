"""A toy world whose answers are known: a patch in an 8x8 picture decides its class.

Class 0 has no patch, class 1 a bright one and class 2 a dark one, 3x3 at a random place on a weak background
between -1 and 0. Values lie between about -3 and 2, so nothing may assume [0, 1].
"""

from __future__ import annotations

import torch
from torch import nn

import xlens

BRIGHT, DARK = 2.0, -3.0
BACKGROUND = (-1.0, 0.0)


def pictures(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures ``(n, 1, 8, 8)`` and their classes ``(n,)``."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(n, 1, 8, 8, generator=generator) - 1
    labels = torch.arange(n) % 3
    for i, label in enumerate(labels.tolist()):
        row, column = torch.randint(0, 6, (2,), generator=generator).tolist()
        if label:
            inputs[i, :, row : row + 3, column : column + 3] = BRIGHT if label == 1 else DARK
    return inputs, labels


def patch_of(inputs: torch.Tensor) -> torch.Tensor:
    """Return where the cause is, ``(n, 1, 8, 8)`` bool."""
    return (inputs < BACKGROUND[0]) | (inputs > BACKGROUND[1])


class Cnn(nn.Module):
    """Small, with everything that makes freezing hard: batch norm, dropout, in-place ReLU."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
        )
        self.head = nn.Linear(32, classes)

    def forward(self, inputs):
        return self.head(self.body(inputs))


def trained_cnn() -> Cnn:
    """Return a seeded classifier with an accuracy near 1, messy as a user would hand it over."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Cnn()
        inputs, labels = pictures(384, seed=7)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(8):
            for index in torch.randperm(len(inputs)).split(64):
                loss = nn.functional.cross_entropy(model(inputs[index]), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.head.bias.grad = torch.tensor([1.0, float("nan"), 0.0])
    model.body[0].weight.requires_grad_(False)
    model.body[3].eval()
    model.head.register_forward_hook(lambda *_: None)
    return model


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


def explainer_with(lens: xlens.Lens, like):
    """Return an explainer like `like`, around another lens."""
    from xlens.explainer import LensExplainer

    return LensExplainer(
        like.classifier, lens.eval().requires_grad_(False), like.backend, like.spec, like.mask, like.provenance
    )


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
