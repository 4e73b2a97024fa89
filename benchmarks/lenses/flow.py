"""The flow lens on real images, beside another lens: edits judged by independent classifiers, inversion, costs.

    python -m benchmarks.lenses.flow --task pair --seed 0
    python -m benchmarks.lenses.flow --task pair --seed 0 --grid
    python -m benchmarks.lenses.flow --task pair --lenses flow --inputs 24 --parts
    python -m benchmarks.lenses.flow --task digits --lenses flow --inputs 10 --opinion
    python -m benchmarks.lenses.flow --task fashion --inputs 20 --equal --lenses flow medxgan svae introvac dif
    python -m benchmarks.lenses.flow --task blob --inputs 50 --lenses flow --masked 256
    python -m benchmarks.lenses.flow --task leaves --inputs 20 --lenses flow --picture docs/pictures/flow-leaves.png

Prints a table: one column per lens. Judged are inputs of the second half of the test set; the first half is that on
which the defaults were chosen, by `--grid`. A fitted lens is kept in the cache with its CPU seconds. With `--equal`
each lens but the flow trains for as many steps as take the CPU seconds of the flow's training. `--masked` fits the
flow a mask too, on so many inputs. Where the cause is planted (`blob`), maps are scored against it, on the inputs
that the benchmark of ground truth scores. `--picture` draws the first judged inputs, as they come, and no figures.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from xlens_flow import FlowLens, generative_classifier

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.fit import fit
from benchmarks.common.frechet import features
from benchmarks.common.judges import judged, predicted, trained
from benchmarks.common.localisation import figures
from benchmarks.common.pictures import sheet
from benchmarks.common.tables import options_of
from benchmarks.common.tasks import Task, digits, fashion, pair, planted
from benchmarks.common.unlike import task_of
from xlens.metrics import frechet_distance


def leaves(seed: int) -> Task:
    """Coffee leaves at 64 pixels, healthy (0) and with rust (1): 352 for training, 176 for the test."""
    task = task_of("leaves", Path())
    # They come class by class, and halves of the test set have to have both.
    order = torch.randperm(len(task.test), generator=torch.Generator().manual_seed(0))
    task.test, task.test_labels = task.test[order], task.test_labels[order]
    return task


#: Of the classifier and the judges; of planted causes as many as in the benchmark of ground truth.
EPOCHS = {"pair": 6, "fashion": 2, "digits": 60, "blob": 8, "leaves": 90}
TASKS: dict[str, Callable[[int], Task]] = {
    "pair": lambda seed: pair(),
    "fashion": lambda seed: fashion(),
    "digits": lambda seed: digits(),
    "blob": planted,
    "leaves": leaves,
}
#: Of the inputs with a planted cause that the classifier gets right: those that the ground truth benchmark scores.
SCORED = slice(50, 150)
#: Inputs of each class in a picture.
SHOWN = 6
#: Guidance and first guided step of eight, as tried on the development half.
STRENGTHS, BEGUN = (1.0, 2.0, 4.0, 8.0), (0, 1, 2, 3)
#: Steps of the trial that says how many take as long as the flow's.
TRIED = 40
#: Real images that Frechet distances are taken to.
REFERENCES = 4000
TRAINING = "training of the lens, CPU seconds"


def fitted(
    task: Task, model: nn.Module, backend: str, seed: int, options: dict
) -> tuple[xlens.LensExplainer, dict[str, float]]:
    """Return a lens from the cache, or fit it and keep it there, with the CPU seconds of the fit."""
    given = "".join(f"-{name}={value}" for name, value in sorted(options.items()))
    folder = CACHE / f"lens-{backend}-{task.name}-{seed}{given}"
    kept = folder / "seconds.json"
    if kept.exists():
        classifier = xlens.Classifier(model, class_names=task.class_names)
        return xlens.load(folder, classifier), json.loads(kept.read_text())
    began = time.process_time()
    found = fit(task, model, backend, seed, mask=mask_of(options.pop("pool", 0)), **options)
    seconds = {TRAINING: found.seconds, "fit, CPU seconds": time.process_time() - began}
    for text in found.said:
        print(f"{backend}: {text}", flush=True)
    found.explainer.save(folder)
    kept.write_text(json.dumps(seconds))
    return found.explainer, seconds


def mask_of(pool: int) -> bool | xlens.MaskOptions:
    """Return a mask fitted on so many inputs; of 0, whatever the backend has by default."""
    return xlens.MaskOptions(pool=pool) if pool else True


def steps_in(task: Task, model: nn.Module, backend: str, seed: int, seconds: float) -> int:
    """Return how many steps of a lens take so many CPU seconds, by a short trial, kept in the cache."""
    kept = CACHE / f"trial-{backend}-{task.name}-{seed}.txt"
    if not kept.exists():
        found = fit(task, model, backend, seed, mask=False, steps=TRIED)
        CACHE.mkdir(exist_ok=True)
        kept.write_text(str(found.seconds / (TRIED - 1)))
    return round(seconds / float(kept.read_text()))


def chosen(task: Task, model: nn.Module, n: int, held_out: bool) -> Tensor:
    """Return `n` test inputs of each class on which the classifier is right, of one half of the test set."""
    half = len(task.test) // 2
    where = torch.arange(half, len(task.test)) if held_out else torch.arange(half)
    labels = task.test_labels[where]
    right = where[predicted(model, task.test[where]) == labels]
    return torch.cat([right[task.test_labels[right] == c][:n] for c in range(len(task.class_names))])


def measure(
    task: Task, model: nn.Module, judges: dict[str, nn.Module], explainer: xlens.LensExplainer, n: int
) -> dict[str, float]:
    """Return every figure of one lens by name."""
    index = chosen(task, model, n, held_out=True)
    inputs, target = task.test[index], task.test_labels[index]
    classes = len(task.class_names)
    # The other class of two; of ten, one drawn for each input.
    drawn = torch.randint(1, classes, (len(index),), generator=torch.Generator().manual_seed(0))
    contrast = (target + drawn) % classes
    rows: dict[str, float] = {}
    with xlens.asking(explainer) as lens:
        codes = [lens.encode(part) for part in inputs.split(64)]
        decoded = torch.cat([lens.decode(part) for part in codes])
    rows["reconstruction: MSE"] = float((decoded - inputs).square().mean())
    rows["reconstruction: the classifier agrees"] = float((predicted(model, decoded) == target).float().mean())
    with torch.no_grad():
        before, after = (model(x).gather(1, target[:, None]) for x in (inputs, decoded))
        others = (model(x).gather(1, contrast[:, None]) for x in (inputs, decoded))
        first, second = (own - other for own, other in zip((before, after), others, strict=True))
    rows["reconstruction: score gap, mean"] = float((first - second).abs().mean())
    began = time.process_time()
    default = explainer.counterfactual(inputs, target=target, contrast=contrast)
    rows["counterfactual, CPU seconds an input"] = (time.process_time() - began) / len(inputs)
    moved = {"masked" if explainer.mask is not None else "residual": default}
    if explainer.mask is not None:
        moved["none"] = explainer.counterfactual(inputs, target=target, contrast=contrast, carry="none")
    ways = (
        [(f"{name} -> the other", target == c) for c, name in enumerate(task.class_names)] if classes == 2 else []
    )
    for carry in moved:
        for way, taken in ways or [("any -> any", target >= 0)]:
            edited, label = moved[carry][taken], f"{carry}: {way}"
            rows[f"{label}: classifier"] = float((predicted(model, edited) == contrast[taken]).float().mean())
            for name, judge in judges.items():
                share = judged(judge, inputs[taken], edited, target[taken], contrast[taken])
                rows[f"{label}: {name}"] = share
            rows[f"{label}: change (L1)"] = float((edited - inputs[taken]).abs().mean())
        rows[f"{carry}: Frechet distance"] = realism(task, judges, moved[carry])
    rows["real images: Frechet distance"] = realism(task, judges, inputs)
    few = inputs[:: max(1, len(inputs) // 16)][:16]
    for some in (few[:1], few):
        label = f"{len(some)} input{'s' if len(some) > 1 else ''}"
        with passes(explainer) as counted, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            began = time.process_time()
            explanation = explainer.explain(some)
            rows[f"explain {label}, CPU seconds an input"] = (time.process_time() - began) / len(some)
        if counted:
            rows[f"explain {label}, passes of the network an input"] = sum(counted) / len(some)
    rows["explanations that hold, of 16"] = float(explanation.trustworthy.float().mean())
    if task.test_masks is not None:
        rows |= localised(task, model, explainer)
    whole = (explanation.scores - explanation.counterfactual_scores).abs()
    rows["lig completeness error, worst"] = float((explanation.convergence_delta["lig"].abs() / whole).max())
    drawn_anew = {c: explainer.sample(50, c, seed=c) for c in range(classes)}
    for name, net in {"classifier": model, **judges}.items():
        right = [predicted(net, images) == c for c, images in drawn_anew.items()]
        rows[f"50 drawn of each class: {name}"] = float(torch.cat(right).float().mean())
    return rows


def localised(task: Task, model: nn.Module, explainer: xlens.LensExplainer) -> dict[str, float]:
    """Return how maps agree with the planted cause, on the inputs that the benchmark of ground truth scores."""
    index = ((predicted(model, task.test) == 1) & (task.test_labels == 1)).nonzero()[SCORED, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanation = explainer.explain(task.test[index], attributions=("lig", "ig_counterfactual"))
    rows: dict[str, float] = {
        "explanations that hold, of those with a cause": float(explanation.trustworthy.float().mean())
    }
    for name, values in explanation.attributions.items():
        rows |= {f"{name}: {figure}": value for figure, value in figures(values, task.test_masks[index]).items()}
    return rows


def picture(task: Task, model: nn.Module, explainer: xlens.LensExplainer, path: Path) -> None:
    """Draw input, reconstruction and counterfactual of the first judged inputs; a green bar where it holds."""
    inputs = task.test[chosen(task, model, SHOWN, held_out=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanation = explainer.explain(inputs, attributions=("lig",))
    colours = [(0.1, 0.6, 0.3) if holds else (0.8, 0.2, 0.2) for holds in explanation.trustworthy.tolist()]
    shown = (inputs, explanation.reconstruction, explanation.counterfactual)
    pictures = (images.expand(-1, 3, -1, -1) for images in shown)
    sheet(list(zip(*pictures, colours, strict=True)), path)
    print(f"trustworthy: {explanation.trustworthy.tolist()}\ndrawn: {path}")


def realism(task: Task, judges: dict[str, nn.Module], images: Tensor) -> float:
    """Return the Frechet distance to real images of the training set, in what judge A sees: lower is more real."""
    eyes = judges["judge A (residual)"]
    assert isinstance(eyes, nn.Sequential)
    return frechet_distance(features(eyes, task.train[:REFERENCES]), features(eyes, images))


@contextmanager
def passes(explainer: xlens.LensExplainer) -> Iterator[list[int]]:
    """Count the rows that pass a flow's network; nothing is counted of other lenses."""
    counted: list[int] = []
    if not isinstance(explainer.lens, FlowLens):
        yield counted
        return
    handle = explainer.lens.flow.register_forward_pre_hook(lambda _flow, given: counted.append(len(given[0])))
    try:
        yield counted
    finally:
        handle.remove()


