"""What the command line takes: its commands and their options."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from rich_argparse import RawDescriptionRichHelpFormatter

from xlens.cli.epilogs import (
    AUDIT_EPILOG,
    EPILOG,
    EVALUATE_EPILOG,
    EXPLAIN_EPILOG,
    FIT_EPILOG,
    LABEL_EPILOG,
    PUSH_EPILOG,
)
from xlens.cli.text import visible
from xlens.files.limits import MOST_BYTES
from xlens.hub.names import is_on_hub

__all__ = ["make_parser"]

_DATASETS = ("leaves", "digits", "fashion-mnist")


def _bytes(text: str) -> int:
    """Return a number of bytes."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _slice(text: str) -> int | str:
    """Return which slice is meant."""
    return text if text == "middle" else int(text)


def _lens(text: str) -> str | Path:
    """Return where a lens is: a folder, or a name on the hub, which is no path."""
    return text if is_on_hub(text) else Path(text)


_MODEL = "package.module:factory (called without arguments), or timm:NAME with --weights"
_CODEC = "package.module:factory, called without arguments"
_OF_MODEL = ("--weights", "--max-bytes", "--device")
#: What several commands take.
_SHARED: dict[str, dict[str, Any]] = {
    "lens": {"metavar": "LENS", "type": _lens, "help": "folder that xlens fit wrote, or hf://owner/name"},
    "images": {"metavar": "IMAGES", "type": Path, "nargs": "+", "help": "image files, folders, or arrays"},
    "data": {"metavar": "DATA", "type": Path, "help": "images or arrays; see below"},
    "--model": {"required": True, "metavar": "MODEL", "help": _MODEL},
    "--weights": {"type": Path, "metavar": "FILE", "help": ".safetensors or .pt2, loaded into the model"},
    "--max-bytes": {
        "type": _bytes,
        "default": MOST_BYTES,
        "metavar": "N",
        "help": f"the most that one file of images, arrays, weights or a downloaded lens may become; {MOST_BYTES} "
        "if not given, and always as much as the file has itself",
    },
    "--backend": {"metavar": "NAME", "help": "see xlens backends; chosen by the data if not given"},
    "-n": {"type": int, "help": "so many inputs, drawn by the seed; all if not given"},
    "--seed": {"type": int, "default": 0, "help": "of everything random; 0 if not given"},
    "--device": {"help": "such as cpu or cuda; the model's if not given"},
    "--checkpoints": {"type": Path, "metavar": "FOLDER", "help": "what is done is kept here, and gone on from"},
    "--html": {"type": Path, "metavar": "FILE", "help": "write a page that people open"},
    "--csv": {"type": Path, "metavar": "FILE", "help": "write a table for spreadsheets"},
    "--json": {"action": "store_true", "help": "for machines; hides the progress bar"},
}


class _Help(RawDescriptionRichHelpFormatter):
    """Help in colours on a terminal; brackets are brackets."""

    help_markup = text_markup = False
    group_name_formatter = str


