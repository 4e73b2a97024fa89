"""A table of figures by seed, and options given on the command line."""

from __future__ import annotations

import torch


def table(results: list[dict[str, float]], seeds: list[int]) -> str:
    """Return a markdown table: one column per seed, then median and range."""
    lines = ["| figure | " + " | ".join(f"seed {s}" for s in seeds) + " | median | range |"]
    lines.append("|---" * (len(seeds) + 3) + "|")
    for name in results[0]:
        values = torch.tensor([r[name] for r in results])
        digits = 1 if "seconds" in name else 4 if "MSE" in name or "error" in name else 3
        cells = ["-" if v.isnan() else f"{v:.{digits}f}" for v in values]
        # Some figures are measured for the first seeds only.
        values = values[~values.isnan()]
        if not len(values):
            lines.append(f"| {name} | " + " | ".join([*cells, "-", "-"]) + " |")
            continue
        cells += [f"{values.quantile(0.5):.{digits}f}", f"{values.min():.{digits}f} to {values.max():.{digits}f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def options_of(texts: list[str]) -> dict[str, float | int | bool | str | None]:
    """Return what ``NAME=VALUE`` texts say."""
    return {name: _number(value) for name, value in (text.split("=") for text in texts)}


def _number(text: str) -> float | int | bool | str | None:
    """Return the number, truth value or None that a text stands for; any other text as it is."""
    if text == "None":
        return None
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
