"""What an explanation found, in a sentence without a glossary: what goes, from where, and what the model says then.

Position and appearance are read off the edit: its mask, and the colours in it before and after.
"""

from __future__ import annotations

import colorsys

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from xlens.explanation import Explanation
from xlens.plot.pixels import Ranges, to_unit

__all__ = ["confidence", "finding", "percent", "said", "standing"]

#: Above this share of the image it is no part of it, and below these an edit is a spot, or a patch.
_WHOLE, _SPOT, _PATCH = 0.4, 0.02, 0.12
#: Of what the mask covers, regions smaller than this share of the largest are not counted.
_COUNTED = 0.1
#: What an eye takes for darker or brighter, and for a colour of its own, of 1.
_LIGHTER, _COLOURED = 0.05, 0.25
_HUES = ((20, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (260, "blue"), (330, "purple"), (361, "red"))
_BROWN = (10, 50, 0.65)  # hues of orange that are dark
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
    if said(one, index)[0] != target:
        return (
            f"The model does not say {target!r} here ({target} {before}{against}): there is nothing to take away."
        )
    if one.edit is not None and not bool(one.edit[index].any()):
        return f"No change was found with which the model says {contrast!r}; it says {target!r}, {before}."
    says = (
        f"the model says {contrast!r}" if bool(one.fidelity.flips[index]) else "the model's decision stays as it is"
    )
    return f"{_change(one, ranges, index)} {says}: {figures}"


def said(one: Explanation, index: int = 0) -> tuple[str, str]:
    """Return what the model says before and after, by the score: one of the two classes, or that it is not one."""
    target, contrast = (one.class_names[int(c[index])] for c in (one.target, one.contrast))
    other = contrast if len(one.class_names) == 2 else f"not {target}"
    before = target if float(one.scores[index]) >= 0 else other
    return before, contrast if bool(one.fidelity.flips[index]) else before


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
    return "Do not trust this explanation.", (
        "It failed a check of whether it is faithful to the model. Whether the model is right, no check says."
    )


def _change(one: Explanation, ranges: Ranges, index: int) -> str:
    """Return the beginning of the sentence: without what, or with what."""
    if one.reconstruction is None:
        return "For what is decoded from the layer" if one.decoded_from_layer else "For the other real case shown"
    before, after = one.inputs[index], one.counterfactual[index]
    if before.dim() != 3 or one.mask is None:
        return "With the whole input changed as shown"
    mask = one.mask[index, 0].detach().cpu().float()
    inside = _inside(mask)
    if not 0 < float(inside.mean()) <= _WHOLE:
        return "With the whole input changed as shown"
    named, number = ndimage.label(inside, np.ones((3, 3)))
    sizes = np.bincount(named.ravel())[1:]
    largest = named == 1 + int(sizes.argmax())
    several = int((sizes >= _COUNTED * sizes.max()).sum())
    kind = _kind(float(largest.mean()), several)
    place = _place(largest)
    given, filled = to_unit(before, ranges), to_unit(after, ranges)
    around = ndimage.binary_dilation(inside, iterations=max(1, min(inside.shape) // 24)) & ~inside
    look, gone = _appearance(given, filled, inside, around)
    if several > 1:
        what = f"{several} {look}{kind}, the largest {place}," if several < 20 else f"many {look}{kind},"
        return f"Without the {what}" if gone else f"With {what}"
    one_of = f"{look}{kind} {place}"
    article = "an" if one_of[0] in "aeio" else "a"
    return f"Without the {one_of}" if gone else f"With {article} {one_of}"


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
