"""Names of earlier versions: each warns, says what to write instead, and does what the new name does."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from directed import Directed

import xlens
from xlens import evaluation, metrics, plot, report
from xlens.contracts.capabilities import Question
from xlens.deprecated import METHODS
from xlens.fitted import Fitted
from xlens.integrations.quantus import as_quantus

MOVED = {
    "xlens.attr.edit": "xlens.counterfactual.edit",
    "xlens.capabilities": "xlens.contracts.capabilities",
    "xlens.classifier.identity": "xlens.classifier.fingerprint",
    "xlens.demo": "xlens.datasets",
    "xlens.evaluation.flip_distance": "xlens.evaluation.flipping",
    "xlens.evaluation.leakage": "xlens.evaluation.leaking",
    "xlens.label": "xlens.teaching.page",
    "xlens.label.page": "xlens.teaching.page.page",
    "xlens.label.session": "xlens.teaching.page.session",
    "xlens.nn.features": "xlens.classifier",
    "xlens.nn.mask": "xlens.counterfactual.mask",
    "xlens.nn.steps": "xlens.nn.search",
    "xlens.registry.entries": "xlens.registry.installed",
    "xlens.params": "xlens.contracts.options",
    "xlens.status": "xlens.registry.status",
    "xlens.training.edit_mask": "xlens.counterfactual.fit_mask",
}


class Able(Directed):
    """Has directions, can tell how far inputs are apart, and learns, by one step, from what it is told."""

    questions = (Question("bright", (0.0, 1.0)),)

    def divergence(self, inputs, variants, part):
        return (variants - inputs).flatten(1).square().sum(1)

    def informativeness(self, inputs, strategy, generator):
        return inputs.flatten(1).mean(1)

    def teach(self, inputs, side_info, run):
        self.scale.data += 0.1 * side_info.nanmean()


def seen(figure: Any) -> list[str]:
    return [artist.get_text() for artist in figure.findobj(lambda one: hasattr(one, "get_text"))]


def mapped(divergences: Any) -> torch.Tensor:
    return divergences.attributions


#: Old method -> it as it was written, it as it is written now, and what makes the two results comparable.
WRITTEN: dict[str, tuple[Callable, Callable, Callable]] = {
    "as_quantus": (
        lambda e, x, _: e.as_quantus("saliency")(e.classifier.model, x.numpy(), [1, 1]),
        lambda e, x, _: as_quantus(e, "saliency")(e.classifier.model, x.numpy(), [1, 1]),
        torch.as_tensor,
    ),
    "divergence_attributions": (
        lambda e, x, _: e.divergence_attributions(x, 0.5 * x, method="saliency"),
        lambda e, x, _: evaluation.divergence_attributions(e, x, 0.5 * x, method="saliency"),
        mapped,
    ),
    "grid": (
        lambda e, x, _: e.grid(x, ["rows above", "last"], [-0.5, 0.5], relative=True, carry="residual"),
        lambda e, x, _: e.traverse(x, ("rows above", "last"), [-0.5, 0.5], carry="residual"),
        lambda found: found.variants,
    ),
    "leakage": (
        lambda e, x, _: e.leakage(x, amount=2.0, orthogonal=True),
        lambda e, x, _: evaluation.leakage(e, x, amount=2.0, orthogonal=True),
        str,
    ),
    "plot_invariances": (
        lambda e, x, _: toys.explainer_with(toys.ToyLens(), e).plot_invariances(x, 2, 0.5, seed=1),
        lambda e, x, _: plot.invariances(toys.explainer_with(toys.ToyLens(), e), x, 2, 0.5, seed=1),
        seen,
    ),
    "plot_traversal": (
        lambda e, x, _: e.plot_traversal(x, "patch", steps=[0.0, 1.0], target=2),
        lambda e, x, _: plot.traversal(e, x, "patch", [0.0, 1.0], target=2),
        seen,
    ),
    "query": (
        lambda e, x, _: e.query(x, 2, "max_entropy"),
        lambda e, x, _: e.teaching.query(x, 2, "max_entropy"),
        torch.as_tensor,
    ),
    "refit_mask": (
        lambda e, x, _: e.refit_mask(toys.pictures(40, seed=3)[0], progress=False) or e.mask.exit.weight,
        lambda e, x, _: e.teaching.refit_mask(toys.pictures(40, seed=3)[0], progress=False) or e.mask.exit.weight,
        torch.clone,
    ),
    "report": (
        lambda e, x, path: e.report(e.explain(x, attributions=()), path / "a.html", features=["last"], steps=[0.5]),
        lambda e, x, path: report.save_report(
            e, e.explain(x, attributions=()), path / "a.html", features=["last"], values=[0.5]
        ),
        lambda _: None,
    ),
    "steps": (
        lambda e, x, _: e.steps(x, target=0, contrast=1),
        lambda e, x, _: evaluation.flip_distance(e, x, target=0, contrast=1),
        lambda found: torch.stack([found.flip, found.used, found.reached.float()]),
    ),
    "teach": (
        lambda e, x, _: e.teach(x, [[1.0], [1.0]], refit_mask=False) or e.lens.scale,
        lambda e, x, _: e.teaching.teach(x, [[1.0], [1.0]], refit_mask=False) or e.lens.scale,
        torch.clone,
    ),
}


def test_every_earlier_method_is_tested():
    assert set(WRITTEN) == set(METHODS)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
@pytest.mark.parametrize("name", WRITTEN)
def test_an_earlier_method_warns_and_does_the_same(fitted, images, tmp_path, name):
    earlier, now, comparable = WRITTEN[name]
    results = []
    for ask, folder in ((earlier, tmp_path / "earlier"), (now, tmp_path / "now")):
        folder.mkdir()
        explainer = toys.explainer_with(Able(), fitted)
        explainer.fitted.provenance = {**explainer.provenance, "mask": {"steps": 3}}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", DeprecationWarning)
            found = comparable(ask(explainer, images[:2], folder))
        of_ours = [one for one in said if "xlens 0.3" in str(one.message)]
        if ask is earlier:
            assert f"explainer.{name} is now" in str(of_ours[0].message)
            assert of_ours[0].category is DeprecationWarning
            assert of_ours[0].filename == __file__
        else:
            assert not of_ours
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        results.append((found, files))
    (first, first_files), (second, second_files) = results
    assert first_files == second_files
    if isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    else:
        assert first == second


def test_what_never_was_is_no_attribute(fitted):
    with pytest.raises(AttributeError, match="'LensExplainer' object has no attribute 'plot_everything'"):
        fitted.plot_everything  # noqa: B018
    assert not hasattr(fitted, "leakages")


def modules() -> set[str]:
    """Return the dotted names of every module that only forwards."""
    folder = Path(xlens.__file__).parent / "moved"
    found = (path.relative_to(folder).with_suffix("").parts for path in folder.rglob("*.py"))
    return {".".join(("xlens", *parts)).removesuffix(".__init__") for parts in found}


def test_every_earlier_module_is_tested():
    assert modules() == set(MOVED)


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_earlier_module_warns_and_has_the_same_names(old, new):
    module, home = importlib.import_module(old), importlib.import_module(new)
    assert home.__all__
    for name in home.__all__:
        with pytest.warns(DeprecationWarning, match=rf"{old}\.{name} is now {new}\.{name}; .* xlens 0.3") as said:
            assert getattr(module, name) is getattr(home, name)
        assert said[0].filename == __file__
    with pytest.raises(AttributeError, match=f"module '{old}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("xlens.attr.edit", "Carry", "xlens.counterfactual"),
        ("xlens.training.edit_mask", "default_contrast", "xlens.classifier"),
        ("xlens.attr", "CarriedCurve", "xlens.counterfactual"),
        ("xlens.classifier.fingerprint", "Bound", "xlens.classifier.bound"),
        ("xlens.nn", "EditMask", "xlens.counterfactual"),
        ("xlens.demo", "run_demo", "xlens.cli.demo"),
    ],
)
def test_an_earlier_name_of_a_package_warns_and_is_the_same(old, name, new):
    with pytest.warns(DeprecationWarning, match=rf"{old}\.{name} is now {new}\.{name}"):
        found = getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(new), name)


def test_a_record_was_a_stored_lens_and_asked_elsewhere_for_probabilities(fitted, images):
    with pytest.warns(DeprecationWarning, match=r"xlens\.storage\.StoredLens is now xlens\.fitted\.Fitted;"):
        assert importlib.import_module("xlens.storage").StoredLens is Fitted
    with pytest.warns(DeprecationWarning, match=r"asked\.probabilities is now .*Fitted\.probabilities;"):
        earlier = importlib.import_module("xlens.plot.asked").probabilities
    assert torch.equal(earlier(fitted, images[:3]), fitted.fitted.probabilities(images[:3]))


@pytest.mark.parametrize(
    ("package", "name"),
    [("xlens.evaluation", "flip_distance"), ("xlens.evaluation", "leakage"), ("xlens.registry", "entries")],
)
def test_an_earlier_module_does_not_take_the_place_of_the_function_of_its_name(package, name, programs, tmp_path):
    # In a process of its own, where nothing has been imported before.
    line = f"import {package}.{name}; from {package} import {name}; print(type({name}).__name__)"
    done = programs(cwd=tmp_path, code=line)
    assert (done.returncode, done.stdout) == (0, b"function\n"), done.stderr


def test_new_names_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for package in ("attr", "nn", "training"):
            home = importlib.import_module(f"xlens.{package}")
            for module in pkgutil.iter_modules(home.__path__[:1]):
                importlib.import_module(f"xlens.{package}.{module.name}")
            for name in home.__all__:
                getattr(home, name)


def test_values_of_a_traversal_were_steps(fitted, images):
    now = fitted.traverse(images[:2], "bright", values=[0.0, 1.0])
    with pytest.warns(DeprecationWarning, match=r"traverse\(steps=...\) is now traverse\(values=...\)") as said:
        earlier = fitted.traverse(images[:2], "bright", steps=[0.0, 1.0])
    assert said[0].filename == __file__
    assert torch.equal(earlier, now)
    with pytest.raises(TypeError, match="steps"):
        fitted.traverse(images[:2], "bright", values=[0.0], steps=[0.0])


CURVES = {
    "deletion": lambda c, x, **n: metrics.deletion(c, x, x, torch.ones(len(x), dtype=torch.long), 0 * x, **n),
    "insertion": lambda c, x, **n: metrics.insertion(c, x, x, torch.ones(len(x), dtype=torch.long), 0 * x, **n),
    "diff_id": lambda c, x, **n: metrics.diff_id(c, x, x, torch.ones(len(x), dtype=torch.long), 0 * x, **n),
    "transition": lambda c, x, **n: metrics.transition(c, x, 0 * x, x, **n),
    "cout": lambda c, x, **n: metrics.cout(c, x, 0.5 * x, *(torch.full((len(x),), k) for k in (1, 0)), **n),
}


@pytest.mark.parametrize("name", CURVES)
def test_points_of_a_curve_were_steps(name, images):
    def classify(x):
        return torch.stack([torch.zeros(len(x)), x.flatten(1).mean(1)], 1)

    with pytest.warns(DeprecationWarning, match=rf"{name}\(steps=...\) is now {name}\(points=...\)"):
        earlier = CURVES[name](classify, images[:2], steps=5)
    assert torch.equal(earlier, CURVES[name](classify, images[:2], points=5))
    with pytest.raises(TypeError, match="steps"):
        CURVES[name](classify, images[:2], points=5, steps=5)


def test_points_of_an_evaluation_were_steps(fitted, images):
    with pytest.warns(DeprecationWarning, match=r"evaluate\(steps=...\) is now evaluate\(points=...\)"):
        with pytest.raises(xlens.errors.OptionError, match="points must be an int >= 1"):
            xlens.evaluate(fitted, images, steps=0)


def test_values_of_a_report_were_steps(fitted, images, tmp_path):
    explanation = fitted.explain(images[:2])
    report.save_report(fitted, explanation, tmp_path / "now.html", features=["dark"], values=[0.5])
    with pytest.warns(DeprecationWarning, match=r"save_report\(steps=...\) is now save_report\(values=...\)"):
        report.save_report(fitted, explanation, tmp_path / "earlier.html", features=["dark"], steps=[0.5])
    assert (tmp_path / "earlier.html").read_bytes() == (tmp_path / "now.html").read_bytes()
    (now,) = report.render_traversals(fitted, explanation, ["dark"], values=[0.5])
    with pytest.warns(DeprecationWarning, match=r"render_traversals\(values=...\)"):
        (earlier,) = report.render_traversals(fitted, explanation, ["dark"], steps=[0.5])
    assert torch.equal(earlier.frames, now.frames)


def test_values_of_a_figure_of_a_traversal_were_steps(fitted, images):
    frames = fitted.traverse(images[:2], "bright", values=[0.0, 1.0])
    now = plot.plot_traversal(frames, [0.0, 1.0])
    with pytest.warns(DeprecationWarning, match=r"plot_traversal\(values=...\)") as said:
        earlier = plot.plot_traversal(frames, steps=[0.0, 1.0])
    assert said[0].filename == __file__
    assert seen(earlier) == seen(now)


def test_values_of_a_rendered_traversal_were_steps():
    parts = {"feature": "bright", "frames": torch.zeros(1, 2, 1, 8, 8), "scores": torch.zeros(1, 2)}
    with pytest.warns(DeprecationWarning, match=r"Traversal\(steps=...\) is now Traversal\(values=...\)") as said:
        made = report.Traversal(steps=(0.0, 1.0), **parts)
    assert said[0].filename == __file__
    assert made.values == (0.0, 1.0)
    with pytest.warns(DeprecationWarning, match=r"Traversal.steps is now Traversal.values") as said:
        assert made.steps == (0.0, 1.0)
    assert said[0].filename == __file__
    with pytest.raises(TypeError, match="steps"):
        report.Traversal(values=(0.0,), steps=(0.0,), **parts)
