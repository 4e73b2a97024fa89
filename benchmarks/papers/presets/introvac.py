"""IntroVAC (Maggipinto, Terzi, Susto 2020) on ten digits: table 1, and figures 4 to 9 by numbers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import xlens_introvac
from torch import Tensor, nn
from xlens_introvac import IntroVAC, IntroVACLens

import xlens
from benchmarks.common.frechet import features
from benchmarks.common.judges import judged, predicted
from benchmarks.common.tasks import Task, digits
from benchmarks.lenses.introvac import quality
from benchmarks.papers.cells import Figures, kept
from benchmarks.papers.presets import claims
from benchmarks.papers.presets.claims import UNCLAIMED, Claim, Shown, above, at_least
from benchmarks.papers.presets.common import eyes, fitted, network
from xlens.metrics import frechet_distance

#: Steps of each preset; the paper trains VAC four times as long as IntroVAC.
STEPS = {"paper": 600, "defaults": 300, "further": 600}
LONGER = 4
#: Inputs a step of ``paper()``, which does not say how many.
BATCH = 32
#: The class that is drawn, with 32 chains at a time; images edited, how far, and random directions beside it.
DRAWN, EDITED, FAR, RANDOM = 8, 100, 4.0, 8
DISTANCE = "Frechet distance, reconstructions"
MADE = "Frechet distance, prior samples"
ATTRIBUTES = ("thick", "right")


def backend(preset: str, **options: Any) -> IntroVAC:
    """Return the backend of a preset; the further attempt is the paper's with the weights of our game."""
    given = {"steps": STEPS[preset], "attributes": ATTRIBUTES, **options}
    if preset == "defaults":
        return IntroVAC(**given)
    given["batch_size"] = BATCH
    if preset == "further":
        given = {"detect_weight": 0.3, "fool_weight": 1.0, **given}
    return IntroVAC.paper(**given)


def longer(preset: str) -> IntroVAC:
    """Return the VAC that is trained longer; the paper's has no decay."""
    options: dict[str, Any] = {"introspection": False, "steps": LONGER * STEPS[preset]}
    if preset != "defaults":
        options["schedule"] = "constant"
    return backend(preset, **options)


def measure(seed: int, presets: tuple[str, ...] = ("paper", "defaults")) -> Figures:
    """Fit IntroVAC and two VACs, all with two measured attributes beside the classes, and return their figures."""
    task = digits()
    model, seen = network(task, seed), eyes(seed)
    half = len(task.test) // 2
    figures: Figures = {
        "real": frechet_distance(features(seen, task.test[:half]), features(seen, task.test[half:]))
    }
    for preset in presets:
        own = of_preset(task, model, seen, seed, preset, figures)
        figures |= {f"{preset}: {name}": value for name, value in own.items()}
    return figures


def of_preset(
    task: Task, model: nn.Module, seen: nn.Sequential, seed: int, preset: str, figures: Figures
) -> Figures:
    """Return the figures of one preset."""
    own: Figures = {}
    lenses = {"IntroVAC": backend(preset)}
    if preset == "further":
        # The weights of the game are nothing to a VAC, and the paper's was measured.
        own |= {name: value for name, value in of_paper(seed).items() if name.startswith("VAC")}
    else:
        lenses |= {"VAC": backend(preset, introspection=False), "VAC, longer": longer(preset)}
    real = measured(task.train)
    side = (real > real.median(0).values).float()
    for label, settings in lenses.items():
        explainer = fitted(task, model, settings, seed, figures, f"{preset}: {label}", side_info=side)
        quality(explainer, seen, task.test, own, label)
        own[f"{label}: sharpness"] = sharpness(explainer, task.test)
        if label == "IntroVAC":
            own |= stepped(explainer, model, seen, task.test[:EDITED])
            own["Langevin: the classifier accepts"] = accepted(explainer)
            own |= both_edited(explainer, task)
    for against in ("VAC", "VAC, longer"):
        own[f"IntroVAC / {against}"] = own[f"IntroVAC: {DISTANCE}"] / own[f"{against}: {DISTANCE}"]
    return own


@torch.no_grad()
def stepped(explainer: xlens.LensExplainer, model: nn.Module, seen: nn.Module, x: Tensor) -> Figures:
    """Return who sees the contrast class after a step along its direction, and after one along another."""
    target, contrast = explainer.fitted.classes(x, None, None, 256)
    with xlens.asking(explainer, IntroVACLens) as lens:
        noise = torch.randn(RANDOM, lens.code, generator=torch.Generator().manual_seed(0))
        codes = lens.encode(x)
        direction = F.normalize(lens.head.classes[contrast] - lens.head.classes[target], dim=1)
        moved = lens.decode(codes + FAR * direction)
        others = [lens.decode(codes + FAR * unit) for unit in F.normalize(noise, dim=1)]
    return {
        "step: the classifier": float((predicted(model, moved) == contrast).float().mean()),
        "step: another network": judged(seen, x, moved, target, contrast),
        "step: random": sum(float((predicted(model, o) != target).float().mean()) for o in others) / RANDOM,
    }


