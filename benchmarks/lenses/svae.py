"""The SVAE lens on Fashion-MNIST, ten classes: what the classifier ignores, judged by the classifier.

    python -m benchmarks.lenses.svae --seeds 0 1 2
    python -m benchmarks.lenses.svae --seeds 0 --fit-alone
    python -m benchmarks.lenses.svae --seeds 0 1 2 --edits

Prints one table of figures and one of the invariance test over s, and draws the curve. Fitted lenses are kept in
the cache folder; --fresh fits them again. --fit-alone only times the default lens; --edits only says how large its
counterfactuals are.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from xlens_svae import SVAE
from xlens_svae.networks import ClassHead, Trunk

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.judges import logits_of, predicted, trained
from benchmarks.common.tasks import Task, fashion
from xlens.evaluation import divergence_attributions

SCALES = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
#: M2 decodes every class of every input, so a step of it takes one and a half times as long.
LENSES = {"SVAE (ours)": SVAE(), "SVAE (paper)": SVAE.paper(), "SemiVAE (M2)": SVAE.semi(steps=2000)}
IMAGES, VARIANTS, EDITED = 1000, 4, 500

Rows = dict[str, dict[str, float]]


def fit(task: Task, model: nn.Module, name: str, seed: int, fresh: bool) -> tuple[xlens.LensExplainer, float]:
    """Return the fitted lens and the seconds that it took; from the cache where it is there."""
    folder = CACHE / f"svae-{name.split()[-1].strip('()')}-{seed}"
    classifier = xlens.Classifier(model, class_names=task.class_names)
    backend = LENSES[name]
    if folder.exists() and not fresh:
        explainer = xlens.load(folder, classifier)
        if explainer.backend == backend:
            return explainer, json.loads((folder / "seconds.json").read_text())
    explainer, seconds, _ = timed(task, classifier, backend, seed)
    explainer.save(folder)
    (folder / "seconds.json").write_text(json.dumps(seconds))
    return explainer, seconds


def timed(
    task: Task, classifier: xlens.Classifier, backend: SVAE, seed: int
) -> tuple[xlens.LensExplainer, float, float]:
    """Fit a lens and its mask; return it with the seconds by the clock and of the CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    explainer = xlens.fit(classifier, task.train, backend, seed=seed, progress=False)
    return explainer, time.perf_counter() - began, time.process_time() - cpu


@torch.no_grad()
def agreement(explainer: xlens.LensExplainer, model: nn.Module, images: Tensor) -> dict[str, float]:
    """How far p(y|z1), read through q(z|x), and the classifier on the reconstruction, agree with it on x."""
    logits = logits_of(model, images)
    with xlens.asking(explainer):
        codes = torch.cat([explainer.lens.encode(part) for part in images.split(256)])
        decoded = torch.cat([explainer.lens.decode(part) for part in codes.split(256)])
        head = explainer.lens.class_probabilities(codes)
    return {
        "p(y given z1) agrees with the classifier": float((head.argmax(1) == logits.argmax(1)).float().mean()),
        "mean total variation": float((head - logits.softmax(1)).abs().sum(1).mean() / 2),
        "the classifier agrees on the reconstruction": float(
            (predicted(model, decoded) == logits.argmax(1)).float().mean()
        ),
        "reconstruction MSE": float((decoded - images).square().mean()),
    }


