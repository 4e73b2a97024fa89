"""Everything that an explanation says, as plain records for JSON, spreadsheets and data frames."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from xlens.errors import DataError, StorageError
from xlens.explanation import Explanation
from xlens.files.writing import write_whole
from xlens.training.processes import processes

__all__ = ["explanation_records", "explanation_to_json", "write_explanation_csv"]

_SCORES = ("scores", "counterfactual_scores", "reconstruction_scores")
_ROWS = ("path_scores", "codes", "counterfactual_codes", "code_attributions")
_PIXELS = ("inputs", "counterfactual", "reconstruction", "edit", "mask", "path")


def explanation_records(
    explanation: Explanation, names: Sequence[str] | None = None, *, arrays: bool = False
) -> list[dict[str, Any]]:
    """Return a dict of plain values for each input.

    Args:
        explanation: N inputs.
        names: N names of the inputs, such as file names; numbered if None.
        arrays: with images, masks, paths and maps, as nested lists.

    Raises:
        DataError: names do not fit.
    """
    if names is not None and len(names) != len(explanation):
        raise DataError(
            "Explanation: names do not fit",
            given=f"{len(names)} names",
            allowed=f"{len(explanation)}, one for each input",
        )
    whole = explanation.to("cpu")
    return [
        _record(whole, i, f"input {i + 1}" if names is None else str(names[i]), arrays) for i in range(len(whole))
    ]


def explanation_to_json(
    explanation: Explanation,
    path: str | Path | None = None,
    names: Sequence[str] | None = None,
    *,
    arrays: bool = False,
) -> str:
    """Return an explanation as JSON, and write it to a file where one is named.

    Raises:
        DataError: names do not fit.
        StorageError: the file cannot be written.
    """
    facts = {
        "class_names": list(explanation.class_names),
        "feature_names": list(explanation.feature_names),
        "not_taught": list(explanation.not_taught),
        "decoded_from_layer": explanation.decoded_from_layer,
        "data_range": list(explanation.data_range),
        "channel_ranges": [list(pair) for pair in explanation.channel_ranges],
        "display_ranges": [list(pair) for pair in explanation.display_ranges],
        "explanations": explanation_records(explanation, names, arrays=arrays),
    }
    text = json.dumps(facts, indent=None if arrays else 2, allow_nan=False)
    if path is not None:
        _write(explanation, path, text)
    return text


def write_explanation_csv(explanation: Explanation, path: str | Path, names: Sequence[str] | None = None) -> None:
    """Write a row for each input; what has parts gets a column for each, such as ``fidelity.flips``.

    Raises:
        DataError: names do not fit.
        StorageError: the file cannot be written.
    """
    rows = [dict(_flat(record)) for record in explanation_records(explanation, names)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    _write(explanation, path, text.getvalue())


def _record(whole: Explanation, i: int, name: str, arrays: bool) -> dict[str, Any]:
    contributions = dict(zip(whole.feature_names, whole.feature_contributions[i].tolist(), strict=True))
    found: dict[str, Any] = {
        "input": name,
        "target": whole.class_names[int(whole.target[i])],
        "contrast": whole.class_names[int(whole.contrast[i])],
        **_decisions(whole, i),
        "probability": float(whole.scores[i].sigmoid()),
        "counterfactual_probability": float(whole.counterfactual_scores[i].sigmoid()),
        **{field.removesuffix("s"): float(getattr(whole, field)[i]) for field in _SCORES},
        "trustworthy": bool(whole.trustworthy[i]),
        "verdicts": {key: None if held is None else bool(held[i]) for key, held in whole.verdicts.items()},
        "problems": list(whole.problems[i]),
        "fidelity": {
            field.name: getattr(whole.fidelity, field.name)[i].item()
            for field in dataclasses.fields(whole.fidelity)
        },
        # Of what is not taught there is no figure.
        "contributions": {key: None if key in whole.not_taught else value for key, value in contributions.items()},
        "attribution_sums": {key: float(maps[i].double().sum()) for key, maps in whole.attributions.items()},
        "convergence_delta": {key: float(delta[i]) for key, delta in whole.convergence_delta.items()},
        "other_labels": {key: pair[i].tolist() for key, pair in whole.other_labels.items()},
        "masked_share": None if whole.mask is None else float(whole.mask[i].mean()),
        **{field: getattr(whole, field)[i].tolist() for field in _ROWS},
    }
    if arrays:
        pixels: dict[str, Any] = {field: _list(getattr(whole, field), i) for field in _PIXELS}
        found |= pixels | {"attributions": {key: maps[i].tolist() for key, maps in whole.attributions.items()}}
    return found


def _decisions(whole: Explanation, i: int) -> dict[str, Any]:
    """Return the classes that the classifier predicts, by name; None of explanations that do not know them."""
    kept = (None, None) if whole.decisions is None else whole.decisions[i].tolist()
    names = (None if one is None else whole.class_names[one] for one in kept)
    return dict(zip(("decision", "counterfactual_decision"), names, strict=True))


def _list(values: Tensor | None, i: int) -> Any:
    return None if values is None else values[i].tolist()


def _flat(record: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        elif key == "problems":
            yield before + key, "; ".join(value)
        elif isinstance(value, list):
            yield from ((f"{before}{key}.{place}", one) for place, one in enumerate(value))
        else:
            yield before + key, value


def _write(explanation: Explanation, path: str | Path, text: str) -> None:
    """Write a file; of several processes the first does."""
    if not processes(explanation.inputs.device).writes:
        return
    try:
        write_whole(Path(path), text.encode())
    except (OSError, UnicodeError) as fault:
        raise StorageError(
            "Explanation: cannot write", given=fault, do="choose a file that can be written"
        ) from None
