"""Tone: whether decisions go by the colours or the light of whole images, which lie in no one place."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xlens.auditing.chance import halves, mean_interval, more_than_chance
from xlens.auditing.filling import as_images
from xlens.auditing.sweep import Seen
from xlens.classifier.turns import Turn

__all__ = ["Tone", "contrasts", "tones_of"]

#: Inputs of a class by which its tone is known, at most; and at least, for there to be one.
_MOST, _LEAST = 64, 12
#: Shifts of the same size in other directions, with which one is compared.
_OTHERS = 4
#: A tone is told of that lowers the probability by so much, and hardly by chance, over all that are tried.
_EFFECT, _SURE = 0.1, 0.01
#: Brightness below this share of the range is none.
_DARK = 0.02


@dataclass(frozen=True, kw_only=True)
class Tone:
    """Decisions that go by the tone of the whole image: what happens when it is shifted to that of another class.

    The shift is the same for all inputs: the ratio of the medians of both classes' inputs, taken from one half of
    them; the other half is asked about. Of each image it is measured in its quarters, of which the lowest and the
    highest figure do not count.

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
        ranges: what is black and white in each channel, by mean and std where these are known; else the
            smallest and the largest value of the data.

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
        with Turn():
            inputs = as_images("Tone.find", data, len(self.ranges)).cpu()
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
        with Turn():
            inputs = as_images("Tone.mask_out", data, len(self.ranges))
            pixels, (_, field) = _Pixels(self.ranges), _FIELDS[self.kind]
            bright = pixels.bright(inputs.cpu())
            shifted = pixels.given(_lit(bright, field(torch.tensor(self.factors).log(), bright))).to(inputs.device)
            there = self.find(inputs)[1].to(inputs.device)
            return torch.where(there[:, None, None, None], shifted, inputs)

    @property
    def said(self) -> str:
        """What it says, in plain words."""
        what = "colours" if len(self.factors) > 1 else "brightness"
        what = what if self.kind == "colours" else "light toward the rim"
        after = (
            f"{self.target!r} decisions lose {self.effect:.2f} of their probability on average "
            f"({self.flips:.0%} change) when the whole image is given the {what} of {self.toward!r} "
            f"({_in_words(self)}); shifts as large in other directions cost {self.elsewhere:.2f}. It may be a "
            "property of the class, or of how the images were made"
        )
        if np.isnan(self.background):
            return f"{after}; masks of the object would tell more."
        return f"{after}. Outside of the object alone it costs {self.background:.2f}."


def contrasts(seen: Seen) -> dict[int, int]:
    """Return the classes of which the tone can be tried, each with the one that it is shifted to.

    That is the most usual contrast of which there are inputs enough. Classes without one, or with too few inputs of
    their own, are left out.
    """
    half, found = halves(seen.input), {}
    for target in np.unique(seen.target).tolist():
        own = seen.target == target
        usual = [contrast for contrast, _ in Counter(seen.contrast[own].tolist()).most_common()]
        known = [one for one in usual if ((seen.target == one) & ~half).sum() >= _LEAST]
        if known and min((own & half).sum(), (own & ~half).sum()) >= _LEAST:
            found[target] = known[0]
    return found


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
    """Return the tones by which decisions go, the strongest first; for each class, toward one of its contrasts.

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
    for target, toward in contrasts(seen).items():
        # The shift is known by one half of the inputs, and the others are asked about.
        rows = (seen.target == target) & ~half, (seen.target == toward) & ~half, (seen.target == target) & half
        drawn = [np.sort(draw.permutation(seen.input[of])[:_MOST]) for of in rows]
        # All at once: a stream is gone through for each reading.
        every = np.sort(np.concatenate(drawn))
        images = take(every)
        own, other, asked = (images[torch.from_numpy(np.isin(every, of))] for of in drawn)
        del images
        before = ask(asked)[:, target]
        spared = None if objects is None else objects(drawn[2])
        for kind, (measured, field) in _FIELDS.items():
            tone = measured(pixels.bright(own)).median(0).values
            shift = measured(pixels.bright(other)).median(0).values - tone
            bright = pixels.bright(asked)

            def shifted(light: Tensor, bright: Tensor = bright) -> Tensor:
                return ask(pixels.given(_lit(bright, light)))

            light, *besides = (field(one, bright) for one in (shift, *_elsewhere(shift, draw)))
            moved = shifted(light)
            fall = (before - moved[:, target]).double().numpy()
            falls = torch.stack([before - shifted(one)[:, target] for one in besides])
            usually = falls.mean(0).double().numpy()
            background = float("nan")
            if spared is not None:
                outside = shifted(torch.where(spared, torch.ones(()), light))
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
                    p=more_than_chance(fall - usually),
                    background=background,
                    usual=tuple(tone.tolist()),
                    ranges=tuple((float(low), float(high)) for low, high in ranges),
                )
            )
    corrected = [dataclasses.replace(one, p=min(1.0, len(found) * one.p)) for one in found]
    told = [one for one in corrected if one.effect >= _EFFECT and one.effect_low > 0 and one.p <= _SURE]
    return sorted(told, key=lambda one: -one.effect)


class _Pixels:
    """From the data's units to brightness, 0 for black and 1 for white, and back; what is beyond stays beyond."""

    def __init__(self, ranges: Sequence[tuple[float, float]]) -> None:
        self.black = torch.tensor([low for low, _ in ranges])[:, None, None]
        self.span = torch.tensor([high - low for low, high in ranges])[:, None, None]

    def bright(self, inputs: Tensor) -> Tensor:
        return (inputs - self.black) / self.span

    def given(self, bright: Tensor) -> Tensor:
        return bright * self.span + self.black