#: What a parser of commands is added to; at run time the class takes no argument.
_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the commands do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Help, **options)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        line = visible(" ".join(message.split()))
        self.exit(2, f"xlens: {line}. What to do: see {self.prog} --help.\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="xlens", description="Put a generative lens around the classifier you already have.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"xlens {sys.modules['xlens'].__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_demo, _add_backends, _add_fit, _add_explain, _add_evaluate, _add_audit, _add_label, _add_push):
        add(commands)
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
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for pictures and pages")
    _add(demo, "--backend", "--seed")
    demo.add_argument(
        "--no-open", dest="open", action="store_false", help="do not open the pages in a browser where there is one"
    )
    demo.set_defaults(run=_later("demo"))


def _add_backends(commands: _Commands) -> None:
    backends = commands.add_parser("backends", help="list the installed backends, or the options of one")
    name = backends.add_argument("name", metavar="NAME", nargs="?", help="list what fit --option takes of this one")
    name.completer = _backends  # type: ignore[attr-defined]
    _add(backends, "--json")
    backends.set_defaults(run=_later("backends"))


def _add_fit(commands: _Commands) -> None:
    fit = commands.add_parser("fit", help="fit a lens around a classifier", epilog=FIT_EPILOG)
    fit.add_argument("model", metavar="MODEL", help=_MODEL)
    _add(fit, "data", "--backend", *_OF_MODEL)
    fit.add_argument("-o", "--output", required=True, metavar="LENS", type=Path, help="folder for the fitted lens")
    fit.add_argument("--layer", help="hidden layer, by dotted module name, for lenses that work on activations")
    fit.add_argument(
        "--decoder",
        action="store_true",
        help="of a lens on --layer: also train a decoder from there back to inputs, for explain --show decode",
    )
    fit.add_argument("--decoder-steps", type=int, metavar="N", help="training steps of that decoder, and --decoder")
    fit.add_argument(
        "--codec",
        default="none",
        metavar="CODEC",
        help="fit on latents of an autoencoder: auto trains one for images above 128 pixels; or your own, as "
        f"{_CODEC}; none if not given",
    )
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
    fit.add_argument("--resume", action="store_true", help="continue from the checkpoints")
    _add(fit, "--checkpoints", "--seed", "--json")
    fit.set_defaults(run=_later("fit"))


def _add_explain(commands: _Commands) -> None:
    explain = commands.add_parser("explain", help="explain images through a fitted lens", epilog=EXPLAIN_EPILOG)
    _add_lens(explain, "images")
    explain.add_argument("--target", metavar="CLASS", help="name or number; the model's prediction if not given")
    explain.add_argument("--contrast", metavar="CLASS", help="name or number; if not given, the lens's reference")
    explain.add_argument("--attribution", nargs="+", default=["lig"], metavar="NAME", help="attribution methods")
    explain.add_argument(
        "--show",
        choices=("retrieve", "decode"),
        help="of a lens on a hidden layer: the nearest real inputs (if not given), or what its decoder makes",
    )
    explain.add_argument("--strict", action="store_true", help="exit with 1 if an explanation does not hold")
    _add(explain, "--html", "--csv", "--json")
    explain.set_defaults(run=_later("explain"))


def _add_evaluate(commands: _Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="judge lenses and attribution methods side by side", epilog=EVALUATE_EPILOG
    )
    _add_lens(evaluate, "images")
    evaluate.add_argument(
        "--also", nargs="+", type=_lens, default=[], metavar="LENS", help="more lenses around the same model"
    )
    evaluate.add_argument("--oracle", metavar="MODEL", help="an independently trained classifier, as MODEL")
    evaluate.add_argument("--oracle-weights", type=Path, metavar="FILE", help="loaded into it")
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
    evaluate.add_argument("--method", nargs="+", metavar="NAME", help="attribution methods")
    evaluate.add_argument("--smoothing", type=float, default=0.0, help="pixels, for maps located once more")
    evaluate.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures, as .png or .svg")
    _add(evaluate, "-n", "--seed", "--json")
    evaluate.set_defaults(run=_later("evaluate", "evaluate"))


def _add_audit(commands: _Commands) -> None:
    audit = commands.add_parser("audit", help="find what the model relies on, and shortcuts", epilog=AUDIT_EPILOG)
    _add_lens(audit, "data")
    audit.add_argument("--masks", type=Path, metavar="FILE", help="array (n, 1, H, W), not 0 where the object is")
    audit.add_argument("--metadata", type=Path, metavar="FILE", help="facts about the inputs, as .csv")
    audit.add_argument(
        "--search",
        choices=("both", "lens", "windows"),
        default="both",
        help="the lens's counterfactuals, filled windows, or windows where the lens finds nothing",
    )
    audit.add_argument("--seconds", type=float, help="stop explaining after so long")
    _add(audit, "-n", "--checkpoints", "--seed", "--html", "--csv", "--json")
    audit.set_defaults(run=_later("audit", "audit"))


def _add_label(commands: _Commands) -> None:
    label = commands.add_parser("label", help="teach a lens on a local web page", epilog=LABEL_EPILOG)
    _add_lens(label, "images")
    label.add_argument("--check", type=int, default=20, metavar="N", help="images for checking, never learned from")
    label.add_argument("--per-round", type=int, default=10, metavar="N", help="images before the lens learns")
    label.add_argument(
        "--strategy",
        choices=("power_mutual_information", "mutual_information", "max_entropy", "random"),
        default="power_mutual_information",
        help="what to ask",
    )
    _add(label, "--seed")
    label.add_argument("--port", type=int, default=0, help="a free one if not given")
    label.set_defaults(run=_later("label", "labelling"))


def _add_push(commands: _Commands) -> None:
    push = commands.add_parser("push", help="put a lens on the Hugging Face hub", epilog=PUSH_EPILOG)
    _add(push, "lens")
    push.add_argument("repo", metavar="REPO", help="owner/name; made where it does not exist")
    _add_reading(push)
    push.add_argument(
        "--with-data",
        action="store_true",
        help="real inputs, and numbers about single ones, may go where the lens keeps any",
    )
    push.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        help="whether a new repository is private; as the account's settings say if not given",
    )
    push.add_argument(
        "--revision", metavar="BRANCH", help="made where it does not exist; the main one if not given"
    )
    push.add_argument("--message", metavar="TEXT", help="of the commit")
    push.add_argument("--license", metavar="NAME", help="as the hub knows it, such as mit, for the card")
    push.add_argument(
        "--judge", type=Path, nargs="+", metavar="IMAGES", help="explained, and the card says how many hold"
    )
    push.add_argument(
        "--dry-run", type=Path, metavar="FOLDER", help="write what would be sent here, and send nothing"
    )
    _add(push, "--json")
    push.set_defaults(run=_later("push", "pushing"))


