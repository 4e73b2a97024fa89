"""What an explanation found, in a sentence without a glossary: what goes, from where, and what the model says then.

Position and appearance are read off the edit: its mask, and the colours in it before and after.
"""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from xlens.explanation import Explanation
from xlens.plot.pixels import Ranges, to_unit

__all__ = ["change_in_kind", "confidence", "finding", "percent", "reasons", "said", "standing", "unchanged"]

#: Above this share of the image it is no part of it, and below these an edit is a spot, or a patch.
_WHOLE, _SPOT, _PATCH = 0.4, 0.02, 0.12
#: Of what the mask covers, regions smaller than this share of the largest are not counted.
_COUNTED = 0.1
#: What an eye takes for darker or brighter, and for a colour of its own, of 1.
_LIGHTER, _COLOURED = 0.05, 0.25
_HUES = ((20, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (260, "blue"), (330, "purple"), (361, "red"))
_BROWN = (10, 50, 0.65)  # hues of orange that are dark
#: What it means that a verdict fails, to whoever has no glossary.
_FAILED = {
    "flips": "The model does not come to say {contrast!r}.",
    "likeness": "The picture is not enough like a real case.",
    "specific": "The same change at another place turns the model's decision too: this place proves nothing.",
    "stable": "A slight blur or shift of both pictures undoes it.",
    "local": "So much is changed that it is another case, and not a part of this one.",
    "complete": "The figures for engineers do not add up.",
}
_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")


def percent(p: float) -> str:
    """Return a probability in whole percent; what rounds to none or all is said to be near it.

    >>> percent(0.984), percent(0.0001), percent(1.0)
    ('98%', '<1%', '>99%')
    """
    return "<1%" if p < 0.01 else ">99%" if p > 0.99 else f"{p:.0%}"


def confidence(one: Explanation, index: int = 0) -> tuple[float, float]:
    """Return the probability of the class explained, before and after, where the choice is between the two."""
    return float(one.scores[index].sigmoid()), float(one.counterfactual_scores[index].sigmoid())


def finding(one: Explanation, ranges: Ranges, index: int = 0) -> str:
    """Say what would have to change, and what the model says then.

    Args:
        one: explanations.
        ranges: the values of each channel that are drawn darkest and brightest.
        index: which of them.

    >>> from xlens.plot.plain import finding
    >>> finding(explainer.explain(images[:1]), [(0.0, 1.0)]).startswith("With")
    True
    """
    target, contrast = (one.class_names[int(c[index])] for c in (one.target, one.contrast))
    before, after = map(percent, confidence(one, index))
    against = "" if len(one.class_names) == 2 else f" (against {contrast})"
    figures = f"{target} {before} → {after}{against}."
    first, then = said(one, index)
    if _is_already(one, index):
        return (
            f"The model does not say {target!r} here ({target} {before}{against}): there is nothing to take away."
        )
    # Of three classes and more it may say one that nobody asked about.
    asked = "" if first == target else f"The model says {first!r} here. "
    if unchanged(one, index):
        it = f"it says {first!r}" if first != target else f"it says {target!r}, {before}"
        return f"No change was found with which the model says {contrast!r}; {it}."
    says = "the model's decision stays as it is" if first == then else f"the model says {then!r}"
    says += "" if then in (first, contrast) or then.startswith("not ") else f" and not {contrast!r}"
    return f"{asked}{_change(one, ranges, index)} {says}: {figures}"


def said(one: Explanation, index: int = 0) -> tuple[str, str]:
    """Return what the model says before and after: a class, of all; by the score alone, that it may not be one."""
    target, contrast = (one.class_names[int(c[index])] for c in (one.target, one.contrast))
    if one.decisions is not None:
        before, after = (one.class_names[int(c)] for c in one.decisions[index])
        return before, after
    other = contrast if len(one.class_names) == 2 else f"not {target}"
    before = target if float(one.scores[index]) >= 0 else other
    return before, contrast if bool(one.fidelity.flips[index]) else before


def _is_already(one: Explanation, index: int) -> bool:
    """Whether the model says what the class explained is contrasted with, or not that class, from the start."""
    target, contrast = (one.class_names[int(c[index])] for c in (one.target, one.contrast))
    return said(one, index)[0] in (contrast, f"not {target}")


def unchanged(one: Explanation, index: int = 0) -> bool:
    """Whether no change was found, so that before and after are the same."""
    return one.edit is not None and not bool(one.edit[index].any())


def standing(one: Explanation, index: int = 0) -> tuple[str, str]:
    """Return the verdict on one explanation, and beside it what that does and does not certify."""
    if bool(one.trustworthy[index]) and one.decoded_from_layer:
        return "This explanation holds.", (
            "It is faithful to the model: on what is decoded from its hidden layer, checked on the model itself, "
            "it decides otherwise. The two may differ in more than what the model goes by. Whether it is true of "
            "the world is for you to see."
        )
    if bool(one.trustworthy[index]) and one.reconstruction is None:
        return "This explanation holds.", (
            "It is faithful to the model: on the other real case, checked on the model itself, it decides "
            "otherwise. The two may differ in more than what the model goes by. Whether it is true of the world is "
            "for you to see."
        )
    if bool(one.trustworthy[index]):
        return "This explanation holds.", (
            "It is faithful to the model: with this change, checked on the model itself, it decides otherwise. "
            "Whether it is true of the world is for you to see."
        )
    if _is_already(one, index):
        return "There is nothing to explain here.", (
            "The model does not say in the first place what it was asked about. Whether it is right, no check says."
        )
    if unchanged(one, index):
        return "No explanation was found.", (
            "Nothing that was tried makes the model decide otherwise. What it goes by may be something else: the "
            "tone, the shape, or a part that was taken for none. Whether the model is right, no check says."
        )
    return "Do not trust this explanation.", (
        "It failed a check of whether it is faithful to the model. Whether the model is right, no check says."
    )


def reasons(one: Explanation, index: int = 0) -> list[str]:
    """Say why an explanation does not hold, check by check; nothing where it holds.

    >>> from xlens.plot.plain import reasons
    >>> all(line.endswith(".") for line in reasons(explainer.explain(images[:1])))
    True
    """
    if bool(one.trustworthy[index]) or unchanged(one, index) or _is_already(one, index):
        return []
    contrast = one.class_names[int(one.contrast[index])]
    failed = [name for name, held in one.verdicts.items() if held is not None and not bool(held[index])]
    if not failed or set(failed) - set(_FAILED):
        return list(one.problems[index])
    return [_FAILED[name].format(contrast=contrast) for name in failed]


def _change(one: Explanation, ranges: Ranges, index: int) -> str:
    """Return the beginning of the sentence: without what, or with what."""
    if one.reconstruction is None:
        return "For what is decoded from the layer" if one.decoded_from_layer else "For the other real case shown"
    seen = _seen(one, ranges, index)
    if seen is None:
        return "With the whole input changed as shown"
    kind = _kind(seen.share, seen.several)
    if seen.several > 1:
        what = f"{seen.look}{kind}, the largest {seen.place}," if seen.several < 20 else f"{seen.look}{kind},"
        what = f"{seen.several if seen.several < 20 else 'many'} {what}"
        return f"Without the {what}" if seen.gone else f"With {what}"
    one_of = f"{seen.look}{kind} {seen.place}"
    article = "an" if one_of[0] in "aeio" else "a"
    return f"Without the {one_of}" if seen.gone else f"With {article} {one_of}"


def change_in_kind(one: Explanation, ranges: Ranges, index: int = 0) -> str:
    """Return what a change takes away or brings, without number and place, so that changes can be counted.

    >>> from xlens.plot.plain import change_in_kind
    >>> change_in_kind(explainer.explain(images[:1]), [(0.0, 1.0)]).split()[0] in ("without", "with")
    True
    """
    seen = None if one.reconstruction is None else _seen(one, ranges, index)
    if seen is None:
        if one.reconstruction is not None:
            return "with the whole input changed"
        return "with what is decoded from the layer" if one.decoded_from_layer else "with another real case"
    # A colour says more than that it is bright, and keeps what is alike together.
    look = f"{seen.look.split()[-1]} " if seen.look else ""
    return f"{'without' if seen.gone else 'with'} {look}{_kind(seen.share, 2)}"


class _Seen(NamedTuple):
    """What stands out in an edit: how many, how large the largest is, where, how it looks, and whether it goes."""

    several: int
    share: float
    place: str
    look: str
    gone: bool


def _seen(one: Explanation, ranges: Ranges, index: int) -> _Seen | None:
    """Return what stands out in an edit, or None where it is of the whole input."""
    before, after = one.inputs[index], one.counterfactual[index]
    if before.dim() != 3 or one.mask is None:
        return None
    mask = one.mask[index, 0].detach().cpu().float()
    inside = _inside(mask)
    if not 0 < float(inside.mean()) <= _WHOLE:
        return None
    named, number = ndimage.label(inside, np.ones((3, 3)))
    sizes = np.bincount(named.ravel())[1:]
    largest = named == 1 + int(sizes.argmax())
    several = int((sizes >= _COUNTED * sizes.max()).sum())
    given, filled = to_unit(before, ranges), to_unit(after, ranges)
    around = ndimage.binary_dilation(inside, iterations=max(1, min(inside.shape) // 24)) & ~inside
    look, gone = _appearance(given, filled, inside, around)
    return _Seen(several, float(largest.mean()), _place(largest), look, gone)


def _inside(mask: Tensor) -> np.ndarray:
    """Return where most of the change is, ``(H, W)`` bool."""
    return (mask > 0.5 * float(mask.max())).numpy() if float(mask.max()) > 0 else np.zeros(mask.shape, bool)


def _kind(share: float, count: int) -> str:
    """Return what a part of so large a share of the image is called.

    >>> _kind(0.01, 1), _kind(0.05, 3), _kind(0.3, 2)
    ('spot', 'patches', 'regions')
    """
    kind = "spot" if share < _SPOT else "patch" if share < _PATCH else "region"
    return kind if count == 1 else f"{kind}es" if kind.endswith("h") else f"{kind}s"


def _place(region: np.ndarray) -> str:
    """Return where a region's middle is, in thirds of the image.

    >>> import numpy as np
    >>> _place(np.eye(9, dtype=bool) & (np.arange(9) > 6)), _place(np.eye(9, dtype=bool))
    ('at the bottom right', 'near the centre')
    """
    row, column = (
        min(2, int(3 * (middle + 0.5) / side))
        for middle, side in zip(ndimage.center_of_mass(region), region.shape, strict=True)
    )
    where = " ".join(part for part in (_ROWS[row], _COLUMNS[column]) if part)
    return f"at the {where}" if where else "near the centre"


def _appearance(given: Tensor, filled: Tensor, inside: np.ndarray, around: np.ndarray) -> tuple[str, bool]:
    """Return what stands out, in words that end with a space, and whether it is what the input has.

    What differs more from its surroundings stands out: in the input, so that it goes, or in what came of it.
    """
    at = torch.from_numpy(inside)
    ring = given[:, torch.from_numpy(around)] if around.any() else given.flatten(1)
    ground = ring.median(1).values
    both = [image[:, at].mean(1) for image in (given, filled)]
    gone = float((both[0] - ground).abs().sum()) >= float((both[1] - ground).abs().sum())
    seen, other = both if gone else both[::-1]
    lighter = float(seen.mean() - other.mean())
    tone = "dark " if lighter < -_LIGHTER else "bright " if lighter > _LIGHTER else ""
    return tone + _colour(seen, ground), gone


def _colour(seen: Tensor, ground: Tensor) -> str:
    """Return a colour that the surroundings do not have, or nothing."""
    if len(seen) != 3:
        return ""
    names = [_named(*values.tolist()) for values in (seen, ground)]
    return names[0] if names[0] != names[1] else ""


def _named(red: float, green: float, blue: float) -> str:
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    if saturation < _COLOURED or value < 0.1:
        return ""
    degrees = 360 * hue
    if _BROWN[0] <= degrees < _BROWN[1] and value < _BROWN[2]:
        return "brown "
    return next(name for end, name in _HUES if degrees < end) + " "
