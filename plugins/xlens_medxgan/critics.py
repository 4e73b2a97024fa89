"""What judges edits and samples while the lens is trained; no part of the lens that is kept."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from xlens import Classifier, Spec
from xlens.nn import Layout, Penultimate, copied, margin_over_rest

__all__ = ["ClassifierCritic", "ProjectionDiscriminator", "shifted"]


class ClassifierCritic(nn.Module):
    """A critic of (input, class) pairs that begins as a copy of the classifier.

    Because it knows already what the classifier looks for, it soon sees evidence that only fools the classifier.
    Its logit is a linear function of its features, of the class and, with a fixed weight, of its own class margin.

    Args:
        classifier: the user's classifier; copied, and not touched.
        probe: ``(N, *S)`` inputs to find its last layer with.
        margin: typical margin of the classifier, by which the critic's own is scaled.

    Raises:
        ModelError: the model cannot be copied.
    """

    def __init__(self, classifier: Classifier, probe: Tensor, margin: float) -> None:
        super().__init__()
        do = "set critic_weight=0, or make the model work with copy.deepcopy"
        self.body = copied(classifier.model, "medxgan", do).float().eval()
        for parameter in self.body.parameters():
            # One by one: a traced module has no way to be asked as a whole.
            parameter.requires_grad_(True)
        critic = classifier.around(self.body)
        self._features = Penultimate(critic, self.body, probe)
        with torch.no_grad():
            num_classes = critic(probe[:1]).shape[1]
        self.head = nn.Linear(self._features.width, 1 + num_classes)
        nn.init.normal_(self.head.weight, 0, 0.02)
        nn.init.zeros_(self.head.bias)
        self.scale = 2 / max(margin, 1e-3)

    def train(self, mode: bool = True) -> ClassifierCritic:
        """Set the mode of the head; the copy stays in eval mode, as the classifier was when judged."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :meth:`judge` needs: logits and features, for inputs ``(N, *S)``."""
        return self._features(inputs)

    def judge(self, seen: tuple[Tensor, Tensor], classes: Tensor) -> Tensor:
        """Return how real each input looks as a member of its class, ``(N,)``."""
        logits, features = seen
        scores = self.head(features)
        own = scores[:, 1:].gather(1, classes[:, None])[:, 0]
        return scores[:, 0] + own + self.scale * margin_over_rest(logits, classes)


class ProjectionDiscriminator(nn.Module):
    """A discriminator, spectrally normalised and conditioned on the class by projection where that is asked for.

    Args:
        spec: shape, range and classes.
        width: channels at full resolution, doubled at each halving.
        conditional: whether it sees the class; the paper's does not.
        dense: width of fully connected layers, in place of convolutions; None for convolutions.
        spectral: whether layers are spectrally normalised; the paper's are not.

    References:
        Miyato, Koyama (2018), cGANs with Projection Discriminator.
    """

    low: Tensor
    span: Tensor

    def __init__(
        self,
        spec: Spec,
        width: int = 32,
        conditional: bool = True,
        dense: int | None = None,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        self.register_buffer("low", spec.per_channel("minimum"), persistent=False)
        self.register_buffer("span", spec.span(), persistent=False)
        self.layout = None if dense is not None else Layout(spec.shape)
        channels = width // 2 if dense is None else dense
        normed = spectral_norm if spectral else _as_it_is
        self.convolutions = nn.Sequential(*_layers(spec, self.layout, channels, normed))
        if self.layout is not None:
            channels *= 2 ** _halvings(self.layout)
        self.head = normed(nn.Linear(channels, 1))
        self.num_classes = spec.num_classes
        self.embedding = normed(nn.Linear(spec.num_classes, channels, bias=False)) if conditional else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features ``(N, channels)``, of images summed over the image."""
        scaled = 2 * (inputs - self.low) / self.span - 1
        if self.layout is None:
            return self.convolutions(scaled)
        return self.convolutions(self.layout.pad(scaled)).sum((2, 3))

    def judge(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return how real each input looks, ``(N,)``."""
        score = self.head(features)[:, 0]
        if self.embedding is None:
            return score
        wanted = F.one_hot(classes, self.num_classes).to(features.dtype)
        return score + (self.embedding(wanted) * features).sum(1)


def _halvings(layout: Layout) -> int:
    return layout.levels + 1 if min(layout.grid) > 1 else layout.levels


def _as_it_is(layer: nn.Module) -> nn.Module:
    return layer


def _layers(
    spec: Spec, layout: Layout | None, channels: int, normed: Callable[[nn.Module], nn.Module]
) -> list[nn.Module]:
    """Return what makes features of inputs: convolutions, or without a layout fully connected layers."""
    if layout is None:
        entry = normed(nn.Linear(math.prod(spec.shape), channels))
        return [
            nn.Flatten(),
            entry,
            nn.LeakyReLU(0.2),
            normed(nn.Linear(channels, channels)),
            nn.LeakyReLU(0.2),
        ]
    layers: list[nn.Module] = [normed(layout.entry(channels)), nn.LeakyReLU(0.2)]
    for _ in range(_halvings(layout)):
        layers += [normed(nn.Conv2d(channels, 2 * channels, 4, 2, 1)), nn.LeakyReLU(0.2)]
        channels *= 2
    return layers


def shifted(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Shift a batch by the same few pixels (differentiable augmentation), so that no pixel is special.

    What is no picture is left as it is.
    """
    if inputs.dim() != 4 or inputs.shape[1] > 4 or min(inputs.shape[2:]) < 8:
        return inputs
    most = 2 if min(inputs.shape[2:]) > 16 else 1
    down, right = torch.randint(-most, most + 1, (2,), generator=generator, device=generator.device).tolist()
    return torch.roll(inputs, (down, right), (2, 3)) if down or right else inputs
