"""The command line: ``xlens demo`` and ``xlens backends``."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from xlens.errors import UntrustworthyWarning, XlensError, XlensWarning

__all__ = ["main"]

_DATASETS = ("digits", "fashion-mnist")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 with one line on standard error."""
    chosen = _parser().parse_args(arguments)
    # A warning is one line here, without the source line that Python adds.
    warnings.showwarning = _show_warning
    try:
        return chosen.run(chosen)
    except XlensError as fault:
        print(f"xlens: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("xlens: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xlens",
        description="Put a generative lens around the classifier you already have.",
        epilog="examples:\n  xlens demo\n  xlens demo --data fashion-mnist\n  xlens backends --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="train a CNN on real images, fit a lens, write a picture")
    demo.add_argument(
        "--data", choices=_DATASETS, default="digits", help="digits: 3 against 8; fashion-mnist: coat against shirt"
    )
    demo.add_argument("--backend", default=None, help="name of an installed backend")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for the pictures")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run=_demo)
    backends = commands.add_parser("backends", help="list the installed backends")
    backends.add_argument("--json", action="store_true", help="for machines")
    backends.set_defaults(run=_backends)
    return parser


def _demo(chosen: argparse.Namespace) -> int:
    # Imported here, so that --help and backends do not wait for torch.
    from xlens.demo import run_demo

    run_demo(chosen.data, chosen.backend, out=chosen.out, seed=chosen.seed)
    return 0


def _backends(chosen: argparse.Namespace) -> int:
    from xlens.status import as_json, as_table, statuses

    found = statuses()
    print(json.dumps(as_json(found), indent=2) if chosen.json else as_table(found))
    return 0


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    kind = "untrustworthy" if issubclass(category, UntrustworthyWarning) else "warning"
    if issubclass(category, XlensWarning):
        print(f"xlens: {kind}: {message}", file=file or sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
