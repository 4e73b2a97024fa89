"""What the commands do; imported when one runs."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from xlens.api import fit as fit_lens
from xlens.api import load
from xlens.classifier.classifier import Classifier
from xlens.cli.arrays import is_array
from xlens.cli.browsing import open_page
from xlens.cli.classes import as_label, check_order, make_classifier
from xlens.cli.demo import run_demo
from xlens.cli.inputs import PREPROCESSING, Preprocessing
from xlens.cli.leaves import demonstrate
from xlens.cli.models import how_read, load_codec, load_model, preprocessing_of
from xlens.cli.output import print_json, print_table
from xlens.cli.read import Examples, check_data, data_to_explain, data_to_fit, said_of
from xlens.cli.text import visible
from xlens.cli.threads import threads
from xlens.contracts.options import make
from xlens.counterfactual.mask_options import MaskOptions
from xlens.errors import OptionError, StorageError, XlensWarning
from xlens.explainer import LensExplainer
from xlens.explanation import Explanation
from xlens.hub.names import folder_of
from xlens.plot.words import other_labels
from xlens.registry.described import described, options_rows
from xlens.registry.loading import load_backend
from xlens.registry.status import as_json, as_rows, statuses
from xlens.report.lens import save_report
from xlens.report.page import check_writable
from xlens.stages.decoder import DecoderOptions

__all__ = ["backends", "demo", "explain", "fit"]

_WORDS = {"True": True, "False": False, "None": None}


def demo(chosen: argparse.Namespace) -> int:
    """``xlens demo``."""
    show = open_page if chosen.open else None
    with threads() as said:
        print(f"xlens demo: {said}", flush=True)
        if chosen.data == "leaves":
            demonstrate(chosen.backend, out=chosen.out, seed=chosen.seed, show=show)
        else:
            run_demo(chosen.data, chosen.backend, out=chosen.out, seed=chosen.seed, show=show)
    return 0


def backends(chosen: argparse.Namespace) -> int:
    """``xlens backends``."""
    if chosen.name is not None:
        backend = load_backend(chosen.name)
        if chosen.json:
            print_json({"backend": chosen.name, "options": described(backend)})
        else:
            print_table(options_rows(described(backend)))
        return 0
    found = statuses()
    if chosen.json:
        print_json(as_json(found))
    else:
        print_table(as_rows(found))
    return 0


def fit(chosen: argparse.Namespace) -> int:
    """``xlens fit``."""
    # What can be wrong is looked at before anything that takes time.
    options = _options(chosen.option)
    if chosen.backend is None and options:
        raise OptionError(
            "fit: --option without --backend", given=", ".join(options), do="say which: --backend NAME"
        )
    backend = None if chosen.backend is None else make(load_backend(chosen.backend), options)
    mask = None if chosen.mask_steps is None else MaskOptions(steps=chosen.mask_steps)
    decoder = chosen.decoder if chosen.decoder_steps is None else DecoderOptions(steps=chosen.decoder_steps)
    said = said_of(chosen)
    Preprocessing(**said)
    check_data(chosen.data)
    _check_output(folder_of(chosen.output, "fit"), "-o")
    if chosen.checkpoints is not None:
        _check_output(chosen.checkpoints, "--checkpoints")
    model = load_model(chosen.model, chosen.weights, chosen.max_bytes)
    examples = data_to_fit(chosen.data, said, _as_trained(chosen, model, said), chosen.max_bytes)
    classifier = _classifier(chosen, model, examples)
    codec = chosen.codec if chosen.codec in ("none", "auto") else load_codec(chosen.codec)
    began = time.perf_counter()
    explainer = fit_lens(
        classifier,
        examples.inputs if examples.labels is None else (examples.inputs, examples.labels),
        backend,
        mask=mask,
        decoder=decoder,
        codec=codec,
        seed=chosen.seed,
        device=chosen.device,
        output_dir=chosen.checkpoints,
        resume=chosen.resume,
        progress=False if chosen.json else None,
    )
    seconds = time.perf_counter() - began
    if examples.how is not None:
        explainer.fitted.provenance[PREPROCESSING] = examples.how.facts()
    explainer.save(chosen.output)
    n = len(examples.inputs)
    facts = {
        "lens": str(chosen.output),
        "backend": explainer.backend.name,
        "inputs": n,
        "shape": list(explainer.spec.shape),
        "class_names": list(explainer.class_names),
        "seconds": round(seconds, 1),
    }
    if chosen.json:
        print_json(facts)
    else:
        sentence = f"{explainer!r}, fitted on {n} inputs in {seconds:.0f} s, saved in {chosen.output}"
        print(visible(sentence))
    return 0


def explain(chosen: argparse.Namespace) -> int:
    """``xlens explain``."""
    for path in (chosen.html, chosen.csv):
        if path is not None:
            check_writable(path)
    model = load_model(chosen.model, chosen.weights, chosen.max_bytes)
    explainer = load(chosen.lens, model, **how_read(chosen))
    stored = Preprocessing.of(explainer.provenance)
    inputs, names = data_to_explain(chosen.images, said_of(chosen), stored, explainer.spec, chosen.max_bytes)
    with warnings.catch_warnings():
        # What does not hold is said input by input below.
        warnings.simplefilter("ignore", XlensWarning)
        explanation = explainer.explain(
            inputs,
            target=_class(chosen.target, "--target", explainer),
            contrast=_class(chosen.contrast, "--contrast", explainer),
            attributions=tuple(chosen.attribution),
            show=chosen.show,
        )
    if chosen.html is not None:
        save_report(explainer, explanation, chosen.html, names=names, title=f"{len(names)} explained")
    if chosen.csv is not None:
        explanation.to_csv(chosen.csv, names=names)
    rows = [_row(explanation, i, name) for i, name in enumerate(names)]
    if chosen.json:
        print_json({"explanations": rows, "html": str(chosen.html) if chosen.html else None})
    else:
        _print_rows(rows)
        if chosen.html is not None:
            print(visible(f"report: {chosen.html}"))
        if chosen.csv is not None:
            print(visible(f"table: {chosen.csv}"))
    return 1 if chosen.strict and not bool(explanation.trustworthy.all()) else 0


def _as_trained(chosen: argparse.Namespace, model: nn.Module | Classifier, said: dict[str, Any]) -> Preprocessing:
    """Return how images are prepared where the command line says nothing; timm knows it of its models."""
    if isinstance(model, Classifier) or not chosen.model.startswith("timm:") or is_array(chosen.data):
        return Preprocessing()
    known = {name: value for name, value in preprocessing_of(model).items() if name not in said}
    how = Preprocessing(**{**known, **said})
    if known:
        print(f"xlens: as timm prepares images for {chosen.model[5:]}: {how}", file=sys.stderr)
    return how


def _classifier(chosen: argparse.Namespace, model: nn.Module | Classifier, examples: Examples) -> Classifier:
    """Return the classifier; folders name its classes where nobody else does, in an order that is checked."""
    classifier = make_classifier(
        model,
        layer=chosen.layer,
        outputs=chosen.outputs,
        class_names=chosen.class_names,
        labels=chosen.labels,
        label=None if chosen.label is None else as_label(chosen.label, chosen.labels),
        threshold=chosen.threshold,
    )
    if classifier.class_names is not None or examples.folders is None:
        return classifier
    check_order(classifier, examples.inputs, examples.labels, examples.folders)
    return classifier.replaced(class_names=examples.folders)


def _options(pairs: list[str]) -> dict[str, Any]:
    """Return backend options from NAME=VALUE; a value is a number, True, False, None, or else text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name:
            raise OptionError("fit: --option is not NAME=VALUE", given=pair, do="for example --option steps=300")
        if text in _WORDS:
            found[name] = _WORDS[text]
            continue
        try:
            found[name] = json.loads(text)
        except (ValueError, RecursionError):
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


def _check_output(folder: Path, option: str) -> None:
    """Fail now and not after an hour of fitting."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as fault:
        raise StorageError("fit: cannot write", given=fault, do=f"choose another folder with {option}") from None


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
        "other_labels": {
            name: [round(p, 4) for p in pair[i].tolist()] for name, pair in explanation.other_labels.items()
        },
        "said_of_other_labels": other_labels(explanation, i),
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
        for line in row["said_of_other_labels"]:
            print(f"{'':<{width}}  {visible(line)}")
    print(f"{sum(row['trustworthy'] for row in rows)} of {len(rows)} explanations hold")
