"""The command line: ``xlens demo``, ``backends``, ``fit``, ``explain``, ``evaluate``, ``audit`` and ``label``."""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeAlias

from xlens.cli.epilogs import AUDIT_EPILOG, EPILOG, EVALUATE_EPILOG, EXPLAIN_EPILOG, FIT_EPILOG, LABEL_EPILOG
from xlens.cli.output import escaping, flushed, is_gone, only_json, silenced
from xlens.cli.text import visible
from xlens.errors import UntrustworthyWarning, XlensError, XlensWarning
from xlens.files.limits import MOST_BYTES

__all__ = ["main", "visible"]

#: As of a program that the system ends when it writes to a pipe that nobody reads.
_CLOSED = 141
#: What comes of printing to a pipe that is closed, or to a disk that is full.
_UNWRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EFBIG)
_DATASETS = ("leaves", "digits", "fashion-mnist")
_MODEL = "package.module:factory (called without arguments), or timm:NAME with --weights"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or another with one line on standard error.

    Args:
        arguments: of the command line; None for the program's own, which ends with this call.
    """
    lasting = arguments is None
    with escaping(lasting=lasting):
        try:
            code = _run(arguments, lasting)
            flushed()
        except (OSError, ValueError) as fault:
            closed = isinstance(fault, BrokenPipeError) or is_gone()
            code = _CLOSED if closed else _said(f"standard output cannot be written: {fault}")
        except SystemExit:
            # Help, the version, or a fault in the arguments.
            silenced()
            raise
        silenced()
    return code


def _run(arguments: Sequence[str] | None, lasting: bool) -> int:
    chosen = _parser().parse_args(arguments)
    # A warning is one line here, without the source line that Python adds.
    warnings.showwarning = _show_warning
    try:
        if not getattr(chosen, "json", False):
            return chosen.run(chosen)
        with only_json(lasting=lasting):
            return chosen.run(chosen)
    except XlensError as fault:
        return _said(" ".join(str(fault).split()))
    except KeyboardInterrupt:
        return _said("interrupted", 130)
    except Exception as fault:  # noqa: BLE001 - Python's own exit code for it is that of --strict
        if _is_unwritten(fault):
            raise
        traceback.print_exc()
        return _said("this should not have happened; please report it with the lines above", 3)


def _is_unwritten(fault: Exception) -> bool:
    """Whether this came of printing to what cannot take it, and not of anything else."""
    if isinstance(fault, OSError):
        closed = fault.errno == errno.EBADF and is_gone()
        return fault.filename is None and (fault.errno in _UNWRITTEN or closed)
    # How Python says that a stream is closed.
    return isinstance(fault, ValueError) and "closed file" in str(fault) and is_gone()


def _said(line: str, code: int = 2) -> int:
    """Say one line on standard error, if anybody is there, and return the exit code."""
    try:
        print(f"xlens: {visible(line)}", file=sys.stderr, flush=True)
    except OSError:
        silenced()
    return code


#: What a parser of commands is added to; at run time the class takes no argument.
_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the commands do."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        line = visible(" ".join(message.split()))
        self.exit(2, f"xlens: {line}. What to do: see {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="xlens", description="Put a generative lens around the classifier you already have.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"xlens {sys.modules['xlens'].__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_backends(commands)
    _add_fit(commands)
    _add_explain(commands)
    _add_evaluate(commands)
    _add_audit(commands)
    _add_label(commands)
    return parser


def _add_demo(commands: _Commands) -> None:
    demo = commands.add_parser(
        "demo", help="train a classifier on photographs, take a disease off a leaf, and find what it cheats by"
    )
    demo.add_argument(
        "--data",
        choices=_DATASETS,
        default="leaves",
        help="leaves: healthy or with rust, some with a sticker that an audit should find; digits: 3 against 8; "
        "fashion-mnist: coat against shirt; leaves if not given",
    )
    demo.add_argument("--backend", default=None, help="name of an installed backend")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for pictures and pages")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument(
        "--no-open", dest="open", action="store_false", help="do not open the pages in a browser where there is one"
    )
    demo.set_defaults(run=_later("demo"))


def _add_backends(commands: _Commands) -> None:
    backends = commands.add_parser("backends", help="list the installed backends, or the options of one")
    backends.add_argument("name", metavar="NAME", nargs="?", help="list what fit --option takes of this one")
    backends.add_argument("--json", action="store_true", help="for machines")
    backends.set_defaults(run=_later("backends"))


def _add_fit(commands: _Commands) -> None:
    fit = commands.add_parser("fit", help="fit a lens around a classifier", epilog=FIT_EPILOG)
    fit.add_argument("model", metavar="MODEL", help=_MODEL)
    fit.add_argument("data", metavar="DATA", type=Path, help="images or arrays; see below")
    fit.add_argument("--backend", metavar="NAME", help="see xlens backends; chosen by the data if not given")
    fit.add_argument("-o", "--output", required=True, metavar="LENS", type=Path, help="folder for the fitted lens")
    _add_model(fit)
    fit.add_argument("--layer", help="hidden layer, by dotted module name, for lenses that work on activations")
    fit.add_argument(
        "--outputs",
        choices=("logits", "probabilities", "multilabel", "multilabel_probabilities", "regression", "ordinal"),
        help="what MODEL returns; logits if not given. multilabel: independent yes/no labels; regression: one "
        "number; ordinal: logits of ordered grades",
    )
    fit.add_argument(
        "--labels", nargs="+", metavar="NAME", help="of independent labels, or of grades, in MODEL's order"
    )
    fit.add_argument("--label", metavar="NAME", help="the independent label that is explained, by name or number")
    fit.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="explain why a number is above T rather than below it; of grades, the number of the first above",
    )
    fit.add_argument(
        "--class-names", nargs="+", metavar="NAME", help="in MODEL's order, instead of the folders' names"
    )
    _add_preprocessing(fit)
    fit.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the backend; may be repeated"
    )
    fit.add_argument(
        "--mask-steps", type=int, metavar="N", help="training steps of the mask that keeps edits of images local"
    )
    fit.add_argument("--seed", type=int, default=0)
    fit.add_argument("--device", default=None, help="such as cpu or cuda; the model's if not given")
    fit.add_argument("--checkpoints", type=Path, default=None, metavar="FOLDER", help="write checkpoints here")
    fit.add_argument("--resume", action="store_true", help="continue from the checkpoints")
    fit.add_argument("--json", action="store_true", help="for machines; hides the progress bar")
    fit.set_defaults(run=_later("fit"))


def _add_explain(commands: _Commands) -> None:
    explain = commands.add_parser("explain", help="explain images through a fitted lens", epilog=EXPLAIN_EPILOG)
    explain.add_argument("lens", metavar="LENS", type=Path, help="folder that xlens fit wrote")
    explain.add_argument("images", metavar="IMAGES", type=Path, nargs="+", help="image files, folders, or arrays")
    explain.add_argument("--model", required=True, metavar="MODEL", help=_MODEL)
    _add_model(explain)
    explain.add_argument("--html", type=Path, default=None, metavar="FILE", help="write a report that people open")
    explain.add_argument("--csv", type=Path, default=None, metavar="FILE", help="write a row for each image")
    explain.add_argument("--target", metavar="CLASS", help="name or number; the model's prediction if not given")
    explain.add_argument("--contrast", metavar="CLASS", help="name or number; if not given, the lens's reference")
    explain.add_argument("--attribution", nargs="+", default=["lig"], metavar="NAME", help="attribution methods")
    _add_preprocessing(explain)
    explain.add_argument("--device", default=None, help="such as cpu or cuda; the model's if not given")
    explain.add_argument("--strict", action="store_true", help="exit with 1 if an explanation does not hold")
    explain.add_argument("--json", action="store_true", help="for machines")
    explain.set_defaults(run=_later("explain"))


def _add_evaluate(commands: _Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="judge lenses and attribution methods side by side", epilog=EVALUATE_EPILOG
    )
    evaluate.add_argument("lens", metavar="LENS", type=Path, help="folder that xlens fit wrote")
    evaluate.add_argument("images", metavar="IMAGES", type=Path, nargs="+", help="image files, folders, or arrays")
    evaluate.add_argument("--model", required=True, metavar="MODEL", help=_MODEL)
    _add_model(evaluate)
    evaluate.add_argument(
        "--also", nargs="+", type=Path, default=[], metavar="LENS", help="more lenses around the same model"
    )
    evaluate.add_argument("--oracle", metavar="MODEL", help="an independently trained classifier, as MODEL")
    evaluate.add_argument("--oracle-weights", type=Path, default=None, metavar="FILE", help="loaded into it")
    evaluate.add_argument(
        "--masks", type=Path, metavar="FILE", help="array (n, 1, H, W), not 0 where the cause is; .npz, .npy or .pt"
    )
    evaluate.add_argument("--clean", type=Path, metavar="FILE", help="array: the inputs without their cause")
    evaluate.add_argument(
        "--references", nargs="+", type=Path, metavar="IMAGES", help="other real inputs, for baselines and realism"
    )
    evaluate.add_argument(
        "--carry", choices=("masked", "residual", "none"), help="how the lens's change reaches the input"
    )
    evaluate.add_argument("--method", nargs="+", default=None, metavar="NAME", help="attribution methods")
    evaluate.add_argument("-n", type=int, default=None, help="so many inputs, drawn by the seed; all if not given")
    evaluate.add_argument("--smoothing", type=float, default=0.0, help="pixels, for maps located once more")
    evaluate.add_argument("--seed", type=int, default=0)
    _add_preprocessing(evaluate)
    evaluate.add_argument("--device", default=None, help="such as cpu or cuda; the model's if not given")
    evaluate.add_argument(
        "--plot", type=Path, default=None, metavar="FILE", help="draw the figures, as .png or .svg"
    )
    evaluate.add_argument("--json", action="store_true", help="for machines; hides the progress bar")
    evaluate.set_defaults(run=_later("evaluate", "evaluate"))


def _add_audit(commands: _Commands) -> None:
    audit = commands.add_parser("audit", help="find what the model relies on, and shortcuts", epilog=AUDIT_EPILOG)
    audit.add_argument("lens", metavar="LENS", type=Path, help="folder that xlens fit wrote")
    audit.add_argument("data", metavar="DATA", type=Path, help="images or arrays; see below")
    audit.add_argument("--model", required=True, metavar="MODEL", help=_MODEL)
    _add_model(audit)
    audit.add_argument("--masks", type=Path, metavar="FILE", help="array (n, 1, H, W), not 0 where the object is")
    audit.add_argument("--metadata", type=Path, metavar="FILE", help="facts about the inputs, as .csv")
    audit.add_argument("-n", type=int, default=None, help="so many inputs, drawn by the seed; all if not given")
    audit.add_argument(
        "--search",
        choices=("both", "lens", "windows"),
        default="both",
        help="the lens's counterfactuals, filled windows, or windows where the lens finds nothing",
    )
    audit.add_argument("--seconds", type=float, default=None, help="stop explaining after so long")
    audit.add_argument("--checkpoints", type=Path, default=None, metavar="FOLDER", help="keep batches, and go on")
    audit.add_argument("--seed", type=int, default=0)
    _add_preprocessing(audit)
    audit.add_argument("--device", default=None, help="such as cpu or cuda; the model's if not given")
    audit.add_argument("--html", type=Path, default=None, metavar="FILE", help="write a page that people open")
    audit.add_argument("--csv", type=Path, default=None, metavar="FILE", help="write a row for each group")
    audit.add_argument("--json", action="store_true", help="for machines; hides the progress bar")
    audit.set_defaults(run=_later("audit", "audit"))


def _add_label(commands: _Commands) -> None:
    label = commands.add_parser("label", help="teach a lens on a local web page", epilog=LABEL_EPILOG)
    label.add_argument("lens", metavar="LENS", type=Path, help="folder that xlens fit wrote; saved there again")
    label.add_argument("images", metavar="IMAGES", type=Path, nargs="+", help="what to ask about: images or arrays")
    label.add_argument("--model", required=True, metavar="MODEL", help=_MODEL)
    _add_model(label)
    _add_preprocessing(label)
    label.add_argument("--check", type=int, default=20, metavar="N", help="images for checking, never learned from")
    label.add_argument("--per-round", type=int, default=10, metavar="N", help="images before the lens learns")
    label.add_argument(
        "--strategy",
        choices=("power_mutual_information", "mutual_information", "max_entropy", "random"),
        default="power_mutual_information",
        help="what to ask",
    )
    label.add_argument("--seed", type=int, default=0)
    label.add_argument("--port", type=int, default=0, help="a free one if not given")
    label.add_argument("--device", default=None, help="such as cpu or cuda; the model's if not given")
    label.set_defaults(run=_later("label", "labelling"))


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--weights", type=Path, default=None, metavar="FILE", help=".safetensors or .pt2, loaded into the model"
    )
    command.add_argument(
        "--max-bytes",
        type=_bytes,
        default=MOST_BYTES,
        metavar="N",
        help=f"the most that one file of images, arrays or weights may become when it is unpacked; {MOST_BYTES} if "
        "not given, and always as much as the file has itself",
    )


def _bytes(text: str) -> int:
    """Return a number of bytes."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _add_preprocessing(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("how image files become inputs")
    group.add_argument("--size", type=int, nargs="+", metavar="PIXELS", help="height and width, or one for both")
    group.add_argument("--mode", choices=("grey", "rgb"), default=None, help="rgb if not given")
    group.add_argument("--mean", type=float, nargs="+", metavar="M", help="taken away after scaling to [0, 1]")
    group.add_argument("--std", type=float, nargs="+", metavar="S", help="divided by")


def _later(name: str, module: str = "commands") -> Callable[[argparse.Namespace], int]:
    """Return a command that is imported when it runs, so that --help does not wait for torch."""

    def run(chosen: argparse.Namespace) -> int:
        return getattr(importlib.import_module(f"xlens.cli.{module}"), name)(chosen)

    return run


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    kind = "untrustworthy" if issubclass(category, UntrustworthyWarning) else "warning"
    if issubclass(category, XlensWarning):
        print(f"xlens: {kind}: {visible(str(message))}", file=file or sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr)
