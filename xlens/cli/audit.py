"""``xlens audit``; imported when it runs."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from xlens.api import load
from xlens.auditing import audit as audited
from xlens.cli.arrays import is_array, read_array
from xlens.cli.inputs import Preprocessing, class_folders, listed
from xlens.cli.models import how_read, load_model
from xlens.cli.output import print_json
from xlens.cli.read import check_data, data_to_explain, said_of
from xlens.cli.text import visible_lines
from xlens.errors import DataError
from xlens.explainer import LensExplainer
from xlens.report import check_writable

__all__ = ["audit"]

#: The column of a table that says which image a row is about.
_FILE = "file"


def audit(chosen: argparse.Namespace) -> int:
    """``xlens audit``."""
    for path in (chosen.html, chosen.csv):
        if path is not None:
            check_writable(path)
    check_data(chosen.data, "audit")
    model = load_model(chosen.model, chosen.weights, chosen.max_bytes)
    explainer = load(chosen.lens, model, **how_read(chosen))
    inputs, labels, names = _inputs(chosen, explainer)
    found = audited(
        explainer,
        inputs if labels is None else (inputs, labels),
        masks=None if chosen.masks is None else read_array(chosen.masks, chosen.max_bytes)[0],
        metadata=None if chosen.metadata is None else _facts(chosen.metadata, names),
        n=chosen.n,
        search=chosen.search,
        seconds=chosen.seconds,
        output_dir=chosen.checkpoints,
        seed=chosen.seed,
        progress=False if chosen.json else None,
    )
    if chosen.html is not None:
        found.save_html(chosen.html)
    if chosen.csv is not None:
        found.to_csv(chosen.csv)
    if chosen.json:
        print_json(json.loads(found.to_json()))
    else:
        print(visible_lines(found.to_markdown()))
    return 0


def _inputs(chosen: argparse.Namespace, explainer: LensExplainer) -> tuple[Any, Any, list[str]]:
    """Return inputs, true classes where folders or the array say them, and names."""
    how = said_of(chosen), Preprocessing.of(explainer.provenance), explainer.spec, chosen.max_bytes, "audit"
    folders = [] if is_array(chosen.data) else class_folders(chosen.data)
    if not folders:
        inputs, names = data_to_explain([chosen.data], *how)
        labels = read_array(chosen.data, chosen.max_bytes)[1] if is_array(chosen.data) else None
        return inputs, labels, names
    known = {name: number for number, name in enumerate(explainer.class_names)}
    if unknown := [folder.name for folder in folders if folder.name not in known]:
        raise DataError(
            "audit: folders that are no classes of this lens",
            given=", ".join(unknown[:5]),
            allowed=", ".join(known),
            do="name the folders as the classes, or put all images into one",
        )
    inputs, names = data_to_explain([path for folder in folders for path in listed(folder)], *how)
    return inputs, np.array([known[Path(name).parent.name] for name in names]), names


def _facts(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Return the columns of a table, a row for each input in the order of these.

    Raises:
        DataError: it cannot be read, or lacks rows.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as fault:
        raise DataError(
            "audit: the metadata cannot be read",
            given=fault,
            allowed="a .csv in UTF-8 with a header",
            do="check the path and how the table was saved",
        ) from None
    if rows and _FILE in rows[0]:
        rows = _of_images(rows, names)
    if len(rows) != len(names):
        raise DataError(
            "audit: the metadata do not fit the data",
            given=f"{len(rows)} rows",
            allowed=f"{len(names)}, one for each input",
            do=f"add a row for each input in the order of the data, or of images a column {_FILE!r} of their names",
        )
    return {column: _column([row[column] for row in rows]) for column in rows[0] if column and column != _FILE}


def _of_images(rows: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """Return the row of each image: the one whose path ends as the image's does.

    Raises:
        DataError: an image has none, or several.
    """
    by_name: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {}
    for row in rows:
        # A row that ends before the column of names is of no image.
        if row[_FILE]:
            path = Path(row[_FILE])
            by_name.setdefault(path.name, []).append((path.parts, row))
    found = []
    for name in names:
        own = Path(name).parts
        fitting = [row for parts, row in by_name.get(own[-1], []) if _ends_alike(own, parts)]
        if not fitting:
            raise DataError(
                "audit: the metadata lack images",
                given=f"no row for {name}",
                allowed=f"paths in the column {_FILE!r} that end as those of the images do",
                do="add a row for each image",
            )
        if len(fitting) > 1:
            raise DataError(
                "audit: the metadata have several rows for one image",
                given=f"{len(fitting)} rows for {name}",
                allowed="one row for each image",
                do=f"say its folder too in the column {_FILE!r}, as in class/{own[-1]}",
            )
        found.append(fitting[0])
    return found


def _ends_alike(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether two paths are the same, as far as the shorter one says."""
    shared = min(len(first), len(second))
    return first[-shared:] == second[-shared:]


def _column(values: list[str]) -> np.ndarray:
    """Return numbers where all are numbers or missing, else words; what is missing is NaN or None."""
    try:
        return np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return np.array([value or None for value in values], dtype=object)
