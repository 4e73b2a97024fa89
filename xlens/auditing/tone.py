"""Tone: whether decisions go by the colours or the light of whole images, which lie in no one place."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from xlens.auditing.chance import halves, mean_interval
from xlens.auditing.sweep import Seen
from xlens.data import as_inputs
from xlens.data.numbers import as_tensor

__all__ = ["Tone", "tones_of"]

#: Inputs of a class by which its tone is known, at most; and at least, for there to be one.
_MOST, _LEAST = 64, 12
#: Shifts of the same size in other directions, with which one is compared.
_OTHERS = 4
#: A tone is told of that lowers the probability by so much, and hardly by chance, over all that are tried.
_EFFECT, _SURE = 0.1, 0.01
#: Brightness below this share of the range is no brightness to divide by.
_DARK = 0.02


@dataclass(frozen=True, kw_only=True)
class Tone:
    """Decisions that go by the tone of the whole image: what happens when it is shifted to that of another class.

    The shift is the same for all inputs: the ratio of the medians of both classes' inputs, taken from one half of
    them; the other half is asked about.

    Args:
        kind: ``"colours"`` (brightness of each channel) or ``"light"`` (brighter or darker toward the rim).
        target: the class decided for, by name.
        toward: the class whose tone the inputs are given, by name.
        factors: by which the brightness of each channel is multiplied; of light, that of the four corners, while
            the middle stays.
        inputs: number of inputs that were asked about.
        effect, effect_low, effect_high: mean fall of the probability of `target`, and its bootstrap interval.
        flips: share of the decisions that change.
        elsewhere: mean fall under shifts of the same size in other directions.
        p: that the shift does no more than these, by Wilcoxon's signed rank test, corrected for all that were
            tried.
        background: mean fall where the shift spares the object; NaN without masks.
        usual: the tone of `target` inputs, as logarithms of what `factors` multiplies.
        ranges: what is black and white in each channel.

    References:
        Wilcoxon (1945), Individual Comparisons by Ranking Methods.
    """

    kind: Literal["colours", "light"]
    target: str
    toward: str
    factors: tuple[float, ...]
    inputs: int
    effect: float
    effect_low: float
    effect_high: float
    flips: float
    elsewhere: float
    p: float
    background: float
    usual: tuple[float, ...]
    ranges: tuple[tuple[float, float], ...]

    def find(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Return which inputs have the tone: those that are nearer to that of `target` than to that of `toward`.

        Args:
            data: ``(N, C, H, W)`` in the classifier's own normalisation.

        Returns:
            masks ``(N, 1, H, W)`` bool, all or nothing of an image; and ``(N,)`` bool whether it is there.
        """
        inputs = as_inputs(data, tuple(np.shape(data))[-3:]).cpu()
        measured, _ = _FIELDS[self.kind]
        along = torch.tensor(self.factors).log()
        way = (measured(_Pixels(self.ranges).bright(inputs)) - torch.tensor(self.usual)) @ along
        there = way < (along @ along) / 2
        return there[:, None, None, None].expand(-1, 1, *inputs.shape[2:]), there

    def mask_out(self, data: Tensor) -> Tensor:
        """Return data ``(N, C, H, W)``, of which those that have the tone are shifted to that of `toward`.

        Args:
            data: as for :meth:`find`.
        """
        inputs = as_tensor(data).float()
        _, there = self.find(data)
        pixels, (_, field) = _Pixels(self.ranges), _FIELDS[self.kind]
        light = field(torch.tensor(self.factors).log(), inputs)
        shifted = pixels.given((pixels.bright(inputs.cpu()) * light).clamp_max(1)).to(inputs.device)
        return torch.where(there[:, None, None, None].to(inputs.device), shifted, inputs)

    @property
    def said(self) -> str:
        """What it says, in plain words."""
        what = "the colours of the whole image are" if self.kind == "colours" else "the light toward the rim is"
        after = (
            f"{self.target!r} decisions lose {self.effect:.2f} of their probability on average "
            f"({self.flips:.0%} change) when {what} shifted to those of {self.toward!r} ({_in_words(self)}); "
            f"shifts as large in other directions cost {self.elsewhere:.2f}. It may be a property of the class, or "
            "of how the images were made"
        )
        if np.isnan(self.background):
            return f"{after}; masks of the object would tell more."
        return f"{after}. Outside of the object alone it costs {self.background:.2f}."


