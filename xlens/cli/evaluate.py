"""``xlens evaluate``; imported when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xlens.api import load
from xlens.cli.arrays import read_array
from xlens.cli.inputs import Preprocessing
from xlens.cli.models import how_read, load_model
from xlens.cli.output import print_json
from xlens.cli.read import data_to_explain, said_of
from xlens.cli.text import visible_lines
from xlens.errors import StorageError
from xlens.evaluation import evaluate as evaluated
from xlens.report import check_writable

__all__ = ["evaluate"]


def evaluate(chosen: argparse.Namespace) -> int:
    """``xlens evaluate``."""
    if chosen.plot is not None:
        check_writable(chosen.plot)
    model = load_model(chosen.model, chosen.weights, chosen.max_bytes)
    folders = [chosen.lens, *chosen.also]
    reading = how_read(chosen)
    lenses = {_name(folder, folders): load(folder, model, **reading) for folder in folders}
    oracle = None if chosen.oracle is None else load_model(chosen.oracle, chosen.oracle_weights, chosen.max_bytes)
    first = lenses[_name(chosen.lens, folders)]
    how = said_of(chosen), Preprocessing.of(first.provenance), first.spec, chosen.max_bytes, "evaluate"
    inputs, _ = data_to_explain(chosen.images, *how)
    options: dict[str, Any] = {"methods": tuple(chosen.method)} if chosen.method else {}
    found = evaluated(
        lenses,
        inputs,
        masks=None if chosen.masks is None else read_array(chosen.masks, chosen.max_bytes)[0],
        clean=None if chosen.clean is None else data_to_explain([chosen.clean], *how)[0],
        oracle=oracle,
        references=None if chosen.references is None else data_to_explain(chosen.references, *how)[0],
        carry=chosen.carry,
        n=chosen.n,
        smoothing=chosen.smoothing,
        seed=chosen.seed,
        progress=False if chosen.json else None,
        **options,
    )
    if chosen.plot is not None:
        from xlens.plot.figure import save_figure  # matplotlib takes its time

        try:
            save_figure(found.plot(), Path(chosen.plot))
        except (OSError, ValueError) as fault:
            raise StorageError(
                "evaluate: cannot write the picture", given=fault, do="choose another --plot"
            ) from None
    if chosen.json:
        facts = {"inputs": found.count, "confidence": found.confidence, "notes": list(found.notes)}
        print_json({**facts, "figures": found.records()})
    else:
        print(visible_lines(found.to_markdown()))
    return 0


def _name(lens: str | Path, lenses: list[str | Path]) -> str:
    """Return the last part of where a lens is, or the whole where another has the same."""
    same = [other for other in lenses if Path(other).resolve().name == Path(lens).resolve().name]
    return Path(lens).resolve().name if len(same) == 1 else str(lens)
