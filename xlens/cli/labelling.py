"""``xlens label``: a person teaches a lens on a local page."""

from __future__ import annotations

import argparse

import torch

from xlens.api import load
from xlens.cli.inputs import Preprocessing
from xlens.cli.models import how_read, load_model
from xlens.cli.read import data_to_explain, said_of
from xlens.cli.text import visible
from xlens.data import as_inputs
from xlens.errors import OptionError
from xlens.hub.names import is_on_hub
from xlens.teaching.page import Session, serve

__all__ = ["label"]


def label(chosen: argparse.Namespace) -> int:
    """``xlens label``."""
    wrong = [f"--{name} must be >= {least}" for name, value, least in _numbers(chosen) if value < least]
    if wrong:
        raise OptionError("label: " + "; ".join(wrong))
    if is_on_hub(chosen.lens):
        raise OptionError(
            "label: answers are kept with the lens, which is on the hub",
            given=chosen.lens,
            allowed="a folder",
            do="save it first: xlens.load(name, model).save(folder)",
        )
    model = load_model(chosen.model, chosen.weights, chosen.max_bytes)
    explainer = load(chosen.lens, model, **how_read(chosen))
    stored = Preprocessing.of(explainer.provenance)
    inputs, _ = data_to_explain(chosen.images, said_of(chosen), stored, explainer.spec, chosen.max_bytes, "label")
    session = Session(
        explainer,
        as_inputs(torch.as_tensor(inputs), explainer.spec.shape),
        chosen.lens,
        check=chosen.check,
        per_round=chosen.per_round,
        strategy=chosen.strategy,
        seed=chosen.seed,
    )
    server, address = serve(session, port=chosen.port)
    print(visible(f"open {address}  (Ctrl-C stops; nothing is lost)"), flush=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()
        if explainer.mask is not None:
            said = "the mask of its edits is as it was: explainer.teaching.refit_mask(data) fits it anew"
            print(visible(said), flush=True)
    return 0


def _numbers(chosen: argparse.Namespace) -> tuple[tuple[str, int, int], ...]:
    return ("check", chosen.check, 4), ("per-round", chosen.per_round, 1), ("seed", chosen.seed, 0)