def grid(
    task: Task, model: nn.Module, judges: dict[str, nn.Module], explainer: xlens.LensExplainer, n: int
) -> None:
    """Print, on the development half, what guidance of fixed strength from a fixed step on does."""
    index = chosen(task, model, n, held_out=False)
    inputs, target = task.test[index], task.test_labels[index]
    contrast = 1 - target
    print(
        "| first step | guidance | classifier | as sure as of real inputs | judges | change (L1) |\n"
        + "|---" * 6
        + "|"
    )
    with xlens.asking(explainer) as lens:
        codes = lens.encode(inputs)
        steps = torch.arange(lens.ode_steps)
        for begun in BEGUN:
            for strength in STRENGTHS:
                on = (strength * (steps >= begun)).float().expand(len(inputs), -1)
                tried = lens.guided_toward(codes, contrast, on)
                edited = lens.decode(tried)
                sure = float(lens.convinces(tried, target, contrast)[1].float().mean())
                flips = float((predicted(model, edited) == contrast).float().mean())
                shares = " / ".join(f"{judged(j, inputs, edited, target, contrast):.3f}" for j in judges.values())
                change = float((edited - inputs).abs().mean())
                print(
                    f"| {begun} | {strength:g} | {flips:.3f} | {sure:.3f} | {shares} | {change:.4f} |", flush=True
                )