def tones_of(
    seen: Seen,
    *,
    names: tuple[str, ...],
    ranges: Sequence[tuple[float, float]],
    take: Callable[[np.ndarray], Tensor],
    ask: Callable[[Tensor], Tensor],
    objects: Callable[[np.ndarray], Tensor] | None,
    confidence: float,
    seed: int,
) -> list[Tone]:
    """Return the tones by which decisions go, the strongest first; for each class, toward its usual contrast.

    Args:
        seen: the inputs that were explained.
        names: of the classes.
        ranges: what is black and white, in the data's own units, for each channel.
        take: returns the inputs at positions.
        ask: returns the classifier's probabilities.
        objects: returns masks ``(N, 1, H, W)`` of the objects at positions; None where there are none.
        confidence: of the intervals.
        seed: draws inputs and directions.
    """
    draw = np.random.default_rng(seed)
    pixels = _Pixels(ranges)
    half, found = halves(seen.input), []
    for target in np.unique(seen.target).tolist():
        toward = Counter(seen.contrast[seen.target == target].tolist()).most_common(1)[0][0]
        # The shift is known by one half of the inputs, and the others are asked about.
        rows = (seen.target == target) & ~half, (seen.target == toward) & ~half, (seen.target == target) & half
        usual, contrast, asked = (np.sort(draw.permutation(seen.input[of])[:_MOST]) for of in rows)
        if min(len(usual), len(contrast), len(asked)) < _LEAST:
            continue
        own, other, inputs = (pixels.bright(take(index)) for index in (usual, contrast, asked))
        spared = None if objects is None else objects(asked)
        for kind in _FIELDS:
            measured, field = _FIELDS[kind]
            tone = measured(own).median(0).values
            shift = measured(other).median(0).values - tone
            fields = [field(one, inputs) for one in (shift, *_elsewhere(shift, draw))]

            def probabilities(light: Tensor, inputs: Tensor = inputs) -> Tensor:
                return ask(pixels.given((inputs * light).clamp_max(1)))

            before = probabilities(torch.ones(()))[:, target]
            moved, *others = [probabilities(one) for one in fields]
            fall = (before - moved[:, target]).double().numpy()
            usually = torch.stack([before - one[:, target] for one in others]).mean(0).double().numpy()
            background = float("nan")
            if spared is not None:
                outside = probabilities(torch.where(spared, torch.ones(()), fields[0]))
                background = float((before - outside[:, target]).mean())
            low, high = mean_interval(fall, confidence, seed)
            found.append(
                Tone(
                    kind=kind,
                    target=names[target],
                    toward=names[toward],
                    factors=tuple(shift.exp().tolist()),
                    inputs=len(asked),
                    effect=float(fall.mean()),
                    effect_low=low,
                    effect_high=high,
                    flips=float((moved.argmax(1) != target).float().mean()),
                    elsewhere=float(usually.mean()),
                    p=_p(fall - usually),
                    background=background,
                    usual=tuple(tone.tolist()),
                    ranges=tuple((float(low), float(high)) for low, high in ranges),
                )
            )
    corrected = [dataclasses.replace(one, p=min(1.0, len(found) * one.p)) for one in found]
    told = [one for one in corrected if one.effect >= _EFFECT and one.effect_low > 0 and one.p <= _SURE]
    return sorted(told, key=lambda one: -one.effect)


class _Pixels:
    """From the data's units to brightness, 0 for black and 1 for white, and back."""

    def __init__(self, ranges: Sequence[tuple[float, float]]) -> None:
        self.black = torch.tensor([low for low, _ in ranges])[:, None, None]
        self.span = torch.tensor([high - low for low, high in ranges])[:, None, None]

    def bright(self, inputs: Tensor) -> Tensor:
        return ((inputs - self.black) / self.span).clamp_min(0)

    def given(self, bright: Tensor) -> Tensor:
        return bright * self.span + self.black


def _colours(bright: Tensor) -> Tensor:
    """Return the logarithm of each channel's mean, ``(N, C)``."""
    return bright.mean((2, 3)).clamp_min(_DARK).log()


def _flat(shift: Tensor, _: Tensor) -> Tensor:
    return shift.exp()[:, None, None]


def _light(bright: Tensor) -> Tensor:
    """Return by how much the logarithm of brightness grows from the middle to the corners, ``(N, 1)``.

    By least squares over the squared distance from the middle.
    """
    from_middle = _from_middle(bright)
    level = bright.mean(1).clamp_min(_DARK).log()
    apart = from_middle - from_middle.mean()
    return (level * apart).mean((1, 2))[:, None] / (apart**2).mean()


def _toward_rim(shift: Tensor, bright: Tensor) -> Tensor:
    return (shift * _from_middle(bright)).exp()


def _from_middle(bright: Tensor) -> Tensor:
    """Return squared distances from the middle, ``(H, W)``, 1 in the corners."""
    down, along = (torch.linspace(-1, 1, side) ** 2 for side in bright.shape[2:])
    return (down[:, None] + along[None]) / 2


_FIELDS: dict[Literal["colours", "light"], tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]]
_FIELDS = {"colours": (_colours, _flat), "light": (_light, _toward_rim)}


def _elsewhere(shift: Tensor, draw: np.random.Generator) -> list[Tensor]:
    """Return shifts of the same size at right angles to one; of one number there is only the opposite."""
    if len(shift) == 1:
        return [-shift]
    drawn = torch.from_numpy(draw.normal(size=(_OTHERS // 2, len(shift)))).to(shift.dtype)
    along = shift / shift.norm().clamp_min(1e-12)
    across = drawn - (drawn @ along)[:, None] * along
    across = across / across.norm(dim=1, keepdim=True).clamp_min(1e-12) * shift.norm()
    return [*across, *-across]


def _p(more: np.ndarray) -> float:
    return float(stats.wilcoxon(more, alternative="greater").pvalue) if (more != 0).any() else 1.0


def _in_words(tone: Tone) -> str:
    if tone.kind == "light":
        return f"corners times {tone.factors[0]:.2f}"
    names = ("red", "green", "blue") if len(tone.factors) == 3 else tuple(map(str, range(len(tone.factors))))
    if len(tone.factors) == 1:
        return f"brightness times {tone.factors[0]:.2f}"
    return ", ".join(f"{name} times {factor:.2f}" for name, factor in zip(names, tone.factors, strict=True))
