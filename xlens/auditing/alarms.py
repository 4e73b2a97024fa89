"""Alarms: groups that look like shortcuts, ranked, each with its signs and what would refute it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from xlens.auditing.group import SURE, Group

__all__ = ["Alarm", "alarms_of", "signs_of", "verdict_of"]

#: A group matters that stands behind so many of the decisions, and moves the probability by so much.
_SHARE, _EFFECT = 0.1, 0.1
#: A part is outside of the objects where so much of it is, on average, and that does so much of what it does.
_OUTSIDE, _CARRIED = 0.5, 0.5
#: A part shows foreign colours where so much of it does, on average.
_FOREIGN = 0.1
#: Of the side; a place is no wider.
_RADIUS = 0.1


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A group that looks like a shortcut.

    Args:
        group: its number.
        suspicion: by which alarms are ranked: signs, and how many decisions it changes by how much.
        signs: in words, why.
        refuted_by: in words, what would show that it is none.
    """

    group: int
    suspicion: float
    signs: tuple[str, ...]
    refuted_by: tuple[str, ...]


def signs_of(group: Group) -> dict[str, str]:
    """Return the signs of a shortcut that a group shows, by name, in words."""
    found = {}
    if group.same:
        found["same"] = (
            f"one and the same thing in all of them (sameness {group.template.sameness:.2f}), which "
            f"{'raises' if group.pasted >= 0 else 'lowers'} the probability by {abs(group.pasted):.2f} where it is "
            "pasted in"
        )
    if group.foreign >= _FOREIGN and group.p_foreign <= SURE:
        found["foreign"] = (
            f"{group.foreign:.0%} of it has colours that hardly any input decided otherwise has "
            f"(p {_small(group.p_foreign)})"
        )
    if group.p_place <= SURE and group.radius <= _RADIUS:
        found["place"] = f"always in one place (p {_small(group.p_place)})"
    # A window on an object's rim is background for the most part, and what it shows is the object.
    if group.outside > _OUTSIDE and group.p_outside <= SURE and group.carried_outside >= _CARRIED:
        found["outside"] = (
            f"{group.outside:.0%} of it lies outside of the object (p {_small(group.p_outside)}), which alone does "
            f"{min(1.0, group.carried_outside):.0%} of what it does"
        )
    known = [one for one in group.associations if one.p <= SURE and one.column != "label"]
    if known:
        found["metadata"] = f"{known[0].said} (p {_small(known[0].p)})"
    return found


def alarms_of(groups: list[Group]) -> list[Alarm]:
    """Return the alarms, the most suspect first.

    A group that matters raises one where it is a stamp: the same thing in all of its inputs nearly to the pixel,
    which parts of objects hardly are, and moves decisions where it is pasted in. What differs from image to image,
    like a date, raises one where it moves decisions too, lies in one place and has foreign colours. So does a group
    that lies outside of the object, and in one place or beside a known fact. One place alone raises none: where
    images are aligned, every part of an object has its place.
    """
    found = []
    for group in groups:
        signs = signs_of(group)
        matters = group.share >= _SHARE and group.effect >= _EFFECT and group.effect_low > 0
        beside = "place" in signs or "metadata" in signs
        stamp = "same" in signs or ("foreign" in signs and "place" in signs)
        if matters and ((stamp and group.pasted >= _EFFECT) or ("outside" in signs and beside)):
            suspicion = len(signs) + group.share * group.effect
            found.append(
                Alarm(
                    group=group.number,
                    suspicion=suspicion,
                    signs=tuple(signs.values()),
                    refuted_by=tuple(_refuting(group, signs)),
                )
            )
    return sorted(found, key=lambda one: -one.suspicion)


def verdict_of(group: Group) -> str:
    """Return what a group says, in plain words.

    >>> import xlens
    >>> audit = xlens.audit(explainer, images[:64], progress=False)
    >>> all("decisions" in audit.verdict(group) for group in audit.groups)
    True
    """
    signs = signs_of(group)
    mostly = f", mostly to {next(iter(group.toward))!r}" if group.toward else ""
    first = (
        f"{group.share:.0%} of {group.target!r} decisions lose {group.effect:.2f} of their probability on average "
        f"when {_place_in_words(group.place)} is filled ({group.losing_half:.0%} of them lose more than .5, and "
        f"{group.flips:.0%} change{mostly})"
    )
    if not signs:
        return f"{first}; it varies in place and look."
    return f"{first}; {'; '.join(signs.values())}."


def _refuting(group: Group, signs: dict[str, str]) -> list[str]:
    said = ["the classifier is as accurate on data with it filled (audit.remedy)"]
    if "same" in signs:
        said.append("what is there belongs to the object, such as a part that is made to one pattern")
    if "foreign" in signs:
        said.append("the colours belong to the class, and stand there because objects are aligned")
    if "place" in signs:
        said.append("objects are aligned, and it is a part of them: give masks of the object")
    if "outside" in signs:
        said.append("the masks leave out what belongs to the object")
    if "metadata" in signs:
        said.append("the fact beside it is a consequence of the class, not of how the images were made")
    return said


def _place_in_words(place: tuple[float, float]) -> str:
    row, column = place
    down = "upper" if row < 1 / 3 else "lower" if row > 2 / 3 else ""
    along = "left" if column < 1 / 3 else "right" if column > 2 / 3 else ""
    if down and along:
        return f"the {down} {along} corner"
    if down or along:
        return f"the {down or along} {'part' if down else 'side'}"
    return "the middle"


def _small(p: float) -> str:
    return "< .001" if p < 0.001 else f"= {p:.3f}".replace("0.", ".") if not math.isnan(p) else "unknown"
