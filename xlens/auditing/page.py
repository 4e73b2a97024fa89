"""An audit as one HTML file: overview, groups, and each group's exemplars before and after."""

from __future__ import annotations

import math
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xlens.auditing.alarms import verdict_of
from xlens.auditing.group import Group
from xlens.auditing.singles import singles_of
from xlens.auditing.writing import as_path
from xlens.errors import StorageError
from xlens.files.writing import write_whole
from xlens.plot.pixels import ranges_of_lens, true_colours
from xlens.report.document import document
from xlens.report.page import check_writable
from xlens.report.sprites import frames_uri

if TYPE_CHECKING:
    from xlens.auditing.result import Audit

__all__ = ["page_of", "save_page"]

#: Dots on the map of a group: at most.
_DOTS = 200
#: Groups that are told of in words beside the alarms.
_TOLD = 3
#: Of images that can be drawn: at most.
_CHANNELS = 4


def page_of(audit: Audit, title: str) -> str:
    """Return the page as one HTML document."""
    alarms, spec = {alarm.group: alarm for alarm in audit.alarms}, audit.fitted.spec
    return document(
        "audit.html.j2",
        ("report.css", "audit.css"),
        ("audit.js",),
        title=title,
        version=version("xlens"),
        count=audit.count,
        total=audit.total,
        parts=len(audit.parts),
        alarms=[(audit.title(group), verdict_of(audit.group(group))) for group in alarms],
        relied=[(audit.title(one), verdict_of(one)) for one in audit.groups if one.number not in alarms][:_TOLD],
        tones=[one.said for one in audit.tones],
        notes=audit.notes,
        calm=audit.calm,
        true_colours=true_colours(audit.fitted.display_ranges, spec.minimum, spec.maximum),
        data={
            "height": spec.shape[1],
            "width": spec.shape[2],
            "groups": [_group(audit, group, alarms.get(group.number)) for group in audit.groups],
        },
    )


def save_page(audit: Audit, path: str | Path, title: str) -> None:
    """Write the page to a file.

    Raises:
        OptionError: it is no path.
        StorageError: it cannot be written.
    """
    file = as_path(path, "Audit.save_html")
    check_writable(file)
    try:
        write_whole(file, page_of(audit, title).encode())
    except (OSError, UnicodeError) as fault:
        raise StorageError("save_html: cannot write", given=fault, do="choose another file") from None


def _group(audit: Audit, group: Group, alarm: Any) -> dict[str, Any]:
    of = np.isin(audit.parts.input, group.inputs.numpy())
    dots = audit.parts.place[of & (audit.parts.target == audit.fitted.class_names.index(group.target))][:_DOTS]
    thumbnails = audit.thumbnails.get(group.number)
    ranges = ranges_of_lens(audit.fitted)
    pictures = None
    if thumbnails is not None and thumbnails.shape[2] <= _CHANNELS:
        pictures = frames_uri(thumbnails.flatten(0, 1), ranges)
    return {
        "title": audit.title(group),
        "target": group.target,
        "verdict": verdict_of(group),
        "alarm": alarm is not None,
        "signs": list(alarm.signs) if alarm else [],
        "refuted": list(alarm.refuted_by) if alarm else [],
        "share": group.share,
        "effect": group.effect,
        "place": list(group.place),
        "radius": group.radius,
        "dots": [[round(float(row), 3), round(float(column), 3)] for row, column in dots],
        "table": _table(group),
        "associations": [[one.said, _number(one.p)] for one in group.associations],
        "names": [f"input {i}" for i in sorted(group.exemplars)] if pictures else [],
        "singles": singles_of(audit, group) if pictures else [],
        "pictures": pictures,
    }


def _toward(group: Group) -> str:
    return ", ".join(f"{name} {part:.0%}" for name, part in group.toward.items()) or "no other class"


def _table(group: Group) -> list[list[str]]:
    share = f"{group.confidence:.0%}"
    rows = [
        ("share of the decisions", f"{group.share:.1%} ({group.share_low:.1%} to {group.share_high:.1%})"),
        ("fall of the probability", f"{group.effect:.3f} ({group.effect_low:.3f} to {group.effect_high:.3f})"),
        ("lose more than .5 of the probability", f"{group.losing_half:.1%}"),
        ("fall of the score", _number(group.drop)),
        ("decisions changed by this part alone", f"{group.flips:.1%}"),
        ("share of the score's change it carries", f"{group.carried:.1%}"),
        ("decided for with this part alone filled", _toward(group)),
        ("area, as share of the image", f"{group.area:.1%}"),
        ("one place, by chance", _by_chance(group.p_place)),
        ("one thing: sameness", f"{group.template.sameness:.2f} ({_by_chance(group.template.p)})"),
        ("inputs decided otherwise that have it, too", f"{group.template.others:.0%}"),
        ("colours that others hardly have", f"{group.foreign:.0%} ({_by_chance(group.p_foreign)})"),
        ("rise where it is pasted in", _number(group.pasted)),
        ("colour before, and filled", " to ".join(_colour(c) for c in (group.colour, group.colour_after))),
        ("texture before, and filled", f"{group.contrast:.3f} to {group.contrast_after:.3f}"),
    ]
    if not math.isnan(group.outside):
        rows.append(("outside of the object", f"{group.outside:.0%} ({_by_chance(group.p_outside)})"))
        rows.append(("share of the score's fall by what is outside", _share(group.carried_outside)))
    if not math.isnan(group.wrong):
        rows.append(
            ("wrong decisions, in the group and besides", f"{group.wrong:.1%}, {_share(group.wrong_besides)}")
        )
    rows.append(("in brackets", f"{share} bootstrap intervals over inputs"))
    return [list(row) for row in rows]


def _colour(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in values) + ")"


def _share(value: float) -> str:
    return "none besides" if math.isnan(value) else f"{value:.1%}"


def _by_chance(p: float) -> str:
    return "p < .001" if p < 0.001 else f"p = {p:.3f}"


def _number(value: float) -> str:
    return "< .001" if 0 < value < 0.001 else f"{value:.3f}"
