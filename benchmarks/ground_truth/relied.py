"""What audits say of classifiers that nobody planted anything into, and what they cost.

    python -m benchmarks.ground_truth.relied clothes diseases large --data coffee

`clothes`: ten classes of Fashion-MNIST, 1,000 images and then 5,000. `diseases`: healthy, four diseases and others,
of coffee leaves at 64 pixels, with severity as metadata (`--data` as for ``benchmarks.ground_truth.photographs``).
`large`: healthy or not at 224 pixels, EfficientNet-Lite0. Lenses are of the backend ``infill``; everything audited
is held out. Prints each audit, with seconds of CPU and wall, and the most memory that the process has had so far;
`--pages` writes the pages there. Nothing here is right or wrong by a known truth: the pictures are to be looked at.
"""

from __future__ import annotations

import argparse
import csv
import resource
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor

import xlens
from benchmarks.common.leaves import DISEASES, images, leaves, networks
from benchmarks.common.tasks import FASHION
from benchmarks.ground_truth.shortcuts import SIDE, leaf_cnn
from xlens.auditing import Audit
from xlens.datasets import small_cnn, train_classifier
from xlens.datasets.examples import read_idx
from xlens.fitted import Fitted

STEPS = 600
#: What `predominant_stress` says, in its order.
KINDS = ("healthy", *DISEASES, "other")
CLOTHES = ("top", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def ten_clothes(split: str, count: int) -> tuple[Tensor, Tensor]:
    """Return so many images ``(N, 1, 28, 28)`` of all ten classes, and their labels."""
    pictures = read_idx(FASHION / f"{split}-images-idx3-ubyte.gz")[:count]
    return pictures.float().div(255).unsqueeze(1), read_idx(FASHION / f"{split}-labels-idx1-ubyte.gz")[
        :count
    ].long()


def clothes(chosen: argparse.Namespace) -> None:
    train, train_labels = ten_clothes("train", 20000)
    test, labels = ten_clothes("t10k", 5000)
    net = small_cnn((1, 28, 28), len(CLOTHES))
    train_classifier(net, train, train_labels, steps=STEPS, seed=0, progress=False)
    classifier = xlens.Classifier(net, class_names=CLOTHES)
    explainer = xlens.fit(classifier, train[:4000], "infill", seed=0, progress=False)
    for count in (1000, 5000):
        told(explainer, test, labels, count, f"Ten classes of clothes, {count} images of 28 pixels", chosen.pages)


def diseases(chosen: argparse.Namespace) -> None:
    known = leaves(chosen.data, 0)
    with (chosen.data / "labels.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    shown = [images(chosen.data, "leaf", names, SIDE) for names in (known.of_classifier, known.of_judges)]
    kinds = [
        torch.tensor([int(rows[name]["predominant_stress"]) for name in names])
        for names in (known.of_classifier, known.of_judges)
    ]
    net = leaf_cnn(len(KINDS))
    train_classifier(net, shown[0], kinds[0], steps=STEPS, seed=0, progress=False)
    classifier = xlens.Classifier(net.eval(), class_names=KINDS)
    explainer = xlens.fit(classifier, shown[0], "infill", seed=0, progress=False)
    severity = [int(rows[name]["severity"]) for name in known.of_judges]
    told(explainer, shown[1], kinds[1], len(kinds[1]), "Diseases of leaves, 64 pixels", chosen.pages, severity)


def large(chosen: argparse.Namespace) -> None:
    known = leaves(chosen.data, 0)
    net = networks(known, 0, judges=False)["classifier"]
    train = images(chosen.data, "leaf", known.of_classifier[:400])
    classifier = xlens.Classifier(net, class_names=("healthy", "diseased"))
    explainer = xlens.fit(classifier, train, "infill", seed=0, progress=False)
    del train
    names = (known.of_judges + known.development + known.held_out)[: chosen.inputs]
    labels = torch.tensor([known.labels[name] for name in names])
    test = images(chosen.data, "leaf", names)
    if chosen.channels_last:
        net.to(memory_format=torch.channels_last)
    told(explainer, test, labels, len(names), f"Healthy or not, {len(names)} leaves of 224 pixels", chosen.pages)


def told(
    explainer: Fitted,
    test: Tensor,
    labels: Tensor,
    count: int,
    title: str,
    pages: Path | None,
    severity: list[int] | None = None,
) -> Audit:
    """Print an audit, and what it cost."""
    facts = None if severity is None else {"severity": severity}
    begun = time.process_time(), time.perf_counter()
    audit = xlens.audit(explainer, (test, labels), n=count, metadata=facts, seed=0, progress=False)
    cpu, wall = time.process_time() - begun[0], time.perf_counter() - begun[1]
    right = float((audit.seen.target == audit.seen.label).mean())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n## {title}\n\nThe classifier is right on {right:.3f}. The audit took {cpu:.0f} CPU s, {wall:.0f} s; the"
    )
    print(f"process has had at most {peak:.0f} MiB.\n\n{audit}\n", flush=True)
    for group in audit.groups:
        print(f"- {audit.title(group)}: {audit.verdict(group)} {'; '.join(one.said for one in group.associations)}")
    if pages is not None:
        pages.mkdir(parents=True, exist_ok=True)
        audit.save_html(pages / f"{title.split(',')[0].lower().replace(' ', '-')}-{count}.html", title=title)
    return audit


def main() -> None:
    parts = {"clothes": clothes, "diseases": diseases, "large": large}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=list(parts))
    parser.add_argument("--data", type=Path, default=Path("coffee"))
    parser.add_argument("--inputs", type=int, default=1000, help="leaves of 224 pixels")
    parser.add_argument("--channels-last", action="store_true", help="the network of 224 pixels in that format")
    parser.add_argument("--pages", type=Path, help="folder for the pages")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    for name in chosen.parts:
        parts[name](chosen)


if __name__ == "__main__":
    main()
