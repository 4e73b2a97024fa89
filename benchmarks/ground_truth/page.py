"""The page of the ground-truth benchmark, from the cells that are there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.ground_truth.cells import CEILING, FOLDER, LENS_FREE, OF_LENSES, SMOOTHING, STEPS, TEST, VALIDATION
from benchmarks.ground_truth.words import ASKED, HEAD, MISSING, TRIED, WHEN
from xlens.evaluation.table import interval

PICTURES = Path("docs/pictures")
PLANTED = ("blob", "scratch", "texture")
TASKS = (*PLANTED, "cups", "pair", "solar")
#: What a map is chosen by on the validation inputs: the mean of the three.
CHOICE = ("pointing", "IoU, smoothed", "mass")
#: What else is compared, pair by pair.
ALSO = ("DiffID, true fill", "DiffID", "drop")
COLUMNS = (
    "pointing", "IoU", "IoU, smoothed", "mass", "rank", "DiffID, true fill", "DiffID, own fill", "deletion",
    "insertion", "DiffID", "drop", "sparseness", "randomised",
)  # fmt: skip
LENS_ROWS = (
    "agrees", "flips", "decoding flips", "trustworthy", "trustworthy, the classifier shuffled",
    "monotone", "coverage",
    "edit inside the mask", "L1", "L2", "pixels changed", "COUT", "sFID", "sFID, references",
)  # fmt: skip

Cell = dict[str, Any]


def write(out: Path) -> None:
    """Write the page."""
    cells = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    if not cells:
        raise SystemExit("no cell is there yet: python -m benchmarks.ground_truth --run blob 0 none")
    best = recommended(cells)
    blocks = [HEAD.format(validation=VALIDATION, test=TEST, smoothing=SMOOTHING, steps=STEPS), ran(cells)]
    if best is not None:
        blocks += [choice(cells, best), reached(cells, best), differences(cells, best)]
    for task in TASKS:
        if here := [one for one in cells if one["task"] == task]:
            blocks.append(f"## {task.capitalize()}: every map\n\n" + maps_table(here))
            for picture in sorted(PICTURES.glob(f"ground-truth-{task}-*.png")):
                blocks.append(f"![{picture.stem}](../pictures/{picture.name})")
    if any(one["lens"] != "none" for one in cells):
        blocks += ["## Lenses and judges\n\n" + ASKED, judged(cells), lenses_table(cells)]
    blocks += [WHEN, TRIED, MISSING]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n\n".join(blocks).rstrip() + "\n")


def values_of(cell: Cell, who: str, name: str, half: str) -> dict[int, float]:
    """Return input -> value of a figure in one half of the inputs."""
    wanted = range(VALIDATION) if half == "validation" else range(VALIDATION, VALIDATION + TEST)
    for row in cell["figures"]:
        if (row["who"], row["name"]) == (who, name):
            return {i: v for i, v in zip(row["index"], row["values"], strict=True) if i in wanted}
    return {}


def mean_of(cell: Cell, who: str, name: str, half: str = "test") -> float | None:
    found = values_of(cell, who, name, half)
    return sum(found.values()) / len(found) if found else None


def score(cells: Iterable[Cell], who: str) -> float | None:
    """Mean over cells and the three figures on the validation inputs."""
    found = [mean_of(cell, who, name, "validation") for cell in cells for name in CHOICE]
    found = [value for value in found if value is not None]
    return sum(found) / len(found) if found else None


def recommended(cells: list[Cell]) -> tuple[str, str] | None:
    """Return the lens and the map that is best on the validation inputs of tasks that every lens was fitted on."""
    lenses = {c["lens"] for c in cells if c["lens"] != "none" and score([c], "lig") is not None}
    common = [
        (c["task"], c["seed"])
        for c in cells
        if c["lens"] in lenses and lenses == {o["lens"] for o in cells if same(o, c) and o["lens"] in lenses}
    ]
    scored = {
        (name, who): score([c for c in cells if c["lens"] == name and (c["task"], c["seed"]) in common], who)
        for name in sorted(lenses)
        for who in OF_LENSES
    }
    scored = {key: value for key, value in scored.items() if value is not None}
    return max(scored, key=scored.get) if scored else None


def same(one: Cell, other: Cell) -> bool:
    return (one["task"], one["seed"]) == (other["task"], other["seed"])


def ran(cells: list[Cell]) -> str:
    lines = ["## What was run", "",
             "| task | seed | lens | inputs | fit, CPU seconds | right: the classifier | right: judges |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for c in cells:
        f, *judges = c["accuracy"].values()
        seconds = f"{c['seconds']:.0f}" if c["seconds"] else ""
        lines.append(
            f"| {c['task']} | {c['seed']} | {c['lens']} | {c['count']} | {seconds} | {f:.3f} | "
            + " / ".join(f"{value:.3f}" for value in judges)
            + " |"
        )
    return "\n".join(lines)


def choice(cells: list[Cell], best: tuple[str, str]) -> str:
    lines = [
        "## Which map is recommended",
        "",
        f"Mean of {', '.join(CHOICE)} on the {VALIDATION} validation inputs of each cell. The choice is made on "
        "the cells that every lens has; everything below this table is on the test inputs.",
        "",
        "| lens | task, seed | " + " | ".join(OF_LENSES) + " |",
        "|---" * (len(OF_LENSES) + 2) + "|",
    ]
    for c in cells:
        if c["lens"] == "none" or score([c], "lig") is None:
            continue
        row = [f"{score([c], who):.3f}" for who in OF_LENSES]
        lines.append(f"| {c['lens']} | {c['task']}, {c['seed']} | " + " | ".join(row) + " |")
    return "\n".join([*lines, "", f"Chosen: **`{best[1]}` of the `{best[0]}` lens**."])


def reached(cells: list[Cell], best: tuple[str, str]) -> str:
    """The three figures that were asked, by task and over all planted ones, and where the classifier is clear."""
    lines = [
        "| asked of the chosen map, on the test inputs | task | seeds | measured | IG from the true original | "
        "where the classifier calls the true original negative |",
        "|---|---|---|---|---|---|",
    ]
    for name, least in (("pointing", 0.96), ("IoU, smoothed", 0.73), ("mass", 0.60)):
        for label, tasks in (*((task, (task,)) for task in TASKS), ("all planted", PLANTED)):
            here = [c for c in cells if c["lens"] == best[0] and c["task"] in tasks]
            mine = [value for c in here for value in values_of(c, best[1], name, "test").values()]
            if not mine:
                continue
            clear = [v for c in here for i, v in values_of(c, best[1], name, "test").items() if is_clear(c, i)]
            others = [c for c in cells if c["lens"] == "none" and any(same(c, one) for one in here)]
            tops = [value for c in others for value in values_of(c, CEILING, name, "test").values()]
            found, (low, high) = mean(mine), interval(torch.tensor(mine, dtype=torch.float64), 0.95, 0)
            top = f"{mean(tops):.3f} ({found / mean(tops):.0%} of it)" if tops else ""
            verdict = "reached" if found >= least else "missed"
            lines.append(
                f"| {name} at least {least} | {label} | {seeds_of(here)} | "
                f"{found:.3f} ({low:.3f} to {high:.3f}), {verdict} | {top} | {mean(clear):.3f} ({len(clear)} of "
                f"{len(mine)}) |"
            )
    return "\n".join(lines)


def seeds_of(cells: list[Cell]) -> str:
    return ", ".join(map(str, sorted({c["seed"] for c in cells})))


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def is_clear(cell: Cell, i: int) -> bool:
    """Whether the classifier calls the true original of an input negative: the planted cause is all that it saw."""
    return cell["f_on_original"][i] == 0


def differences(cells: list[Cell], best: tuple[str, str]) -> str:
    """The chosen map against each baseline, input by input, over all planted tasks, then for each task."""
    lines = [
        "How far it is ahead of each baseline, input by input, with 95% bootstrap intervals over the inputs of all "
        "its cells; a baseline whose interval lies below 0 **wins**.",
    ]
    for label, tasks in (("All planted causes", PLANTED), *((task.capitalize(), (task,)) for task in TASKS)):
        here = [c for c in cells if c["task"] in tasks]
        if table := _differences(here, best):
            lines += ["", f"{label}:", "", *table]
    return "\n".join(lines)


def _differences(cells: list[Cell], best: tuple[str, str]) -> list[str]:
    lines = []
    for baseline in LENS_FREE:
        row = []
        for name in (*CHOICE, *ALSO):
            paired: list[float] = []
            for c in (c for c in cells if c["lens"] == best[0]):
                other = next((o for o in cells if same(o, c) and o["lens"] == "none"), None)
                if other is None:
                    continue
                mine, theirs = values_of(c, best[1], name, "test"), values_of(other, baseline, name, "test")
                paired += [mine[i] - theirs[i] for i in mine if i in theirs]
            found = interval(torch.tensor(paired, dtype=torch.float64), 0.95, 0) if paired else None
            if found is None:
                row.append("")
                continue
            text = f"{mean(paired):+.3f} ({found[0]:+.3f} to {found[1]:+.3f})"
            row.append(f"**{text}**" if found[1] < 0 else text)
        if any(row):
            lines.append(f"| {baseline} | " + " | ".join(row) + " |")
    names = (*CHOICE, *ALSO)
    return ["| baseline | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|", *lines] if lines else []


def maps_table(cells: list[Cell]) -> str:
    """Rows of methods; with several seeds the mean, and in brackets smallest and largest."""
    rows = [(c, who) for c in ("none",) for who in (CEILING, *LENS_FREE)]
    rows = [(c["lens"], who) for c in cells if c["lens"] != "none" for who in OF_LENSES] + rows
    there = {(r["who"], r["name"]) for c in cells for r in c["figures"]}
    shown = [name for name in COLUMNS if any((who, name) in there for _, who in rows)]
    lines = [f"Seeds {seeds_of(cells)}.", "", "| | " + " | ".join(shown) + " |",
             "|---" * (len(shown) + 1) + "|"]  # fmt: skip
    for lens, who in dict.fromkeys(rows):
        row = []
        for name in shown:
            half = "all" if name == "randomised" else "test"
            found = [_mean(c, who, name, half) for c in cells if c["lens"] == lens]
            row.append(_cell([value for value in found if value is not None]))
        if any(row):
            lines.append(f"| {who if lens == 'none' else f'{lens}: {who}'} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _mean(cell: Cell, who: str, name: str, half: str) -> float | None:
    if half == "all":
        return next((r["value"] for r in cell["figures"] if (r["who"], r["name"]) == (who, name)), None)
    return mean_of(cell, who, name, half)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    mean = sum(values) / len(values)
    return f"{mean:.3f}" if len(values) == 1 else f"{mean:.3f} ({min(values):.3f} to {max(values):.3f})"


def judged(cells: list[Cell]) -> str:
    """What was asked of the judges, by lens, on edits as they are carried by default."""
    lines = [
        "| asked: judges see the contrast class | task | lens | seeds | judge | edits | true originals |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, least, tasks in (("planted: .95", 0.95, PLANTED), ("look-alike pair: .92", 0.92, ("pair",))):
        for task, lens in dict.fromkeys((c["task"], c["lens"]) for c in cells if c["task"] in tasks):
            here = [c for c in cells if (c["task"], c["lens"]) == (task, lens)]
            for name in _judges(here):
                flips, originals = (
                    [r["value"] for c in here for r in c["figures"] if r["name"] == f"{name}: {what}"]
                    for what in ("flips", "true original")
                )
                verdict = "reached" if mean(flips) >= least else "missed"
                lines.append(
                    f"| {label} | {task} | {lens} | {seeds_of(here)} | {name} | {_cell(flips)}, {verdict} | "
                    f"{_cell(originals)} |"
                )
    return "\n".join(lines)


def _judges(cells: list[Cell]) -> list[str]:
    named = (r["name"] for c in cells for r in c["figures"] if r["who"] == "lens" and r["name"].startswith("judge"))
    return list(dict.fromkeys(name.rpartition(": ")[0] for name in named))


def lenses_table(cells: list[Cell]) -> str:
    """One row for each task, lens and way of carrying its change; over seeds as in the tables of maps."""
    rows: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for task in TASKS:
        for c in (c for c in cells if c["task"] == task and c["lens"] != "none"):
            for carry, figures in {"masked": c["figures"], **c["carry"]}.items():
                found = {r["name"]: r["value"] for r in figures if r["who"] == "lens"}
                rows.setdefault((task, c["lens"], carry), []).append(found)
    judged = [name for found in rows.values() for one in found for name in one if name.startswith("judge")]
    there = {name for found in rows.values() for one in found for name in one}
    names = [name for name in (*dict.fromkeys(judged), *LENS_ROWS) if name in there]
    lines = ["| task | lens | carry | " + " | ".join(names) + " |", "|---" * (len(names) + 3) + "|"]
    for key, found in rows.items():
        row = [_cell([one[name] for one in found if name in one]) for name in names]
        lines.append(f"| {' | '.join(key)} | " + " | ".join(row) + " |")
    return "\n".join(lines)
