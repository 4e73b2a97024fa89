"""The result of an audit, as data: groups, alarms, tones, and tables of it all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from xlens.auditing.alarms import Alarm, verdict_of
from xlens.auditing.group import Group
from xlens.auditing.groups import FEWEST
from xlens.auditing.parts import Parts
from xlens.auditing.remedy import Remedy, cell, remedied
from xlens.auditing.sweep import Seen
from xlens.auditing.tables import COLUMNS, finite, rows_of
from xlens.auditing.tone import Tone
from xlens.auditing.writing import checked_name, csv_of, write_text
from xlens.contracts.numbers import whole
from xlens.errors import OptionError, UnsupportedError, did_you_mean
from xlens.fitted import Fitted

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["Audit"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Audit:
    """Audit: what a classifier relies on over a set of data, in groups, with alarms for shortcuts.

    Args:
        groups: what had to change, alike in many inputs; suspects of a shortcut first, then by how many decisions
            they stand behind.
        alarms: the suspects, the most suspect first.
        tones: decisions that go by the colours or the light of whole images, the strongest first.
        parts, seen: the rows behind: each part of each edit, and each input that was explained.
        total: inputs that should have been explained; fewer were, where time ran out.
        notes: what was left out, and why.
        names: what a person called groups, by their number.
        fitted: classifier and lens.
        seed: decided which inputs, and everything random.
        thumbnails: number of a group -> its exemplars before and after ``(E, 2, C, H, W)``, for the page.

    >>> import xlens
    >>> audit = xlens.audit(explainer, images[:64], progress=False)
    >>> audit.count, audit.alarms
    (64, ())
    """

    groups: tuple[Group, ...]
    alarms: tuple[Alarm, ...]
    tones: tuple[Tone, ...]
    parts: Parts
    seen: Seen
    total: int
    notes: tuple[str, ...]
    fitted: Fitted
    seed: int
    thumbnails: dict[int, Tensor]
    names: dict[int, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of inputs that were explained."""
        return len(self.seen.input)

    def group(self, which: int | str | Group) -> Group:
        """Return a group by its number, or by the name that a person gave it; a group of this audit as it is.

        Raises:
            OptionError: there is none, or it is a group of another audit.
        """
        if isinstance(which, Group):
            if all(one is not which for one in self.groups):
                # Its number would be that of another group here.
                raise OptionError(
                    "Audit: that group is not of this audit",
                    given=which,
                    allowed=f"one of its {len(self.groups)} groups, or a number or name of one",
                    do="ask the audit that it is of",
                )
            return which
        if isinstance(which, str):
            numbers = [number for number, name in self.names.items() if name == which]
            if not numbers:
                near = did_you_mean(which, list(self.names.values()))
                raise OptionError(
                    f"Audit: no group was named {which!r}.{near}", do="audit.name(number, name) names one"
                )
            return self.groups[numbers[0]]
        number = whole(which)
        if number is None or not 0 <= number < len(self.groups):
            raise OptionError(
                "Audit: there is no such group",
                given=f"a {which.kind!r} tone" if isinstance(which, Tone) else repr(which),
                allowed=f"a number below {len(self.groups)}, a name that was given, or a group of this audit; to "
                "remedy several, too, in a list, tuple, set, array or tensor",
                do="see audit.groups for what there is",
            )
        return self.groups[number]

    def name(self, which: int | str | Group, name: str) -> None:
        """Name a group: the name stands on the page and in tables, and is a column of :meth:`attributes`.

        Blanks around it do not count.

        Raises:
            OptionError: there is no such group, another one is called so, or it is no line of 1 to 80 characters.
        """
        number = self.group(which).number
        self.names[number] = checked_name(name, [self.title(one) for one in self.groups if one.number != number])

    def title(self, which: int | str | Group) -> str:
        """Return a group's name, or its number where nobody has named it."""
        number = self.group(which).number
        return self.names.get(number, f"group {number}")

    def verdict(self, which: int | str | Group) -> str:
        """Return what a group says, in plain words."""
        return verdict_of(self.group(which))

    @property
    def calm(self) -> str:
        """What is said where there is no alarm: no group looks like a shortcut, or none was looked for."""
        if np.bincount(self.parts.target, minlength=1).max() >= 2 * FEWEST:
            return "No group looks like a shortcut."
        return "No group was looked for, so that nothing is said of shortcuts: too few edits for any class."

    def attributes(self) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Return the named groups as attributes, for ``explainer.teaching.teach`` and ``side_info=`` of ``fit``.

        Returns:
            ``(N,)`` positions in the data of the inputs that were explained; ``(N, A)`` 1 where an input is in the
            group, else 0; and the A names.

        Raises:
            OptionError: no group has a name.
        """
        if not self.names:
            raise OptionError("Audit.attributes: no group has a name", do="audit.name(number, name) names one")
        index = torch.from_numpy(self.seen.input)
        columns = [torch.isin(index, self.groups[number].inputs) for number in sorted(self.names)]
        named = tuple(self.names[number] for number in sorted(self.names))
        return index, torch.stack(columns, 1).float(), named

    def remedy(
        self, data: Any, groups: Iterable[int | str | Group | Tone] | int | str | Group | Tone | None = None
    ) -> Remedy:
        """Accuracy with and without the evidence of some groups.

        Args:
            data: inputs with labels, as for :func:`xlens.fit`.
            groups: one or several, whose evidence is filled, and tones, that are shifted; None for all groups that
                raise an alarm.

        Raises:
            DataError: the data have no labels, or some that are no classes, or inputs of another shape.
            OptionError: no group is given, or None and there is no alarm; or there is no such group.
        """
        chosen = [alarm.group for alarm in self.alarms] if groups is None else _several(groups)
        if not chosen:
            named = (
                "name some: groups=[0]" if self.groups else "the audit found no groups; name tones, if it has any"
            )
            raise OptionError(
                "Audit.remedy: nothing to fill",
                given="no groups" if groups is not None else "no groups, and there is no alarm",
                allowed="groups and tones of this audit, one or several",
                do=f"leave groups out for those of the alarms, or {named}" if self.alarms else named,
            )
        evidence: list[tuple[str, Group | Tone]] = [
            (f"{one.kind} of {one.target!r}", one) if isinstance(one, Tone) else (self.title(one), self.group(one))
            for one in chosen
        ]
        return remedied(self.fitted, data, evidence)

    def records(self) -> list[dict[str, Any]]:
        """Return each group, and after them each tone, as a plain dict, for tables.

        ``kind`` tells them apart: ``"place"`` is a group, ``"colours"`` and ``"light"`` are tones. What does not
        apply is NaN, or empty; a tone has no number.
        """
        return rows_of(self.groups, self.alarms, [self.title(group) for group in self.groups], self.tones)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a pandas DataFrame with a row for each group, and for each tone.

        Raises:
            UnsupportedError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UnsupportedError(
                "Audit.to_dataframe: pandas is not installed",
                do="pip install pandas, or take .records(), which needs nothing",
            ) from None
        return pandas.DataFrame(self.records(), columns=list(COLUMNS))

    def to_csv(self, path: str | Path) -> None:
        """Write a row for each group, and for each tone, as comma-separated values; the header alone without any.

        Raises:
            OptionError: it is no path.
            StorageError: its folder does not exist, or the file cannot be written.
        """
        write_text(path, csv_of(self.records(), COLUMNS), "Audit.to_csv")

    def to_json(self, path: str | Path | None = None) -> str:
        """Return everything but pictures as JSON, where what is not finite is null; to a file where one is named.

        Raises:
            OptionError: it is no path.
            StorageError: its folder does not exist, or the file cannot be written.
        """
        facts = {
            "inputs": self.count,
            "total": self.total,
            "notes": list(self.notes),
            "alarms": [dataclasses.asdict(alarm) for alarm in self.alarms],
            "groups": rows_of(self.groups, self.alarms, [self.title(group) for group in self.groups]),
            "tones": [dataclasses.asdict(tone) | {"said": tone.said} for tone in self.tones],
        }
        text = json.dumps(finite(facts), indent=2)
        if path is not None:
            write_text(path, text, "Audit.to_json")
        return text

    def plot(self) -> Figure:
        """Draw where each group lies, how much it does, and its exemplars; the matplotlib figure is returned.

        W&B and MLflow take it, and the tables, by ``xlens.integrations.audits``.
        """
        from xlens.auditing.figures import plot_audit

        return plot_audit(self)

    def save_html(self, path: str | Path, *, title: str = "What the classifier relies on") -> None:
        """Write one HTML file that opens in any browser, without a network: overview, groups, and their exemplars.

        Args:
            path: the file.
            title: heading of the page.

        Raises:
            StorageError: the file cannot be written.
        """
        from xlens.auditing.page import save_page

        save_page(self, path, title)

    def to_markdown(self) -> str:
        """Return the alarms, then a table of the groups."""
        part = f"{self.count} of {self.total} inputs explained; {len(self.parts)} parts, {len(self.groups)} groups."
        lines = [part, ""]
        lines += [f"- ALARM, {self.title(one.group)}: {self.verdict(one.group)}" for one in self.alarms]
        lines += [] if self.alarms else [self.calm]
        lines += [f"- Tone: {one.said}" for one in self.tones]
        if self.groups:
            lines += ["", "| group | target | share | effect | flips | place | sameness |", "|---" * 7 + "|"]
        for group in self.groups:
            effect = f"{group.effect:.2f} ({group.effect_low:.2f} to {group.effect_high:.2f})"
            place = ", ".join(f"{value:.2f}" for value in group.place)
            cells = [
                cell(self.title(group)),
                cell(group.target),
                f"{group.share:.0%}",
                effect,
                f"{group.flips:.0%}",
                place,
            ]
            lines.append(f"| {' | '.join(cells)} | {group.template.sameness:.2f} |")
        return "\n".join([*lines, *(f"\n- {note}" for note in self.notes)])

    def __repr__(self) -> str:
        """Return the tables: what one wants to see at a prompt."""
        return self.to_markdown()

    def _repr_markdown_(self) -> str:
        """Return what a notebook shows."""
        return self.to_markdown()


def _several(asked: Any) -> list[Any]:
    """Return what a user names as groups as a list; what is neither one nor several is refused as no such group."""
    if isinstance(asked, np.ndarray | Tensor):
        asked = asked.tolist()
    if isinstance(asked, str | bytes | Mapping) or not isinstance(asked, Iterable):
        return [asked]
    # A set has no order that is the same in each run.
    return sorted(asked, key=repr) if isinstance(asked, Set) else [*asked]
