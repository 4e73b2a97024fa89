"""IntroVAC: table 1."""

from __future__ import annotations

from benchmarks.common.frechet import features
from benchmarks.common.judges import trained
from benchmarks.common.tasks import fashion
from benchmarks.lenses.dif import eyes_of_clothes
from benchmarks.lenses.introvac import EPOCHS, fitted, quality
from benchmarks.papers.cells import Figures, kept, lines, seeds, shown
from xlens.metrics import frechet_distance

#: The paper trains VAC for 600 epochs, and IntroVAC for 150.
LONGER = 4
TRAINED, SCORED = 20_000, 4000
DISTANCE = "Frechet distance, reconstructions"
EYES = ("f", "another network")
LABELS = {"VAC": "VAC, equal steps", "VAC, longer": f"VAC, {LONGER} times the steps", "IntroVAC": "IntroVAC"}

WORDS = """\
Ours is Fashion-MNIST, ten classes at 28 pixels, trained on the first {trained:,} images: fully connected
networks, the default weights, and the classifier's class instead of the label. The paper has faces of CelebA at
128 pixels
with residual networks, and trains VAC for 600 epochs, four times as long as IntroVAC; both VACs are here.
**The distance is not FID**: Inception was trained on photographs in colour, what it sees of grey clothes of
28 pixels says nothing of them, and it has 2,048 features, for whose covariance {scored:,} images are few. So
it is the Frechet distance in the 128 features before the classifier's last layer, and, because the classifier
had a part in training
(it gave the classes), in those of an independent network as well. Distances of one network compare with each
other alone, neither with the paper's nor with the other network's; the last row is what two halves of real
images have."""

READ = """\
The paper's IntroVAC stands at .40 of a VAC that was trained four times as long. Here, with seed {seed}, it
stands at {equal} of VAC's distance at equal steps (in the classifier's features, in another network's), and at
{longer} of
that of the longer VAC: introspection gains a little at equal steps, and longer training gains more. The error
that VAC minimises has not stopped falling by then (last column). Prior samples, equal cost and more seeds:
[IntroVAC](introvac.md)."""


def measure(seed: int) -> Figures:
    """Fit IntroVAC, and VAC twice, and return their Frechet distances."""
    task = fashion()
    task.train, task.train_labels = task.train[:TRAINED], task.train_labels[:TRAINED]
    model = trained(task, seed, EPOCHS["fashion"], only="f")["f"]
    eyes = dict(zip(EYES, (model, eyes_of_clothes()), strict=True))
    x, others = task.test[:SCORED], task.test[SCORED : 2 * SCORED]
    figures: Figures = {
        f"{who}: real": frechet_distance(features(net, x), features(net, others)) for who, net in eyes.items()
    }
    steps = None
    for label, options in (
        ("IntroVAC", {}),
        ("VAC", {"introspection": False}),
        ("VAC, longer", {"introspection": False, "steps": None}),
    ):
        if "steps" in options:
            options["steps"] = LONGER * steps
        explainer = fitted(task, model, seed, figures, label, mask=False, **options)
        steps = explainer.backend.steps
        for who, net in eyes.items():
            quality(explainer, net, x, figures, f"{who}: {label}")
        print(f"introvac {seed} {label}", flush=True)
    return figures


def page() -> str:
    """Return the section of the page."""
    cells = kept("papers-introvac")
    here = list(cells.values())
    head = (
        "",
        "paper: FID, CelebA",
        "ours: in the classifier's features",
        "ours: in another network's",
        "mean absolute error",
    )
    paper = {"VAC": "", "VAC, longer": "63.9", "IntroVAC": "25.5"}
    rows = [
        [
            name,
            paper[label],
            *(shown(here, f"{who}: {label}: {DISTANCE}", 2) for who in EYES),
            shown(here, f"{EYES[0]}: {label}: reconstruction, mean absolute error"),
        ]
        for label, name in LABELS.items()
    ]
    rows.append(["real images, two halves", "", *(shown(here, f"{who}: real", 2) for who in EYES), ""])
    return "\n\n".join(
        [
            "## IntroVAC",
            "`python -m benchmarks.papers --run introvac --seed 0` " + seeds(cells),
            WORDS.format(trained=TRAINED, scored=SCORED),
            "**Table 1**: Frechet distance of reconstructions to real images; lower is better.",
            lines(head, rows),
            *compared(cells),
        ]
    )


def compared(cells: dict[int, Figures]) -> list[str]:
    """Say how IntroVAC's distances stand to VAC's, by the first seed."""
    for seed, cell in cells.items():
        if all(f"{who}: {label}: {DISTANCE}" in cell for who in EYES for label in LABELS):
            own = {
                label: " and ".join(
                    f"{cell[f'{who}: IntroVAC: {DISTANCE}'] / cell[f'{who}: {label}: {DISTANCE}']:.2f}"
                    for who in EYES
                )
                for label in LABELS
            }
            return [READ.format(seed=seed, equal=own["VAC"], longer=own["VAC, longer"])]
    return []
