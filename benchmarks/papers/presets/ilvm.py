"""ILVM and JLVM (Adel, Ghahramani, Weller 2018) on ten digits: table 1, and figures 4, 7 and 8 by numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from xlens_ilvm import ILVM
from xlens_ilvm.jlvm import JLVM

import xlens
from benchmarks.common.judges import predicted
from benchmarks.common.tasks import Task, digits
from benchmarks.lenses.defaults import LAYER
from benchmarks.papers.cells import Figures
from benchmarks.papers.presets.claims import UNCLAIMED, Claim, Shown, above
from benchmarks.papers.presets.common import fitted, network
from benchmarks.papers.presets.teaching import taught
from xlens.metrics import interpretability

#: Steps of flows and of VAEs.
STEPS = {"paper": 250, "defaults": 300, "further": 400}
VAE_STEPS = {"paper": 300, "defaults": 400, "further": 600}
#: Inputs a step of ``JLVM.paper()``, which does not say how many.
BATCH = 32
#: Share of the side information that is observed; the paper says "a small subset".
OBSERVED = 0.2
ATTRIBUTES = ("digit", "thickness")
#: A fit of one seed, of which seconds are noted.
Fit = Callable[..., xlens.LensExplainer]
PLAIN = {"prior": "fixed", "beta": 0.0, "label_weight": 0.0}
TURNED = 60.0


class Side(NamedTuple):
    """Side information of training and test images, and what of it is observed."""

    train: Tensor
    seen: Tensor
    test: Tensor


def flow(preset: str, **options: Any) -> ILVM:
    """Return ILVM of a preset."""
    given = {"steps": STEPS[preset], **options}
    return ILVM(**given) if preset == "defaults" else ILVM.paper(**given)


def vae(preset: str, **options: Any) -> JLVM:
    """Return JLVM of a preset, with ``PLAIN`` the VAE that ILVM stands over."""
    given = {"steps": VAE_STEPS[preset], **options}
    return JLVM(**given) if preset == "defaults" else JLVM.paper(batch_size=BATCH, **given)


def side_of(task: Task, model: nn.Module, seed: int) -> Side:
    """Return the classifier's digit and the thickness (the ink), of which a fifth is observed."""
    train, test = (
        torch.stack([predicted(model, images).float(), images.mean((1, 2, 3))], 1)
        for images in (task.train, task.test)
    )
    hidden = torch.rand(len(train), generator=torch.Generator().manual_seed(seed)) >= OBSERVED
    return Side(train, train.masked_fill(hidden[:, None], torch.nan), test)


def measure(seed: int, presets: tuple[str, ...] = ("paper", "defaults")) -> Figures:
    """Fit every lens of the presets, and return their figures."""
    task = digits()
    model = network(task, seed)
    side = side_of(task, model, seed)
    figures: Figures = {}
    for preset in presets:
        fit = functools.partial(fitted, figures=figures, seed=seed)
        own = table_1(task, model, side, preset, fit, seed)
        if preset != "further":
            own |= turned(preset, fit, seed)
        if preset == "defaults":
            own |= in_two(task, model, side, fit)
        figures |= {f"{preset}: {name}": value for name, value in own.items()}
    return figures


def table_1(task: Task, model: nn.Module, side: Side, preset: str, fit: Fit, seed: int) -> Figures:
    """Return the metric of ILVM over a VAE, of JLVM and of ILVM on the layer, and what teaching gains."""
    given = {"side_info": side.seen}
    named = {"attributes": ATTRIBUTES, "kinds": ("single", "measured")}
    below = fit(task, model, vae(preset, **PLAIN), label=f"{preset}: VAE")
    lenses = {
        "VAE": below,
        "ILVM": fit(task, model, flow(preset, **named), label=f"{preset}: ILVM", over=below, **given),
        "JLVM": fit(task, model, vae(preset, **named), label=f"{preset}: JLVM", **given),
    }
    # The further attempt is at ILVM and JLVM alone.
    if preset != "further":
        lenses["layer"] = fit(task, model, flow(preset, **named), label=f"{preset}: layer", layer=LAYER, **given)
    own: Figures = {}
    for name, explainer in lenses.items():
        own |= {f"{name}: {what}": value for what, value in told(explainer, task, side).items()}
    if preset != "further":
        own |= taught(task, model, below, side.train, side.test, flow(preset), seed)
    return own


@torch.no_grad()
def told(explainer: xlens.LensExplainer, task: Task, side: Side) -> Figures:
    """Return mean p of each attribute read off one dimension, and the mean over both."""
    with xlens.asking(explainer) as lens:
        codes = [lens.encode(images) for images in (task.train, task.test)]
    # The metric's own classifier learns on rows whose side information no lens saw.
    free = side.seen[:, 0].isnan()
    found = interpretability(
        codes[0][free].float(),
        side.train[free],
        test_codes=codes[1].float(),
        test_side_info=side.test,
        max_rows=700,
    )
    each = dict(zip(ATTRIBUTES, found.probability.tolist(), strict=True))
    return {**each, "mean p": sum(each.values()) / len(each)}


