"""``xlens push``; imported when it runs."""

from __future__ import annotations

import argparse
import warnings

from xlens.api import load
from xlens.cli.inputs import Preprocessing
from xlens.cli.models import how_read, load_model
from xlens.cli.output import print_json
from xlens.cli.read import data_to_explain, said_of
from xlens.cli.text import visible
from xlens.errors import XlensWarning
from xlens.hub.names import repo_name
from xlens.hub.upload import check

__all__ = ["push"]


def push(chosen: argparse.Namespace) -> int:
    """``xlens push``."""
    # What can be wrong is looked at before anything that takes time.
    repo_name(chosen.repo, chosen.revision)
    model = load_model(chosen.model, chosen.weights, chosen.max_bytes)
    explainer = load(chosen.lens, model, **how_read(chosen))
    check(
        explainer.fitted,
        chosen.repo,
        revision=chosen.revision,
        with_data=chosen.with_data,
        dry_run=chosen.dry_run,
    )
    explanation = None
    if chosen.judge is not None:
        how = said_of(chosen), Preprocessing.of(explainer.provenance), explainer.spec, chosen.max_bytes, "push"
        inputs, _ = data_to_explain(chosen.judge, *how)
        with warnings.catch_warnings():
            # What does not hold stands in the card.
            warnings.simplefilter("ignore", XlensWarning)
            explanation = explainer.explain(inputs)
    done = explainer.push_to_hub(
        chosen.repo,
        with_data=chosen.with_data,
        private=chosen.private,
        revision=chosen.revision,
        commit_message=chosen.message,
        license=chosen.license,
        explanation=explanation,
        dry_run=chosen.dry_run,
    )
    kept = [{"kind": part.kind, "count": part.count, "said": part.said} for part in done.kept_data.parts]
    if chosen.json:
        print_json({"lens": done.name, "commit": done.commit, "files": done.files, "kept_data": kept})
        return 0
    where = f"is in {chosen.dry_run}, and was not sent" if chosen.dry_run else f"sent, commit {done.commit}"
    print(
        visible(
            f"{done.name}: {', '.join(f'{file} ({size:,} bytes)' for file, size in done.files.items())}; {where}"
        )
    )
    return 0
