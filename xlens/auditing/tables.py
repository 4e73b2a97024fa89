"""Tables of an audit: a plain row for each group, and for each tone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xlens.auditing.alarms import Alarm, verdict_of
from xlens.auditing.group import Group
from xlens.auditing.tone import Tone

__all__ = ["COLUMNS", "finite", "rows_of"]

#: Fields of a group that are numbers, as they stand in tables.
_NUMBERS = (
    "share",
    "share_low",
    "share_high",
    "effect",
    "effect_low",
    "effect_high",
    "drop",
    "flips",
    "losing_half",
    "carried",
    "radius",
    "p_place",
    "area",
    "outside",
    "p_outside",
    "carried_outside",
    "foreign",
    "p_foreign",
    "wrong",
    "wrong_besides",
    "pasted",
    "contrast",
    "contrast_after",
)


def rows_of(
    groups: Sequence[Group], alarms: Sequence[Alarm], titles: Sequence[str], tones: Sequence[Tone] = ()
) -> list[dict[str, Any]]:
    """Return a row for each group, with its title, and after them one for each tone, all with the same columns."""
    suspicion = {alarm.group: alarm for alarm in alarms}
    rows = [
        _of_group(group, title, suspicion.get(group.number)) for group, title in zip(groups, titles, strict=True)
    ]
    return rows + [_of_tone(tone) for tone in tones]


def finite(value: Any) -> Any:
    """Return a value of dicts, lists and numbers with None for each number that is not finite, as JSON wants it."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


#: Every column, in its order, with what stands there where it does not apply.
_EMPTY: dict[str, Any] = {
    "kind": "place",
    "group": None,
    "name": "",
    "target": "",
    "toward": "",
    "inputs": 0,
    **dict.fromkeys(_NUMBERS, math.nan),
    **dict.fromkeys(("row", "column", "sameness", "p_same", "others"), math.nan),
    **dict.fromkeys(("elsewhere", "p_elsewhere", "background"), math.nan),
    "association": "",
    "p_association": math.nan,
    "alarm": False,
    "suspicion": 0.0,
    "signs": "",
    "refuted_by": "",
    "verdict": "",
}
#: The names of the columns, in their order.
COLUMNS = tuple(_EMPTY)


def _of_group(group: Group, title: str, alarm: Alarm | None) -> dict[str, Any]:
    row = _EMPTY | {
        "group": group.number,
        "name": title,
        "target": group.target,
        "toward": next(iter(group.toward), ""),
        "inputs": len(group.inputs),
        **{key: getattr(group, key) for key in _NUMBERS},
        "row": group.place[0],
        "column": group.place[1],
        "sameness": group.template.sameness,
        "p_same": group.template.p,
        "others": group.template.others,
        "verdict": verdict_of(group),
    }
    if group.associations:
        row |= {"association": group.associations[0].said, "p_association": group.associations[0].p}
    if alarm is not None:
        signs, refuted_by = "; ".join(alarm.signs), "; ".join(alarm.refuted_by)
        row |= {"alarm": True, "suspicion": alarm.suspicion, "signs": signs, "refuted_by": refuted_by}
    return row


def _of_tone(tone: Tone) -> dict[str, Any]:
    return _EMPTY | {
        "kind": tone.kind,
        "name": f"{tone.kind} of {tone.target!r}",
        "target": tone.target,
        "toward": tone.toward,
        "inputs": tone.inputs,
        "effect": tone.effect,
        "effect_low": tone.effect_low,
        "effect_high": tone.effect_high,
        "flips": tone.flips,
        "elsewhere": tone.elsewhere,
        "p_elsewhere": tone.p,
        "background": tone.background,
        "verdict": tone.said,
    }
