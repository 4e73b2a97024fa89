"""The IntroVAC lens: flips along its directions, quality against VAC, sampling, attributes.

    python -m benchmarks.lenses.introvac --task pair --seeds 0 1 2
    python -m benchmarks.lenses.introvac --task fashion --seeds 0 1 2 --compare
    python -m benchmarks.lenses.introvac --task solar --seeds 0 1 2
    python -m benchmarks.lenses.introvac --task attributes

Each prints a table: one column per seed, then median and range. ``--compare`` also fits VAC at equal steps and at
equal seconds. Seeds are the lens's; ``fashion`` and ``solar`` take networks of that seed too, where
cached (``pair`` and ``solar`` use those of seed 0).
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
import xlens_introvac
from torch import Tensor, nn

import xlens
from benchmarks.common.fit import fit
from benchmarks.common.frechet import features
from benchmarks.common.judges import judged, predicted, trained
from benchmarks.common.pictures import draw
from benchmarks.common.tables import options_of, table
from benchmarks.common.tasks import Task, fashion, pair, solar
from xlens.evaluation import flip_distance, leakage
from xlens.metrics import frechet_distance

EPOCHS = {"pair": 6, "fashion": 5, "solar": 15}
#: Test images for steps of fixed length, and for edits on the real input.
SIZES = {"pair": (500, 300), "fashion": (500, 300), "solar": (150, 60)}
Rows = dict[str, float]


def fitted(task: Task, model: nn.Module, seed: int, rows: Rows, label: str, *, mask: bool = True, **options):
    """Fit a lens; report its CPU seconds (of the lens alone) and how often training had to go back."""
    found = fit(task, model, "introvac", seed, mask=mask, **options)
    rows[f"{label}: fit, CPU seconds (without mask)"] = found.seconds
    rows[f"{label}: roll-backs while training"] = float(sum("went back" in text for text in found.said))
    return found.explainer


def flips(explainer, model: nn.Module, judges: dict[str, nn.Module], x: Tensor, rows: Rows) -> None:
    """Flips on decodings at fixed steps along the direction and along random ones, and where steps end."""
    lens = explainer.lens
    with xlens.asking(explainer):
        target, contrast = explainer.fitted.classes(x, None, None, 256)
        codes = lens.encode(x)
        agrees = predicted(model, lens.decode(codes)) == target
        rows["the classifier agrees on reconstructions"] = float(agrees.float().mean())
        k = explainer.spec.num_classes
        by_head = lens.head(codes)[:, :k].argmax(1) == target
        rows["linear head agrees with the classifier on real inputs"] = float(by_head.float().mean())
        direction = F.normalize(lens.head.classes[contrast] - lens.head.classes[target], dim=1)
        noise = torch.randn(32, codes.shape[1], generator=torch.Generator().manual_seed(0))
        for delta in (3, 4):
            decoded = lens.decode(codes + delta * direction)
            found = predicted(model, decoded)
            rows[f"delta {delta}: the classifier flips to the contrast class"] = float(
                (found == contrast).float().mean()
            )
            for name, judge in judges.items():
                rows[f"delta {delta}: {name}"] = judged(judge, x, decoded, target, contrast)
            other = [predicted(model, lens.decode(codes + delta * u)) != target for u in F.normalize(noise, dim=1)]
            rows[f"delta {delta}: the classifier leaves its class, random direction (mean of 32)"] = float(
                torch.stack(other).float().mean()
            )
    steps = flip_distance(explainer, x, target=target, contrast=contrast)
    rows["step at which the classifier flips, median"] = float(steps.flip.quantile(0.5))
    rows["step at which the classifier flips: share that ever does"] = float(steps.flip.isfinite().float().mean())
    rows["step used, median"] = float(steps.used.quantile(0.5))
    rows["step used: share that reaches the median margin"] = float(steps.reached.float().mean())
    rows["step used: share at the longest"] = float((steps.used >= explainer.backend.longest_step).float().mean())


def carried(
    explainer, judges: dict[str, nn.Module], x: Tensor, rows: Rows, carries: tuple[str, ...]
) -> xlens.Explanation:
    """Edits on the real input at the step chosen per image, in each way of carrying; returns the first."""
    first = None
    for carry in carries:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            explanation = explainer.explain(x, carry=carry, attributions=(), n_steps=4)
        label = {"masked": "x' masked", "residual": "x' residual", "none": "G(z0)"}[carry]
        rows[f"{label}: the classifier flips"] = float(explanation.fidelity.flips.float().mean())
        for name, judge in judges.items():
            rows[f"{label}: {name}"] = judged(
                judge, x, explanation.counterfactual, explanation.target, explanation.contrast
            )
        first = first or explanation
        if carry == "masked":
            rows["x' masked: trustworthy"] = float(explanation.trustworthy.float().mean())
            rows["x' masked: mask area"] = float(explanation.mask.mean())
    return first


def sampling(explainer, rows: Rows, label: str, n: int) -> Tensor:
    """Langevin samples of every class; returns the first eight of each."""
    drawn = []
    for c in range(explainer.spec.num_classes):
        drawn.append(xlens_introvac.draw(explainer, n, c, seed=c))
    figures = {
        "the classifier accepts, of those the calibrated head accepts": [d.accepted_by_head for d in drawn],
        "the classifier accepts, of all": [d.accepted_by_classifier for d in drawn],
    }
    for name, values in figures.items():
        rows[f"{label}: {name}, mean of classes"] = sum(values) / len(values)
        rows[f"{label}: {name}, worst class"] = min(values)
    rows[f"{label}: Metropolis acceptance"] = sum(d.acceptance for d in drawn) / len(drawn)
    rows[f"{label}: R-hat, worst"] = max(d.r_hat for d in drawn)
    return torch.stack([d.inputs[:8] for d in drawn])


def quality(explainer, eyes: nn.Sequential, x: Tensor, rows: Rows, label: str) -> None:
    """Frechet distances of reconstructions and prior samples to real images, and the mean absolute error."""
    real = features(eyes, x)
    with xlens.asking(explainer):
        lens = explainer.lens
        reconstruction = torch.cat([lens.decode(lens.encode(part)) for part in x.split(256)])
        codes = torch.randn(len(x), lens.code, generator=torch.Generator().manual_seed(0))
        made = torch.cat([lens.decode(part) for part in codes.split(256)])
    rows[f"{label}: Frechet distance, reconstructions"] = frechet_distance(real, features(eyes, reconstruction))
    rows[f"{label}: Frechet distance, prior samples"] = frechet_distance(real, features(eyes, made))
    rows[f"{label}: reconstruction, mean absolute error"] = float((reconstruction - x).abs().mean())


def compare(task: Task, model: nn.Module, eyes: nn.Sequential, seed: int, explainer, rows: Rows, options: dict):
    """VAC at equal steps, and at about equal CPU seconds."""
    x = task.test[:4000]
    rows["Frechet distance between two halves of real images"] = frechet_distance(
        features(eyes, x), features(eyes, task.test[4000:8000])
    )
    quality(explainer, eyes, x, rows, "IntroVAC")
    plain = options | {"introspection": False}
    vac = fitted(task, model, seed, rows, "VAC, equal steps", mask=False, **plain)
    quality(vac, eyes, x, rows, "VAC, equal steps")
    seconds = "fit, CPU seconds (without mask)"
    ratio = rows[f"IntroVAC: {seconds}"] / rows[f"VAC, equal steps: {seconds}"]
    plain["steps"] = round(vac.backend.steps * ratio)
    longer = fitted(task, model, seed, rows, "VAC, equal cost", mask=False, **plain)
    quality(longer, eyes, x, rows, "VAC, equal cost")
    for what in ("reconstructions", "prior samples"):
        own = rows[f"IntroVAC: Frechet distance, {what}"]
        for against in ("equal steps", "equal cost"):
            rows[f"IntroVAC / VAC at {against}: {what}"] = own / rows[f"VAC, {against}: Frechet distance, {what}"]
    return vac


def attributes(seed: int, pictures: Path, options: dict) -> str:
    """Two correlated attributes of coats and shirts: what is read, edited, and leaks."""
    task = pair()
    model = trained(task, 0, EPOCHS["pair"])["f"]

    def measured(images: Tensor) -> Tensor:
        wide = (images.amax(2) > 0.2).float().sum((1, 2))
        return torch.stack([images.mean((1, 2, 3)), wide], 1)

    real = measured(task.train)
    table_of = (real > real.median(0).values).float()
    # Of each attribute half of the images are not observed.
    hidden = torch.rand(table_of.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    rows: Rows = {}
    explainer = fitted(
        task,
        model,
        seed,
        rows,
        "attributes",
        mask=False,
        side_info=table_of.masked_fill(hidden, float("nan")),
        attributes=("bright", "wide"),
        **options,
    )
    x = task.test[:1000]
    with xlens.asking(explainer):
        read = explainer.lens.head.read_attributes(explainer.lens.encode(x)) > 0
        truth = measured(x) > real.median(0).values
    lines = [f"correlation of the attributes: {float(torch.corrcoef(table_of.T)[0, 1]):.2f}"]
    lines += [
        f"read right: {name} {float(v):.3f}"
        for name, v in zip(("bright", "wide"), (read == truth).float().mean(0), strict=True)
    ]
    lines += [
        "",
        "| edit by 3 | held | brightness | width, pixels | the classifier changes its class |",
        "|---|---|---|---|---|",
    ]
    plain = explainer.edit(x, {"bright": 0.0}, carry="none")
    for name, hold in (
        ("bright", ()),
        ("bright", ("wide", "evidence for shirt")),
        ("wide", ()),
        ("wide", ("bright", "evidence for shirt")),
    ):
        edited = explainer.edit(x, {name: 3.0}, carry="none", hold=hold)
        change = (measured(edited) - measured(plain)).mean(0)
        left = float((predicted(model, edited) != predicted(model, plain)).float().mean())
        lines.append(f"| {name} | {', '.join(hold) or '-'} | {change[0]:+.3f} | {change[1]:+.2f} | {left:.3f} |")
    for orthogonal in (False, True):
        lines += ["", f"leakage after decoding and encoding again, orthogonal={orthogonal}", ""]
        found = leakage(explainer, x, 3.0, orthogonal=orthogonal)
        lines += ["| edited | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
        lines += [
            f"| {name} | " + " | ".join(f"{v:+.2f}" for v in row.values()) + " |" for name, row in found.items()
        ]
    rows_of = [x[:10]] + [
        explainer.edit(x[:10], edit)
        for edit in (
            {"bright": 3.0},
            {"bright": -3.0},
            {"wide": 3.0},
            {"bright": 3.0, "wide": -3.0},
            {"evidence for shirt": 4.0},
            {"evidence for coat": 4.0},
        )
    ]
    names = ["input", "bright +3", "bright -3", "wide +3", "bright +3, wide -3", "shirt +4", "coat +4"]
    draw(rows_of, names, pictures / "introvac-attributes.png")
    return "\n".join(lines)


def measure(task: Task, seed: int, pictures: Path, options: dict, with_vac: bool, mask: bool) -> Rows:
    """Fit one lens and return every figure by name."""
    nets = trained(task, seed if task.name == "fashion" else 0, EPOCHS[task.name])
    model = nets.pop("f")
    rows: Rows = {}
    for name, net in {"the classifier": model, **nets}.items():
        rows[f"test accuracy: {name}"] = float((predicted(net, task.test) == task.test_labels).float().mean())
    explainer = fitted(task, model, seed, rows, "IntroVAC", mask=mask, **options)
    many, few = SIZES[task.name]
    x = task.test[:many]
    flips(explainer, model, nets, x, rows)
    carries = ("masked", "residual", "none") if mask else ("residual", "none")
    shown_edit = carried(explainer, nets, x[:few], rows, carries)
    count = many // explainer.spec.num_classes
    for sharpness in (1.0, explainer.backend.sharpness):
        explainer.lens.sharpness = sharpness
        samples = sampling(explainer, rows, f"Langevin, sharpness {sharpness:g}", count)
    if seed == 0:
        with xlens.asking(explainer):
            decoded = explainer.lens.decode(shown_edit.counterfactual_codes[:10])
        shown = [shown_edit.inputs, shown_edit.reconstruction, decoded, shown_edit.counterfactual]
        names = ["input", "G(z)", "G(z0)", "x'"]
        if mask:
            shown, names = [*shown, shown_edit.mask], [*names, "mask"]
        draw(shown, names, pictures / f"introvac-{task.name}.png")
        names = list(task.class_names)
        draw(list(samples), names, pictures / f"introvac-{task.name}-samples.png")
    if with_vac:
        eyes = nets["judge A (residual)"]
        vac = compare(task, model, eyes, seed, explainer, rows, options)
        if seed == 0:
            side_by_side(task, explainer, vac, pictures)
    return rows


def side_by_side(task: Task, explainer, vac, pictures: Path) -> None:
    """Reconstructions and prior samples of both."""
    x = task.test[:10]
    codes = torch.randn(10, explainer.lens.code, generator=torch.Generator().manual_seed(0))
    with xlens.asking(explainer):
        lenses = (explainer.lens, vac.lens)
        again = [lens.decode(lens.encode(x)) for lens in lenses]
        made = [lens.decode(codes) for lens in lenses]
    names = ["input", "IntroVAC, G(z)", "VAC, G(z)", "IntroVAC, prior", "VAC, prior"]
    draw([x, *again, *made], names, pictures / "introvac-vac.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("pair", "fashion", "solar", "attributes"), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--compare", action="store_true", help="fit VAC too")
    parser.add_argument("--no-mask", action="store_true", help="fit no mask, and carry edits without one")
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE of the backend")
    chosen = parser.parse_args()
    options = options_of(chosen.option)
    if chosen.task == "attributes":
        print(attributes(chosen.seeds[0], chosen.pictures, options))
        return
    task = {"pair": pair, "fashion": fashion, "solar": solar}[chosen.task]()
    if task.name == "fashion":
        task.train, task.train_labels = task.train[:20000], task.train_labels[:20000]
    results = []
    for seed in chosen.seeds:
        results.append(measure(task, seed, chosen.pictures, options, chosen.compare, not chosen.no_mask))
        print(table(results, chosen.seeds[: len(results)]), flush=True)


if __name__ == "__main__":
    main()
