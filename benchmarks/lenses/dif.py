"""The DIF lens: the paper's table, flips along three features, robustness, and the two-sample statistic.

    python -m benchmarks.lenses.dif --task pair --seed 0      (also: easy, solar)
    python -m benchmarks.lenses.dif --task statistic
    python -m benchmarks.lenses.dif --table

A run of one task and seed fits DIF and its two ablations (logistic separation, and none: "vanilla") and keeps its
figures in the cache folder; ``--table`` prints what is there. Seeds are the lens's; the classifier is the same for
all. With ``--option`` the figures are printed and not kept.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import scipy.stats
import torch
import xlens_dif
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from xlens_dif.sparse import PENALTIES, non_sparse

from benchmarks.common.cache import CACHE
from benchmarks.common.fit import fit
from benchmarks.common.frechet import features
from benchmarks.common.judges import judged, logits_of, predicted, trained
from benchmarks.common.pictures import draw
from benchmarks.common.tables import options_of, table
from benchmarks.common.tasks import Task, easy, fashion, pair, solar
from xlens.metrics import frechet_distance, mean_embedding_test, reconstruction_attack

TASKS = {"easy": easy, "pair": pair, "solar": solar}
EPOCHS = {"easy": 2, "pair": 6, "solar": 15}
KINDS = {"DIF": "me", "logistic": "logistic", "vanilla": "none"}
#: Test images for edits, and for the attack.
EDITED, ATTACKED = 300, 32
WEIGHTS = (0.1, 0.01)
Rows = dict[str, float]


def fitted(task: Task, model: nn.Module, seed: int, label: str, mask: bool, options: dict, rows: Rows):
    """Fit a lens; report its CPU seconds and whatever went wrong on the way."""
    explainer, seconds, said = fit(task, model, "dif", seed, mask=mask, **options)
    rows[f"{label}: fit, CPU seconds (without mask)"] = seconds
    rows[f"{label}: roll-backs"] = float(sum("went back" in text for text in said))
    rows[f"{label}: restarts after the health test"] = float(sum("begun anew" in text for text in said))
    health = explainer.lens.health
    rows[f"{label}: health test failed in the end"] = float(bool(health.problems))
    rows[f"{label}: KL of real inputs"], rows[f"{label}: KL of fakes"] = health.real_kl, health.fake_kl
    return explainer


@torch.no_grad()
def paper_table(explainer, model: nn.Module, eyes: nn.Sequential, task: Task, label: str, rows: Rows) -> None:
    """AUC of the sparse models, share of weights that count, Frechet distances and error, on test images."""
    lens, x = explainer.lens, task.test
    codes = torch.cat([lens.encode(part) for part in x.split(256)])
    own = predicted(model, x)
    for place, strength in enumerate(PENALTIES):
        score = lens.class_logits(codes, strength)[:, 1]
        rows[f"{label}: AUC of the classifier's class, lambda {strength}"] = roc_auc_score(own, score)
        rows[f"{label}: AUC of the label, lambda {strength}"] = roc_auc_score(task.test_labels, score)
        rows[f"{label}: non-sparse share, lambda {strength}"] = float(non_sparse(lens.weights[place, 1]))
    decoded = torch.cat([lens.decode(part) for part in codes.split(256)])
    raw = torch.randn(len(x), lens.code, generator=torch.Generator().manual_seed(0))
    made = torch.cat([lens.decode(part) for part in (lens.bound * (raw / lens.bound).tanh()).split(256)])
    real = features(eyes, x)
    rows[f"{label}: Frechet distance, fakes"] = frechet_distance(real, features(eyes, made))
    rows[f"{label}: Frechet distance, reconstructions"] = frechet_distance(real, features(eyes, decoded))
    rows[f"{label}: reconstruction MSE"] = float((decoded - x).square().mean())
    rows[f"{label}: the classifier agrees on reconstructions"] = float(
        (predicted(model, decoded) == own).float().mean()
    )


def flips(explainer, judges: dict[str, nn.Module], task: Task, label: str, mask: bool, rows: Rows):
    """The three top features moved: on decodings and carried; returns the first explanation."""
    x = task.test[:EDITED]
    agreement = xlens_dif.agreement(explainer, x)
    rows[f"{label}: the classifier confirms the sparse model on edits"] = agreement.confirmed
    rows[f"{label}: G(z0), the classifier flips"] = agreement.flips
    found = None
    for carry in ("masked", "residual") if mask else ("residual",):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            explanation = explainer.explain(x, carry=carry, attributions=(), n_steps=4)
        found = found or explanation
        rows[f"{label}: x' {carry}, the classifier flips"] = float(explanation.fidelity.flips.float().mean())
        for name, judge in judges.items():
            sides = (explanation.target, explanation.contrast)
            rows[f"{label}: x' {carry}, {name}"] = judged(judge, x, explanation.counterfactual, *sides)
    if mask:
        rows[f"{label}: mask area"] = float(found.mask.mean())
        rows[f"{label}: trustworthy"] = float(found.trustworthy.float().mean())
    return found


def attack(explainer, model: nn.Module, task: Task, label: str, rows: Rows) -> None:
    """Perturb inputs so that their reconstruction becomes an image of the other class."""
    own = predicted(model, task.test)
    starts, ends = (task.test[own == c][:ATTACKED] for c in (0, 1))
    lens = explainer.lens

    def reconstruct(inputs: Tensor) -> Tensor:
        return lens.decode(lens.encode(inputs))

    for weight in WEIGHTS:
        found = reconstruction_attack(reconstruct, starts, ends, weight=weight, steps=200)
        rows[f"{label}: attack at weight {weight}, share of the way"] = float(found.moved.mean())
        rows[f"{label}: attack at weight {weight}, perturbation RMS"] = float(found.size.mean())
        left = predicted(model, found.reconstructions) != 0
        rows[f"{label}: attack at weight {weight}, the classifier sees the other class"] = float(
            left.float().mean()
        )


def traversals(explainer, task: Task, model: nn.Module, path: Path) -> None:
    """Draw each top feature from -C to C for one image of each class, with the classifier's probability."""
    from matplotlib.figure import Figure

    own = predicted(model, task.test)
    shown = torch.stack([task.test[own == c][0] for c in (0, 1)])
    named = [part for part in explainer.features if part.class_index is not None]
    figure = Figure(figsize=(8.2, 0.98 * 2 * len(named)), layout="constrained")
    axes = figure.subplots(2 * len(named), 10, squeeze=False)
    for f, part in enumerate(named):
        found = xlens_dif.traversal(explainer, shown, part.name, 9)
        for i in range(2):
            row = axes[2 * f + i]
            frames = [shown[i], *found.frames[i]]
            texts = ["input", *(f"{v:.2f}" for v in found.scores[i].sigmoid().tolist())]
            for axis, frame, text in zip(row, frames, texts, strict=True):
                axis.imshow(frame[0], cmap="gray", vmin=0, vmax=1)
                axis.set_xticks([])
                axis.set_yticks([])
                axis.set_xlabel(text, fontsize=7, labelpad=1)
            row[0].set_ylabel(part.name, fontsize=6)
    figure.suptitle(
        f"each feature from -C to C; below: the classifier's probability of {task.class_names[1]}", fontsize=9
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=75)


