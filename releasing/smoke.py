"""What a newcomer does first, with the installed package: run in an empty folder, by the venv's interpreter."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import torch

import xlens
from xlens.datasets import load_images, small_cnn, train_classifier

SMALL = {"mask": xlens.MaskOptions(steps=10), "progress": False}


class Halves(torch.nn.Module):
    """An autoencoder that needs no training."""

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the picture itself, halved."""
        return inputs / 2

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the picture."""
        return latents * 2


def said(*command: str) -> str:
    """Return what the installed command prints."""
    xlens_command = str(Path(sys.executable).parent / "xlens")
    return subprocess.run([xlens_command, *command], check=True, capture_output=True, text=True).stdout


def check(holds: bool, what: str) -> None:
    """End with 1 where something does not hold, also where Python leaves out its asserts."""
    if not holds:
        sys.exit(f"smoke: {what}")


def main() -> None:
    """Fit, explain, save, load, share as a dry run, the command line, the plugin by name."""
    warnings.simplefilter("ignore", xlens.errors.XlensWarning)
    check(Path(xlens.__file__).is_relative_to(Path(sys.prefix)), f"xlens is imported from {xlens.__file__}")
    torch.manual_seed(0)
    images = load_images("digits")
    model = small_cnn((1, 8, 8))
    train_classifier(model, images.train, images.train_labels, steps=150, progress=False)

    explainer = xlens.fit(model, images.train, "medxgan", steps=60, **SMALL)
    explanation = explainer.explain(images.test[:4])
    explainer.save("lens")

    again = xlens.load("lens", model)
    same = torch.equal(again.counterfactual(images.test[:4]), explanation.counterfactual)
    check(same, "a lens read back gives other counterfactuals")
    explanation.save_html("why.html")
    check(Path("why.html").stat().st_size > 10_000, "the report is empty")
    explainer.push_to_hub("owner/name", dry_run="shared")
    check(Path("shared/README.md").is_file(), "there is no model card")

    check(said("--version").split() == ["xlens", version("xlens")], "xlens --version says another version")
    listed = said("backends")
    for name in ("dif", "flow", "ilvm", "infill", "introvac", "jlvm", "medxgan", "svae", "latentshift"):
        check(
            any(line.startswith(f"{name} ") for line in listed.splitlines()), f"xlens backends does not list {name}"
        )
    check("cannot be used" not in listed, listed)

    from xlens_latentshift import register

    register(Halves(), "halves")
    shifted = xlens.fit(model, images.train, "latentshift", autoencoder="halves", **SMALL)
    check(len(shifted.explain(images.test[:2])) == 2, "the example plugin explains nothing")
    print(
        f"smoke: xlens {version('xlens')} on Python {sys.version.split()[0]}, torch {torch.__version__}: all well"
    )


if __name__ == "__main__":
    main()