def _lit(bright: Tensor, light: Tensor) -> Tensor:
    """Return brightness times light, no whiter than white unless it was before."""
    return torch.minimum(bright * light, bright.clamp_min(1))


def _colours(bright: Tensor) -> Tensor:
    """Return the logarithm of each channel's mean, ``(N, C)``."""
    means = []
    for quarter in _quarters(bright):
        counts = _counts(quarter)[:, None]
        means.append((quarter * counts).sum((2, 3)) / counts.sum((2, 3)).clamp_min(1))
    return _shared([mean.clamp_min(_DARK).log() for mean in means])


def _flat(shift: Tensor, _: Tensor) -> Tensor:
    return shift.exp()[:, None, None]


def _light(bright: Tensor) -> Tensor:
    """Return by how much the logarithm of brightness grows from the middle to the corners, ``(N, 1)``.

    By least squares over the squared distance from the middle.
    """
    slopes = []
    for quarter, from_middle in zip(_quarters(bright), _quarters(_from_middle(bright)), strict=True):
        counts = _counts(quarter)
        level = quarter.mean(1).clamp_min(_DARK).log()
        usual = (counts * from_middle).sum((1, 2)) / counts.sum((1, 2)).clamp_min(1)
        apart = counts * (from_middle - usual[:, None, None])
        slopes.append(((level * apart).sum((1, 2)) / (apart**2).sum((1, 2)).clamp_min(1e-6))[:, None])
    return _shared(slopes)


def _counts(bright: Tensor) -> Tensor:
    """Return which pixels count, ``(N, H, W)``: black stays black in any light, and says what shape a thing has."""
    return (bright.mean(1) > _DARK).to(bright.dtype)


def _quarters(image: Tensor) -> list[Tensor]:
    height, width = (-(-side // 2) for side in image.shape[-2:])
    rows, columns = ((slice(side), slice(-side, None)) for side in (height, width))
    return [image[..., row, column] for row in rows for column in columns]


def _shared(values: list[Tensor]) -> Tensor:
    """Return what quarters of an image have in common: a thing that stands in one of them is no tone."""
    return torch.stack(values).sort(0).values[1:-1].mean(0)


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


def _in_words(tone: Tone) -> str:
    if tone.kind == "light":
        return f"corners times {tone.factors[0]:.2f}"
    if len(tone.factors) == 1:
        return f"times {tone.factors[0]:.2f}"
    names = (
        ("red", "green", "blue") if len(tone.factors) == 3 else [f"channel {i}" for i in range(len(tone.factors))]
    )
    return ", ".join(f"{name} times {factor:.2f}" for name, factor in zip(names, tone.factors, strict=True))