@torch.no_grad()
def in_two(task: Task, model: nn.Module, side: Side, fit: Fit) -> Figures:
    """Return how well logistic regression tells the ten digits in two dimensions (figure 4)."""
    digit = {"side_info": side.seen[:, :1]}
    named = {"attributes": ATTRIBUTES[:1], "kinds": ("single",)}
    with torch.enable_grad():
        # It has the digit too, at a weight of 0: without it the ten classes would each want a dimension.
        below = fit(task, model, vae("defaults", code=2, **PLAIN, **named), label="VAE in two", **digit)
        lenses = {
            "VAE": below,
            "ILVM": fit(task, model, flow("defaults", **named), label="ILVM in two", over=below, **digit),
            "JLVM": fit(task, model, vae("defaults", code=2, **named), label="JLVM in two", **digit),
        }
    found = {}
    for name, explainer in lenses.items():
        with xlens.asking(explainer) as lens:
            train, test = (lens.encode(images).numpy() for images in (task.train, task.test))
        reader = LogisticRegression(max_iter=500).fit(train, side.train[:, 0].numpy())
        found[f"in two dimensions: {name}"] = float(reader.score(test, side.test[:, 0].numpy()))
    return found


def rotated(task: Task, seed: int) -> tuple[Task, Tensor, Tensor]:
    """Return the task with every image turned at random, and the angles of training and test images."""
    generator = torch.Generator().manual_seed(seed)
    images: list[Tensor] = []
    angles: list[Tensor] = []
    for part in (task.train, task.test):
        angle = TURNED * (2 * torch.rand(len(part), generator=generator) - 1)
        turn = torch.deg2rad(angle)
        nothing = torch.zeros_like(turn)
        rows = [
            torch.stack([turn.cos(), -turn.sin(), nothing], 1),
            torch.stack([turn.sin(), turn.cos(), nothing], 1),
        ]
        grid = F.affine_grid(torch.stack(rows, 1), list(part.shape), align_corners=False)
        images.append(F.grid_sample(part, grid, align_corners=False))
        angles.append(angle)
    found = Task("turned", task.class_names, images[0], task.train_labels, images[1], task.test_labels)
    return found, angles[0], angles[1]


def turned(preset: str, fit: Fit, seed: int) -> Figures:
    """Return mean p of the angle read off one dimension, of a layer and of z* over it (figure 7)."""
    task, angle, test_angle = rotated(digits(), seed)
    model = network(task, seed)
    hidden = torch.rand(len(angle), generator=torch.Generator().manual_seed(seed)) >= OBSERVED
    seen = angle.masked_fill(hidden, torch.nan)[:, None]
    explainer = fit(
        task, model, flow(preset, attributes=("angle",), kinds=("measured",)), label=f"{preset}: turned",
        layer=LAYER, side_info=seen,
    )  # fmt: skip
    found = {}
    with xlens.asking(explainer) as lens, torch.no_grad():
        body = nn.Sequential(*list(model.children())[: int(LAYER) + 1])
        for name, encode in (("layer", body), ("z*", lens.encode)):
            train, test = (encode(images).float() for images in (task.train[hidden], task.test))
            probability = interpretability(
                train, angle[hidden], test_codes=test, test_side_info=test_angle, max_rows=700
            ).probability
            found[f"angle: {name}"] = float(probability.mean())
    return found


def both(name: str) -> list[Shown]:
    return [Shown(kind, f"{kind}: {name}", 1, 100) for kind in ("ILVM", "JLVM")]


CLAIMS = (
    Claim(
        "ILVM table 1",
        "mean p: on MNIST ILVM is above JLVM, 95.2 and 89.8 % (below it on SVHN and chairs)",
        [*both("mean p"), Shown("the VAE", "VAE: mean p", 1, 100)],
        above("ILVM: mean p", "JLVM: mean p"),
    ),
    *(
        Claim(
            f"ILVM table 1, {name} alone",
            UNCLAIMED,
            both(name),
            above(f"ILVM: {name}", f"JLVM: {name}"),
        )
        for name in ATTRIBUTES
    ),
    Claim(
        "ILVM section 2.1, on a layer",
        UNCLAIMED,
        [Shown("ILVM on the layer", "layer: mean p", 1, 100), Shown("over the VAE", "ILVM: mean p", 1, 100)],
        above("layer: mean p", "ILVM: mean p"),
    ),
    Claim(
        "ILVM figure 4",
        "two-dimensional codes of ILVM and JLVM tell the classes better than a VAE's (pictures)",
        [Shown(kind, f"in two dimensions: {kind}", 1, 100) for kind in ("VAE", "ILVM", "JLVM")],
        lambda cell: (
            min(cell[f"in two dimensions: {kind}"] for kind in ("ILVM", "JLVM")) - cell["in two dimensions: VAE"]
        ),
    ),
    Claim(
        "ILVM figure 7",
        "z* over a layer shows the angle of turned digits, the layer does not (pictures)",
        [Shown("the layer", "angle: layer", 1, 100), Shown("z*", "angle: z*", 1, 100)],
        above("angle: z*", "angle: layer"),
    ),
    Claim(
        "ILVM figure 8",
        "asking by mutual information is above asking at random (a plot)",
        [
            Shown("by information", "teaching: mutual_information", 1, 100),
            Shown("drawn in proportion to it", "teaching: power_mutual_information", 1, 100),
            Shown("largest entropy", "teaching: max_entropy", 1, 100),
            Shown("at random", "teaching: random", 1, 100),
        ],
        above("teaching: mutual_information", "teaching: random"),
    ),
)