def eyes_of_clothes() -> nn.Sequential:
    """Return a network that knows all ten classes of clothes, for Frechet distances."""
    return trained(fashion(), 0, 5, "judge A (residual)").popitem()[1]


def measure(name: str, seed: int, pictures: Path, options: dict, kinds: list[str]) -> Rows:
    """Fit DIF and its ablations (`kinds` of them) and return every figure by name."""
    task = TASKS[name]()
    nets = trained(task, 0, EPOCHS[name], only="f" if name == "easy" else "")
    model = nets.pop("f")
    # On photographs of clothes a network that knows all ten; on solar cells the judge, for want of another.
    eyes = nets["judge A (residual)"] if name == "solar" else eyes_of_clothes()
    logits = logits_of(model, task.test)
    rows: Rows = {"the classifier: AUC of the label": roc_auc_score(task.test_labels, logits[:, 1] - logits[:, 0])}
    rows["the classifier: test accuracy"] = float((logits.argmax(1) == task.test_labels).float().mean())
    for label in kinds:
        separation = KINDS[label]
        mask = label == "DIF" and seed == 0
        explainer = fitted(task, model, seed, label, mask, options | {"separation": separation}, rows)
        paper_table(explainer, model, eyes, task, label, rows)
        edited = flips(explainer, nets, task, label, mask, rows)
        if label != "logistic" and seed == 0:
            attack(explainer, model, task, label, rows)
        if seed == 0 and label != "logistic":
            traversals(explainer, task, model, pictures / f"dif-{name}-traversals-{label.lower()}.png")
        if mask:
            with torch.no_grad():
                decoded = explainer.lens.decode(edited.counterfactual_codes[:10])
            shown = [edited.inputs, edited.reconstruction, decoded, edited.counterfactual, edited.mask]
            draw(shown, ["input", "G(z)", "G(z0)", "x'", "mask"], pictures / f"dif-{name}.png")
        print(f"{name} {seed} {label}: {rows[f'{label}: fit, CPU seconds (without mask)']:.0f} s", flush=True)
    return rows