def of_paper(seed: int) -> Figures:
    """Return what was measured of ``paper()`` with this seed."""
    return claims.of_preset([kept("papers-digits-introvac")[seed]], "paper")[0]


def accepted(explainer: xlens.LensExplainer) -> float:
    """Return the share of Langevin samples that the classifier puts in the class they were drawn for."""
    # Four that are accepted are asked for, which the first 32 chains nearly always hold.
    return xlens_introvac.draw(explainer, 4, DRAWN, seed=0).accepted_by_classifier


@torch.no_grad()
def sharpness(explainer: xlens.LensExplainer, images: Tensor) -> float:
    """Return the mean difference of neighbouring pixels in reconstructions, over that in the images."""
    with xlens.asking(explainer) as lens:
        decoded = lens.decode(lens.encode(images))
    parts = [part.diff(dim=2).abs().mean() + part.diff(dim=3).abs().mean() for part in (decoded, images)]
    return float(parts[0] / parts[1])


def measured(images: Tensor) -> Tensor:
    """Return the ink of images, and how much more of it is in the right half than in the left, ``(n, 2)``."""
    left, right = images.chunk(2, dim=3)
    return torch.stack([images.mean((1, 2, 3)), right.mean((1, 2, 3)) - left.mean((1, 2, 3))], 1)


def both_edited(explainer: xlens.LensExplainer, task: Task) -> Figures:
    """Return how often decodings become thick and right-heavy, by measurement, of images that are neither."""
    middle = measured(task.train).median(0).values
    x = task.test[(measured(task.test) <= middle).all(1)][:EDITED]
    found: Figures = {"images that are neither": float(len(x))}
    for name, edits in {
        "nothing": {"thick": 0.0},
        "thick": {"thick": FAR},
        "right": {"right": FAR},
        "both": {"thick": FAR, "right": FAR},
    }.items():
        now = measured(explainer.edit(x, edits, carry="none")) > middle
        found[f"edited {name}: thick"], found[f"edited {name}: right"] = now.float().mean(0).tolist()
        found[f"edited {name}: both"] = float(now.all(1).float().mean())
    return found


CLAIMS = (
    Claim(
        "IntroVAC table 1",
        "FID of reconstructions .40 of VAC's, trained four times as long (25.5, 63.9)",
        [
            Shown("IntroVAC", f"IntroVAC: {DISTANCE}"),
            Shown("VAC, longer", f"VAC, longer: {DISTANCE}"),
            Shown("ratio", "IntroVAC / VAC, longer"),
        ],
        above(f"VAC, longer: {DISTANCE}", f"IntroVAC: {DISTANCE}"),
    ),
    Claim(
        "IntroVAC table 1, at equal steps",
        UNCLAIMED,
        [Shown("VAC", f"VAC: {DISTANCE}"), Shown("ratio", "IntroVAC / VAC")],
        above(f"VAC: {DISTANCE}", f"IntroVAC: {DISTANCE}"),
    ),
    Claim(
        "IntroVAC figures 4 and 5",
        "a step of 3 to 5 along the direction adds the class (pictures)",
        [
            Shown("the classifier", "step: the classifier"),
            Shown("another network", "step: another network"),
            Shown("random directions", "step: random"),
        ],
        at_least("step: another network", 0.5),
    ),
    Claim(
        "IntroVAC figure 6",
        "two attributes are edited at once (pictures)",
        [
            Shown("both", "edited both: both"),
            Shown("thick alone, both", "edited thick: both"),
            Shown("right alone, both", "edited right: both"),
            Shown("of no edit", "edited nothing: both"),
        ],
        at_least("edited both: both", 0.5),
    ),
    Claim(
        "IntroVAC figure 7",
        "reconstructions are sharper than VAC's (pictures)",
        [
            Shown("IntroVAC", "IntroVAC: sharpness"),
            Shown("VAC", "VAC: sharpness"),
            Shown("VAC, longer", "VAC, longer: sharpness"),
        ],
        above("IntroVAC: sharpness", "VAC, longer: sharpness"),
    ),
    Claim(
        "IntroVAC figure 8",
        "Langevin samples have the class that they are drawn for (pictures)",
        [Shown("the classifier accepts", "Langevin: the classifier accepts")],
        at_least("Langevin: the classifier accepts", 0.5),
    ),
    Claim(
        "IntroVAC figure 9",
        "generated images (pictures; no VAC beside them)",
        [Shown("IntroVAC", f"IntroVAC: {MADE}"), Shown("VAC, longer", f"VAC, longer: {MADE}")],
        above(f"VAC, longer: {MADE}", f"IntroVAC: {MADE}"),
    ),
)
