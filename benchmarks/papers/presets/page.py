"""The page of the papers' claims on digits, from what was run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.papers.cells import Figures, kept, lines
from benchmarks.papers.presets import dif, ilvm, introvac, medxgan, svae
from benchmarks.papers.presets.claims import FURTHER, UNCLAIMED, Claim, of_preset, text, verdict
from benchmarks.papers.presets.common import PRESETS
from benchmarks.papers.presets.why import WHY
from benchmarks.papers.presets.words import HEAD, PICTURES, SETTINGS

__all__ = ["OUT", "PAPERS", "page"]

PAPERS = {
    "medxgan": ("medXGAN (Dravid et al. 2022)", medxgan.CLAIMS),
    "ilvm": ("ILVM and JLVM (Adel, Ghahramani, Weller 2018)", ilvm.CLAIMS),
    "svae": ("SVAE (Nguyen, Rodriguez Martinez 2020)", svae.CLAIMS),
    "dif": ("DIF (Hu, Sejdinovic)", dif.CLAIMS),
    "introvac": ("IntroVAC (Maggipinto, Terzi, Susto 2020)", introvac.CLAIMS),
}
OUT = Path("docs/benchmarks/papers_digits.md")
COLUMNS = ("figure", "paper", "ours, `paper()`", "ours, defaults", "further attempt", "seeds", "verdict", "why")


def page() -> str:
    """Return the page."""
    every = {name: cells(name) for name in PAPERS}
    parts = [HEAD.rstrip(), tally(every)]
    for name, (title, claims) in PAPERS.items():
        parts += [f"## {title}", SETTINGS[name], lines(COLUMNS, rows(claims, every[name], WHY[name]))]
    return "\n\n".join([*(part for part in parts if part), PICTURES.rstrip()]) + "\n"


def cells(paper: str) -> dict[int, Figures]:
    """Return the figures by seed, of the presets and of the further attempt."""
    own, more = kept(f"papers-digits-{paper}"), kept(f"papers-digits-further-{paper}")
    return {seed: {**own.get(seed, {}), **more.get(seed, {})} for seed in sorted({*own, *more})}


def rows(claims: Sequence[Claim], found: dict[int, Figures], why: Sequence[str]) -> list[list[str]]:
    """Return the rows of one paper's table."""
    here = list(found.values())
    return [
        [
            claim.figure.split(" ", 1)[1],
            claim.paper,
            *(text(claim, of_preset(here, preset)) for preset in (*PRESETS, FURTHER)),
            seeds(found),
            verdict(claim, here),
            reason or "-",
        ]
        for claim, reason in zip(claims, why, strict=True)
    ]


def seeds(found: dict[int, Figures]) -> str:
    """Say which seeds a row is of, and which the further attempt is of where these are others."""
    own, more = (
        [str(seed) for seed, cell in found.items() if any(name.startswith(f"{preset}: ") for name in cell)]
        for preset in (PRESETS[0], FURTHER)
    )
    said = ", ".join(own) or "none"
    return said if not more or more == own else f"{said}; further {', '.join(more)}"


def tally(every: dict[str, dict[int, Figures]]) -> str:
    """Return how many claims of each paper came out how."""
    words = ("reproduced", "not reproduced", "refuted here", "not measured")
    counted = []
    for name, (title, claims) in PAPERS.items():
        here = list(every[name].values())
        found = [verdict(claim, here) for claim in claims if claim.paper != UNCLAIMED]
        said = [sum(one.removeprefix("**").startswith(word) for one in found) for word in words]
        counted.append([title, *map(str, said)])
    return lines(("paper", *words), counted)
