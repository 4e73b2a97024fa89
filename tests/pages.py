"""Explanations made by hand for reports, and what a page holds."""

import dataclasses
import json
import re

import torch
import torch.nn.functional as F
from drawings import made

import xlens
from xlens.report import Traversal, to_html


def photos(n: int, size: int, channels: int = 3, frames: int = 11) -> xlens.Explanation:
    """Return explanations of smooth, noisy pictures, in which every pixel changes along the path."""
    generator = torch.Generator().manual_seed(0)

    def noise(side: int) -> torch.Tensor:
        small = torch.rand(n, channels, side, side, generator=generator)
        return F.interpolate(small, (size, size), mode="bilinear")

    inputs = (0.5 * noise(4) + 0.3 * noise(16) + 0.2 * noise(size)).clamp(0, 1)
    start = (0.9 * inputs + 0.1 * noise(8)).clamp(0, 1)
    share = torch.linspace(0, 1, frames)[None, :, None, None, None]
    return dataclasses.replace(
        made(channels, n=n, size=size),
        inputs=inputs,
        reconstruction=(inputs + 0.05).clamp(0, 1),
        edit=start - inputs,
        counterfactual=start,
        attributions={name: (inputs - start) * noise(size) for name in ("lig", "ig_counterfactual")},
        mask=noise(8)[:, :1],
        path=start[:, None] + share * (inputs - start)[:, None],
        path_scores=torch.linspace(-1, 2, frames).repeat(n, 1) + torch.arange(n)[:, None] / n,
        scores=2 + torch.arange(n) / n,
        data_range=(0.0, 1.0),
    )


def data_of(page: str) -> dict:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found)


NASTY = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\" onmouseover='document.title=1' x=\"",
    "{{ 7 * 7 }}{% for x in y %}",
    "<!--<script>",
    "javascript:document.title='owned'",
]


def nasty_explanation() -> xlens.Explanation:
    one = made(trustworthy=False, n=len(NASTY))
    return dataclasses.replace(
        one,
        class_names=(NASTY[0], NASTY[1]),
        feature_names=(NASTY[1],),
        problems=tuple((text,) for text in NASTY),
        attributions={NASTY[0]: one.inputs, NASTY[1]: one.inputs},
        convergence_delta={NASTY[0]: torch.zeros(len(NASTY))},
    )


def nasty_page() -> str:
    one = nasty_explanation()
    moved = Traversal(feature=NASTY[0], values=(0.0, 1.0), frames=one.path, scores=one.path_scores)
    return to_html(one, names=NASTY, title=NASTY[0], traversals=[moved])