def parts(task: Task, model: nn.Module, explainer: xlens.LensExplainer, n: int) -> None:
    """Print which part of an explanation takes how many passes of the network an input, 16 inputs at once."""
    index = chosen(task, model, n, held_out=True)
    found: dict[str, float] = {}
    with passes(explainer) as counted, xlens.asking(explainer) as lens:

        def after(part: str) -> None:
            found[part] = found.get(part, 0) + sum(counted) / len(index)
            counted.clear()

        for few in index.split(16):
            target = task.test_labels[few]
            codes = lens.encode(task.test[few])
            after("inversion")
            moved = lens.counterfactual(codes, target, (target + 1) % len(task.class_names))
            after("search")
            lens.waypoints(codes, moved)
            after("points between")
    print("| part | passes |\n|---|---|")
    for part, count in (found | {"all": sum(found.values())}).items():
        print(f"| {part} | {count:.1f} |")


def opinion(
    task: Task, model: nn.Module, judges: dict[str, nn.Module], explainer: xlens.LensExplainer, n: int
) -> None:
    """Print how good a classifier the flow's likelihoods are, on held-out inputs, and where they disagree."""
    where = torch.arange(len(task.test) // 2, len(task.test))[: n * len(task.class_names)]
    inputs, labels = task.test[where], task.test_labels[where]
    print("| probes | steps | accuracy | agrees | standard error, median | difference, median | CPU s an input |")
    print("|---" * 7 + "|")
    for probes, steps in ((2, 4), (4, 8)):
        began = time.process_time()
        found = generative_classifier(explainer, inputs, probes=probes, steps=steps)
        seconds = (time.process_time() - began) / len(inputs)
        right, agrees = (float((found.likeliest == one).float().mean()) for one in (labels, found.decided))
        error, apart = (float(v.median()) for v in (found.standard_errors, found.differences.abs()))
        print(f"| {probes} | {steps} | {right:.3f} | {agrees:.3f} | {error:.1f} | {apart:.1f} | {seconds:.2f} |")
    own = {name: predicted(net, inputs) == labels for name, net in {"classifier": model, **judges}.items()}
    for name, correct in own.items():
        print(f"{name}: accuracy {float(correct.float().mean()):.3f}")
    apart = found.disagrees
    print(f"disagrees on {int(apart.sum())} of {len(inputs)}; there the classifier is right on")
    print(f"{int(own['classifier'][apart].sum())}, elsewhere on {int(own['classifier'][~apart].sum())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tuple(TASKS), default="pair")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lenses", nargs="+", default=["flow", "medxgan"])
    parser.add_argument("--inputs", type=int, default=100, help="judged inputs of each class")
    parser.add_argument("--grid", action="store_true", help="on the development half, for choosing defaults")
    parser.add_argument("--parts", action="store_true", help="passes of the network by part of an explanation")
    parser.add_argument("--opinion", action="store_true", help="the flow as a generative classifier")
    parser.add_argument("--equal", action="store_true", help="other lenses train as long as the flow, listed first")
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE of the backend flow")
    parser.add_argument("--masked", type=int, default=0, help="fit the flow's mask on so many inputs; 0 for none")
    parser.add_argument("--picture", type=Path, help="draw the first judged inputs there")
    asked = parser.parse_args()
    task = TASKS[asked.task](asked.seed)
    judges = trained(task, asked.seed, EPOCHS[asked.task])
    right = {
        name: float((predicted(n, task.test) == task.test_labels).float().mean()) for name, n in judges.items()
    }
    print("accuracy: " + ", ".join(f"{name} {share:.3f}" for name, share in right.items()), flush=True)
    model = judges.pop("f")
    columns: dict[str, dict[str, float]] = {}
    for backend in asked.lenses:
        options = options_of(asked.option) if backend == "flow" else {}
        if backend == "flow" and asked.masked:
            options["pool"] = asked.masked
        if asked.equal and backend != "flow":
            options["steps"] = steps_in(task, model, backend, asked.seed, columns["flow"][TRAINING])
        explainer, seconds = fitted(task, model, backend, asked.seed, options)
        if asked.picture:
            picture(task, model, explainer, asked.picture)
            return
        if asked.parts:
            parts(task, model, explainer, asked.inputs)
            return
        if asked.grid or asked.opinion:
            (grid if asked.grid else opinion)(task, model, judges, explainer, asked.inputs)
            return
        columns[backend] = seconds | measure(task, model, judges, explainer, asked.inputs)
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    print("| figure | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for name in names:
        cells = [f"{column[name]:.4g}" if name in column else "-" for column in columns.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