def imitation(task: Task, model: nn.Module, seed: int, backend: SVAE) -> dict[str, float]:
    """Train the same encoder to imitate the classifier and nothing else, as long, and compare the two likewise."""
    torch.manual_seed(seed)
    spec = xlens.Spec(
        shape=(1, 28, 28), num_classes=10, minimum=(0.0,), maximum=(1.0,), class_margins=((0.0,) * 10,) * 10,
        mean=(float(task.train.mean()),), std=(float(task.train.std()),),
    )  # fmt: skip
    trunk = Trunk(spec, backend.hidden, False)
    net = nn.Sequential(trunk, ClassHead(trunk.out_features, 10))
    optimizer = torch.optim.Adam(net.parameters(), backend.learning_rate)
    rate = lambda step: min(1.0, (step + 3) / 90, 2.02 * (1 - step / backend.steps))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    wanted = logits_of(model, task.train).softmax(1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(backend.steps):
        index = torch.randint(len(task.train), (backend.batch_size,), generator=generator)
        loss = F.cross_entropy(net(task.train[index]), wanted[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    found, logits = logits_of(net, task.test), logits_of(model, task.test)
    return {
        "p(y given z1) agrees with the classifier": float((found.argmax(1) == logits.argmax(1)).float().mean()),
        "mean total variation": float((found.softmax(1) - logits.softmax(1)).abs().sum(1).mean() / 2),
    }


def curve(
    explainer: xlens.LensExplainer, model: nn.Module, images: Tensor, scales: Sequence[float] = SCALES
) -> Rows:
    """The invariance test over s, z2 drawn anew from N(0, s^2) (the paper's test) and around the input's own.

    Kept by the classifier, by the lens's own head (the paper's judge), and by the classifier once carried over.
    """
    rows: Rows = {}
    lens = explainer.lens
    before = predicted(model, images)[:, None]
    with xlens.asking(explainer):
        codes = lens.encode(images)
        reconstruction = lens.decode(codes)
        own_before = lens.class_probabilities(codes).argmax(1)[:, None]
        for scale in scales:
            row: dict[str, float] = {}
            generator = torch.Generator().manual_seed(0)
            draws = {
                "": lens.redrawn(codes, VARIANTS, scale, generator),
                "around: ": lens.invariances(codes, VARIANTS, scale, generator, "nuisance"),
            }
            for label, varied in draws.items():
                decoded = torch.cat([lens.decode(part) for part in varied.flatten(0, 1).split(512)])
                shift = decoded - reconstruction.repeat_interleave(VARIANTS, 0)
                carried = (images.repeat_interleave(VARIANTS, 0) + shift).clamp(0, 1)
                own = torch.cat([lens.class_probabilities(lens.encode(p)).argmax(1) for p in decoded.split(512)])
                kept = {
                    "the classifier": predicted(model, decoded).view(len(images), -1) == before,
                    "own head": own.view(len(images), -1) == own_before,
                    "the classifier, carried": predicted(model, carried).view(len(images), -1) == before,
                }
                row |= {label + name: float(share.float().mean()) for name, share in kept.items()}
                row[label + "L2"] = diversity(decoded)
                row[label + "L2, carried"] = diversity(carried)
            rows[f"{scale:g}"] = row
    return rows


def diversity(variants: Tensor) -> float:
    """Mean L2 distance between two variants of one image."""
    return float(torch.stack([torch.pdist(one.flatten(1)).mean() for one in variants.split(VARIANTS)]).mean())


def contrasts(logits: Tensor) -> dict[str, Tensor]:
    """A class drawn at random for each image, and the classifier's runner-up."""
    target = logits.argmax(1)
    offset = torch.randint(1, 10, target.shape, generator=torch.Generator().manual_seed(0))
    runner_up = logits.scatter(1, target[:, None], -torch.inf).argmax(1)
    return {"chosen class": (target + offset) % 10, "runner-up": runner_up}


def counterfactuals(explainer: xlens.LensExplainer, nets: dict[str, nn.Module], images: Tensor) -> dict[str, float]:
    """Toward a class drawn at random, and toward the runner-up: the classifier's flips, and the judges'.

    A judge is asked about images on which it agreed with the classifier before the edit.
    """
    rows: dict[str, float] = {}
    model, judges = nets["f"], {k: v for k, v in nets.items() if k != "f"}
    logits = logits_of(model, images)
    target = logits.argmax(1)
    for way, contrast in contrasts(logits).items():
        for carry in ("masked", "residual", "none"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                edited = explainer.counterfactual(images, contrast=contrast, carry=carry)
            label = f"{way}, {'G(z0)' if carry == 'none' else carry}"
            rows[f"{label}: the classifier flips"] = float((predicted(model, edited) == contrast).float().mean())
            for name, judge in judges.items():
                counted = predicted(judge, images) == target
                seen = predicted(judge, edited)[counted] == contrast[counted]
                rows[f"{label}: {name}"] = float(seen.float().mean())
    return rows


def sizes(explainer: xlens.LensExplainer, images: Tensor) -> dict[str, float]:
    """How much of the image masked counterfactuals take, and of the lens's whole change."""
    rows: dict[str, float] = {}
    for way, contrast in contrasts(logits_of(explainer.classifier.model, images)).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = explainer.explain(images, contrast=contrast, attributions=(), n_steps=4)
        area, coverage = found.mask.flatten(1).mean(1), found.fidelity.coverage
        rows[f"{way}, masked: the classifier flips"] = float(found.fidelity.flips.float().mean())
        rows[f"{way}, masked: mask area"] = float(area.mean())
        rows[f"{way}, masked: share of the lens's change let through"] = float(coverage.mean())
        rows[f"{way}, masked: share of edits with more than .6 of it"] = float((coverage > 0.6).float().mean())
        change = found.edit.flatten(1)
        rows[f"{way}, masked: L1 per pixel"] = float(change.abs().mean())
        rows[f"{way}, masked: L2"] = float(change.norm(dim=1).mean())
    return rows


def divergences(explainer: xlens.LensExplainer, images: Tensor) -> dict[str, float]:
    """How far divergence attributions are from adding up to the divergence, relative to it; medians."""
    variants = explainer.invariances(images, 1).variants[:, 0]
    rows: dict[str, float] = {}
    for method, options in (("integrated_gradients", {"n_steps": 100}), ("gradient_shap", {"n_samples": 100})):
        for part in ("class", "nuisance"):
            found = divergence_attributions(explainer, images, variants, part, method, options)
            error = found.convergence_delta.abs() / found.divergence.clamp_min(1e-6)
            rows[f"divergence of the {part} part, {method}: relative error of the sum"] = float(error.median())
    return rows


def measure(task: Task, seed: int, fresh: bool, pictures: Path) -> tuple[Rows, dict[str, Rows]]:
    """Return every figure of one seed, by lens: the table's and the curve's."""
    nets = trained(task, seed, 3)
    model = nets["f"]
    table: Rows = {}
    curves: dict[str, Rows] = {}
    for name in LENSES:
        explainer, seconds = fit(task, model, name, seed, fresh)
        table[name] = {"fit, seconds": seconds, **agreement(explainer, model, task.test)}
        curves[name] = curve(explainer, model, task.test[:IMAGES])
        table[name] |= counterfactuals(explainer, nets, task.test[:EDITED])
        table[name] |= divergences(explainer, task.test[:32])
        if seed == 0:
            draw(explainer, task.test, pictures / f"svae-{name.split()[-1].strip('()')}.png")
        print(f"<!-- seed {seed}, {name}: {table[name]} {curves[name]} -->", flush=True)
    table["imitation alone"] = imitation(task, model, seed, LENSES["SVAE (ours)"])
    return table, curves


def draw(explainer: xlens.LensExplainer, images: Tensor, path: Path) -> None:
    """Write variants of five images, as decoded and as carried, then a grid over two nuisance dimensions."""
    with xlens.asking(explainer):
        classes = explainer.classifier(images[:200]).argmax(1).tolist()
    rows = [classes.index(c) for c in (0, 3, 5, 6, 8)]
    shown = images[rows]
    drawn = explainer.invariances(shown, 8), explainer.invariances(shown, 8, carry="residual")
    lines = [
        [(shown[i], True), *zip(found.variants[i], found.kept[i].tolist(), strict=True)]
        for i in range(len(rows))
        for found in drawn
    ]
    save_tiles(lines, path)
    with xlens.asking(explainer):
        codes = explainer.lens.encode(images[:500])
    # The two nuisance dimensions that say most about the data; others may be unused.
    d1 = explainer.lens.model.evidence
    used = (d1 + codes[:, d1:].std(0).topk(2).indices).tolist()
    grid = explainer.traverse(shown[1:2], tuple(used), [-3, -2, -1, 0, 1, 2, 3])
    cells = zip(grid.variants[0], grid.kept[0].tolist(), strict=True)
    save_tiles([list(zip(*row, strict=True)) for row in cells], path.with_name(path.stem + "-grid.png"))


def save_tiles(lines: list[list[tuple[Tensor, bool]]], path: Path) -> None:
    """Write rows of images, those on which the classifier does not keep its class in a red frame."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(len(lines[0]), len(lines)), layout="constrained")
    for axes, line in zip(figure.subplots(len(lines), len(lines[0])), lines, strict=True):
        for axis, (image, kept) in zip(axes, line, strict=True):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            for side in axis.spines.values():
                side.set(color="black" if kept else "#b3261e", linewidth=0.5 if kept else 2.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=60)


def plot_curves(curves: dict[str, list[Rows]], path: Path) -> None:
    """Draw share kept over s: by the classifier (solid), own head (dashed), carried onto the input (dotted)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = [float(s) for s in SCALES]
    for (name, seeds), colour in zip(curves.items(), ("#3b6fb6", "#b3261e", "#4d8b3a"), strict=True):
        for kind, style in (("the classifier", "-"), ("own head", "--"), ("around: the classifier, carried", ":")):
            left.plot(x, [_median(seeds, f"{s:g}", kind) for s in SCALES], style, color=colour)
        right.plot(x, [_median(seeds, f"{s:g}", "L2") for s in SCALES], color=colour, label=name)
    for axis, label in ((left, "share kept"), (right, "mean L2 between variants")):
        axis.set_xlabel("s")
        axis.set_ylabel(label)
    left.set_ylim(0, 1.02)
    # Over both: one of the two is too narrow for it.
    figure.suptitle(
        "left, solid: the classifier; dashed: the lens's own head; dotted: the classifier, carried, around",
        fontsize=8,
    )
    right.legend(fontsize=8)
    figure.savefig(path, dpi=90)


def _median(seeds: list[Rows], scale: str, kind: str) -> float:
    return float(torch.tensor([rows[scale][kind] for rows in seeds]).median())


def figures_table(results: list[Rows]) -> str:
    """Return a markdown table: figures by lens, median over seeds with the range."""
    lenses = list(results[0])
    lines = ["| figure | " + " | ".join(lenses) + " |", "|---" * (len(lenses) + 1) + "|"]
    for figure in results[0][lenses[0]]:
        digits = 0 if "seconds" in figure else 4 if "MSE" in figure else 3
        cells = []
        for lens in lenses:
            values = torch.tensor([r[lens][figure] for r in results if figure in r[lens]])
            cells.append(_range(values, digits) if len(values) else "")
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curve_table(name: str, seeds: list[Rows]) -> str:
    """Return a markdown table of one lens's invariance test: s down, judges across, medians over seeds."""
    kinds = list(seeds[0][f"{SCALES[0]:g}"])
    lines = [f"| s ({name}) | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for s in SCALES:
        cells = [f"{_median(seeds, f'{s:g}', kind):.{2 if 'L2' in kind else 3}f}" for kind in kinds]
        lines.append(f"| {s:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _range(values: Tensor, digits: int) -> str:
    text = f"{values.median():.{digits}f}"
    return text if len(values) < 2 else f"{text} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--fresh", action="store_true", help="fit again what the cache holds")
    parser.add_argument("--fit-alone", action="store_true", help="only time the fit of the default lens")
    parser.add_argument("--edits", action="store_true", help="only measure the default lens's edits")
    chosen = parser.parse_args()
    task = fashion()
    if chosen.fit_alone or chosen.edits:
        results = []
        for seed in chosen.seeds:
            model = trained(task, seed, 3, only="f")["f"]
            if chosen.fit_alone:
                _, seconds, cpu = timed(task, xlens.Classifier(model), LENSES["SVAE (ours)"], seed)
                threads = torch.get_num_threads()
                print(f"seed {seed}: {seconds:.1f} s, {cpu:.1f} CPU s, {threads} threads", flush=True)
            else:
                explainer, _ = fit(task, model, "SVAE (ours)", seed, chosen.fresh)
                results.append({"SVAE (ours)": sizes(explainer, task.test[:EDITED])})
        if results:
            print(figures_table(results))
        return
    results: list[Rows] = []
    curves: dict[str, list[Rows]] = {name: [] for name in LENSES}
    for seed in chosen.seeds:
        table, found = measure(task, seed, chosen.fresh, chosen.pictures)
        results.append(table)
        for name, rows in found.items():
            curves[name].append(rows)
        print(figures_table(results), *(curve_table(*pair) for pair in curves.items()), sep="\n\n", flush=True)
    plot_curves(curves, chosen.pictures / "svae-curve.png")


if __name__ == "__main__":
    main()