def _add_lens(command: argparse.ArgumentParser, data: str) -> None:
    _add(command, "lens", data)
    _add_reading(command)


def _add_reading(command: argparse.ArgumentParser) -> None:
    """Add what a lens is read with: its classifier, its autoencoder, and how images are prepared."""
    _add(command, "--model", *_OF_MODEL)
    command.add_argument(
        "--codec", metavar="CODEC", help=f"your own autoencoder that the lens was fitted behind: {_CODEC}"
    )
    _add_preprocessing(command)


def _add(command: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        added = command.add_argument(name, **_SHARED[name])
        if name == "--backend":
            added.completer = _backends  # type: ignore[attr-defined]


def _add_preprocessing(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("how image files become inputs")
    group.add_argument("--size", type=int, nargs="+", metavar="PIXELS", help="height and width, or one for both")
    group.add_argument("--mode", choices=("grey", "rgb"), help="rgb if not given")
    group.add_argument("--mean", type=float, nargs="+", metavar="M", help="taken away after scaling to [0, 1]")
    group.add_argument("--std", type=float, nargs="+", metavar="S", help="divided by")
    group.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("CENTRE", "WIDTH"),
        help="of DICOM and NIfTI; the file's if not given",
    )
    group.add_argument(
        "--slice",
        type=_slice,
        metavar="N",
        help="of a DICOM or NIfTI file with several: middle, or a number from 0",
    )
    group.add_argument("--axis", choices=("sagittal", "coronal", "axial"), help="of NIfTI; axial if not given")


def _backends(**_: Any) -> list[str]:
    """Return what a shell completes the name of a backend to, which does not wait for torch."""
    return list(importlib.import_module("xlens.registry.installed").entries())


def _later(name: str, module: str = "commands") -> Callable[[argparse.Namespace], int]:
    """Return a command that is imported when it runs, so that --help does not wait for torch."""

    def run(chosen: argparse.Namespace) -> int:
        return getattr(importlib.import_module(f"xlens.cli.{module}"), name)(chosen)

    return run
