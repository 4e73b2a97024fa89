"""What the commands do; imported when one runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from xlens.api import fit as fit_lens
from xlens.api import load
from xlens.classifier import Classifier
from xlens.cli import visible
from xlens.cli.inputs import Preprocessing, class_folders, find_images, is_array, read_array, read_images
from xlens.cli.models import load_model
from xlens.contracts import Spec
from xlens.demo import run_demo
from xlens.errors import DataError, OptionError, StorageError, XlensWarning
from xlens.explainer import LensExplainer
from xlens.explanation import Explanation
from xlens.status import as_json, as_table, statuses

__all__ = ["backends", "demo", "explain", "fit", "inputs_of"]

_WORDS = {"True": True, "False": False, "None": None}


def demo(chosen: argparse.Namespace) -> int:
    """``xlens demo``."""
    run_demo(chosen.data, chosen.backend, out=chosen.out, seed=chosen.seed)
    return 0


def backends(chosen: argparse.Namespace) -> int:
    """``xlens backends``."""
    found = statuses()
    print(json.dumps(as_json(found), indent=2) if chosen.json else as_table(found))
    return 0


def fit(chosen: argparse.Namespace) -> int:
    """``xlens fit``."""
    options = _options(chosen.option)
    how = _preprocessing(chosen, Preprocessing())
    _check_output(chosen.output)
    model = load_model(chosen.model, chosen.weights)
    inputs, labels, names = _data(chosen.data, how)
    names = chosen.class_names or names
    if not isinstance(model, Classifier):
        model = Classifier(model, layer=chosen.layer, outputs=chosen.outputs, class_names=names)
    began = time.perf_counter()
    explainer = fit_lens(
        model,
        inputs if labels is None else (inputs, labels),
        chosen.backend,
        seed=chosen.seed,
        device=chosen.device,
        output_dir=chosen.checkpoints,
        resume=chosen.resume,
        progress=False if chosen.json else None,
        **options,
    )
    seconds = time.perf_counter() - began
    explainer.save(chosen.output)
    Preprocessing.forget(chosen.output)
    if not is_array(chosen.data):
        how.save(chosen.output)
    facts = {
        "lens": str(chosen.output),
        "backend": explainer.backend.name,
        "inputs": len(inputs),
        "shape": list(explainer.spec.shape),
        "class_names": list(explainer.class_names),
        "seconds": round(seconds, 1),
    }
    if chosen.json:
        print(json.dumps(facts, indent=2))
    else:
        said = f"{explainer!r}, fitted on {len(inputs)} inputs in {seconds:.0f} s, saved in {chosen.output}"
        print(visible(said))
    return 0


def explain(chosen: argparse.Namespace) -> int:
    """``xlens explain``."""
    stored = Preprocessing.load(chosen.lens)
    model = load_model(chosen.model, chosen.weights)
    explainer = load(chosen.lens, model, device=chosen.device)
    inputs, names = inputs_of(chosen, stored, explainer.spec)
    with warnings.catch_warnings():
        # What does not hold is said input by input below.
        warnings.simplefilter("ignore", XlensWarning)
        explanation = explainer.explain(
            inputs,
            target=_class(chosen.target, "--target", explainer),
            contrast=_class(chosen.contrast, "--contrast", explainer),
            attributions=tuple(chosen.attribution),
        )
    if chosen.html is not None:
        explainer.report(explanation, chosen.html, names=names, title=f"{len(names)} explained")
    rows = [_row(explanation, i, name) for i, name in enumerate(names)]
    if chosen.json:
        print(json.dumps({"explanations": rows, "html": str(chosen.html) if chosen.html else None}, indent=2))
    else:
        _print_rows(rows)
        if chosen.html is not None:
            print(visible(f"report: {chosen.html}"))
    return 1 if chosen.strict and not bool(explanation.trustworthy.all()) else 0


def _data(path: Path, how: Preprocessing) -> tuple[Any, Any, list[str] | None]:
    """Return inputs, labels or None, and class names or None."""
    if is_array(path):
        return *read_array(path), None
    if not path.is_dir():
        raise DataError(
            "fit: no such data", given=path, allowed="a folder of images (per class), .npz, .npy or .pt"
        )
    folders = class_folders(path)
    if not folders:
        return read_images(find_images([path]), how), None, None
    files = [find_images([folder]) for folder in folders]
    labels = np.repeat(np.arange(len(folders)), [len(part) for part in files])
    images = read_images([image for part in files for image in part], how)
    return images, labels, [folder.name for folder in folders]


def inputs_of(chosen: argparse.Namespace, stored: Preprocessing | None, spec: Spec) -> tuple[Any, list[str]]:
    """Return the inputs to explain, and their names."""
    arrays = [path for path in chosen.images if is_array(path)]
    if arrays and len(chosen.images) > 1:
        raise OptionError(
            "explain: arrays are explained one file at a time", given=f"{len(chosen.images)} paths", do="name one"
        )
    if arrays:
        inputs, _ = read_array(arrays[0])
        return inputs, [f"{arrays[0].name} {i}" for i in range(len(inputs))]
    if not spec.is_image or spec.shape[0] not in (1, 3):
        raise DataError(
            "explain: this lens was not fitted on grey or colour images",
            given=f"inputs of shape {spec.shape}",
            do="pass the inputs as .npz, .npy or .pt",
        )
    own = Preprocessing(size=spec.shape[1:], mode="grey" if spec.shape[0] == 1 else "rgb")
    how = _preprocessing(chosen, stored or own)
    if stored is None and chosen.mean is None and (min(spec.minimum) < -0.05 or max(spec.maximum) > 1.05):
        raise DataError(
            "explain: how image files become this lens's inputs is not known",
            given=f"a lens fitted on values from {min(spec.minimum):.3g} to {max(spec.maximum):.3g}",
            do="say --mean and --std, or pass the inputs as .npz, .npy or .pt",
        )
    paths = find_images(chosen.images)
    return read_images(paths, how), [str(path) for path in paths]


def _preprocessing(chosen: argparse.Namespace, default: Preprocessing) -> Preprocessing:
    """Return `default` with what the command line says otherwise."""
    said: dict[str, Any] = {key: getattr(chosen, key) for key in ("size", "mode", "mean", "std")}
    said = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items() if value}
    if len(said.get("size", ())) == 1:
        said["size"] *= 2
    return dataclasses.replace(default, **said)


def _options(pairs: list[str]) -> dict[str, Any]:
    """Return backend options from NAME=VALUE; a value is a number, True, False, None, or else text."""
    found = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name:
            raise OptionError("fit: --option is not NAME=VALUE", given=pair, do="for example --option steps=300")
        if text in _WORDS:
            found[name] = _WORDS[text]
            continue
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _class(text: str | None, option: str, explainer: LensExplainer) -> int | None:
    """Return a class given by name or by number."""
    if text is None:
        return None
    names = explainer.class_names
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    allowed = f"{', '.join(names)}, or 0 to {len(names) - 1}"
    raise OptionError(f"explain: no class for {option}", given=text, allowed=allowed)


def _check_output(folder: Path) -> None:
    """Fail now and not after an hour of fitting."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise StorageError("fit: cannot write", given=fault, do="choose another folder with -o") from None


def _row(explanation: Explanation, i: int, name: str) -> dict[str, Any]:
    classes = explanation.class_names
    return {
        "input": name,
        "target": classes[int(explanation.target[i])],
        "contrast": classes[int(explanation.contrast[i])],
        "score": round(float(explanation.scores[i]), 4),
        "counterfactual_score": round(float(explanation.counterfactual_scores[i]), 4),
        "flips": bool(explanation.fidelity.flips[i]),
        "trustworthy": bool(explanation.trustworthy[i]),
        "problems": list(explanation.problems[i]),
    }


def _print_rows(rows: list[dict[str, Any]]) -> None:
    rows = [{**row, **{key: visible(row[key]) for key in ("input", "target", "contrast")}} for row in rows]
    width = max(len(row["input"]) for row in rows)
    for row in rows:
        verdict = "holds" if row["trustworthy"] else visible("DO NOT TRUST: " + "; ".join(row["problems"]))
        print(
            f"{row['input']:<{width}}  {row['target']} not {row['contrast']}  "
            f"score {row['score']:+.2f} -> {row['counterfactual_score']:+.2f}  {verdict}"
        )
    print(f"{sum(row['trustworthy'] for row in rows)} of {len(rows)} explanations hold")