def statistic(draws: int = 2000) -> str:
    """Hotelling's statistic by another way, and how often a true null is rejected."""
    lines = ["| d | J | largest relative difference to Hotelling's T-squared, 50 draws |", "|---|---|---|"]
    generator = torch.Generator().manual_seed(0)
    for d, count in ((3, 3), (5, 8), (10, 10), (24, 32)):
        worst = 0.0
        for _ in range(50):
            x, y, at = (torch.randn(n, d, generator=generator, dtype=torch.float64) for n in (120, 200, count))
            found = mean_embedding_test(x, y, at).statistic
            pooled = (119 * np.cov(x.numpy().T) + 199 * np.cov(y.numpy().T)) / 318
            gap = (x.mean(0) - y.mean(0)).numpy()
            expected = 120 * 200 / 320 * gap @ np.linalg.inv(pooled) @ gap
            worst = max(worst, abs(found / expected - 1))
        lines.append(f"| {d} | {count} | {worst:.1e} |")
    low, high = scipy.stats.binom.interval(0.95, draws, 0.05)
    lines += [
        "",
        f"Rejected at 5% under the null, {draws} draws (95% band {low / draws:.4f} to {high / draws:.4f}):",
        "",
    ]
    lines += ["| kernel | n1, n2 | d | J | rejected |", "|---|---|---|---|---|"]
    for kernel, n1, n2, d, count in (
        ("linear", 500, 700, 5, 5),
        ("linear", 500, 700, 5, 10),
        ("gaussian", 500, 700, 5, 5),
        ("linear", 40, 40, 5, 5),
    ):
        rejected = 0
        for _ in range(draws):
            x, y, at = (torch.randn(n, d, generator=generator) for n in (n1, n2, count))
            rejected += mean_embedding_test(x, y, at, kernel=kernel).p_value < 0.05
        lines.append(f"| {kernel} | {n1}, {n2} | {d} | {count} | {rejected / draws:.4f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=(*TASKS, "statistic"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS), help="which to fit")
    parser.add_argument("--table", action="store_true", help="print the tables of all that was measured")
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE of the backend")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.table:
        for name in TASKS:
            found = sorted(CACHE.glob(f"dif-{name}-*.json"))
            results = [json.loads(path.read_text()) for path in found]
            if results:
                # Some figures are measured for the first seeds only.
                results = [{key: row.get(key, float("nan")) for key in results[0]} for row in results]
                print(f"## {name}\n\n{table(results, [int(path.stem.split('-')[-1]) for path in found])}\n")
    elif chosen.task == "statistic":
        print(statistic())
    else:
        options = options_of(chosen.option)
        rows = measure(chosen.task, chosen.seed, chosen.pictures, options, chosen.kind)
        path = CACHE / f"dif-{chosen.task}-{chosen.seed}.json"
        if not options:
            # What another run measured of the other kinds stays.
            rows = (json.loads(path.read_text()) if path.exists() and set(chosen.kind) != set(KINDS) else {}) | rows
            path.write_text(json.dumps(rows, indent=1))
        print(table([rows], [chosen.seed]))


if __name__ == "__main__":
    main()
