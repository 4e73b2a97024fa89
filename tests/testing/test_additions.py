"""What third parties add beside backends: used by name, checked by the kit, and what is wrong is said."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import types

import pytest
import torch
import toys

import xlens
from xlens.contracts import (
    ADDITIONS,
    AttributionMethod,
    Carrier,
    MapMetric,
    PathMethod,
    ReportPart,
)
from xlens.errors import BackendConflictError, BackendNotFoundError, OptionError, PluginError
from xlens.registry import adding, additions, load_addition
from xlens.testing import CheckFailedError, check_addition


@xlens.options
class Slope(AttributionMethod):
    """The gradient at the input times the change, to a power."""

    name = "slope"
    power: int = xlens.param(1, ge=1, le=3, help="of the map")

    def attribute(self, asked):
        x = asked.inputs.detach().requires_grad_()
        score = asked.score(x, torch.arange(len(x), device=x.device))
        (gradient,) = torch.autograd.grad(score.sum(), x)
        return (gradient * (asked.inputs - asked.counterfactuals)) ** self.power


@xlens.options
class Along(AttributionMethod):
    """The line integral in sixty-four chords."""

    name = "along"
    complete = True

    def attribute(self, asked):
        rows = torch.arange(len(asked.inputs))
        total = torch.zeros_like(asked.inputs)
        for k in range(64):
            low, high, at = (torch.full((len(rows),), (k + part) / 64) for part in (0, 1, 0.5))
            middle = asked.curve(rows, at).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(asked.score(middle, rows).sum(), middle)
            total += gradient * (asked.curve(rows, high) - asked.curve(rows, low))
        return total


@xlens.options
class Detour(PathMethod):
    """By way of a code beside the straight line."""

    name = "detour"

    def codes(self, start, end, decode, score):
        return torch.stack([start, 0.7 * start + 0.2 * end, end], 1)


@xlens.options
class Inside(MapMetric):
    """Share of a map's magnitude where the cause is."""

    name = "inside"
    better = "higher"

    def measure(self, asked):
        size = asked.maps.abs()
        where = torch.ones_like(size) if asked.masks is None else asked.masks.to(size)
        return (size * where).flatten(1).sum(1) / size.flatten(1).sum(1).clamp_min(1e-12)


@xlens.options
class Half(Carrier):
    """Half of the lens's change."""

    name = "half"

    def carry(self, inputs, reconstruction, decoded, alphas):
        return inputs + 0.5 * (decoded - reconstruction)


@xlens.options
class Margins(ReportPart):
    """The score before and after."""

    name = "margins"
    title = "Scores <before> & after"

    def lines(self, explanation):
        return [f"{float(explanation.scores):.2f} <to>", f"{float(explanation.counterfactual_scores):.2f}"]


GOOD = (Slope, Along, Detour, Inside, Half, Margins)


@pytest.mark.parametrize("addition", GOOD, ids=lambda one: one.name)
def test_the_kit_passes_what_is_right(addition):
    results = check_addition(addition)
    assert len(results) >= 2
    assert {result.status for result in results} == {"passed"}


def broken(base, **changes):
    return type(base.__name__, (base,), {"__doc__": "Broken.", **changes})


def _noisy(self, asked):
    return torch.rand_like(asked.inputs)


def _over_the_batch(self, asked):
    return asked.inputs - asked.inputs.mean(0)


def _constant(self, asked):
    return torch.ones_like(asked.inputs)


BROKEN = [
    (broken(Slope, name="lig"), "means something else already"),
    (broken(Slope, name="no good"), "cannot be an entry point"),
    (broken(Slope, contract=2), "another version of xlens's contract"),
    (broken(Slope, __doc__=""), "no docstring"),
    (broken(Slope, attribute=lambda self, asked: asked.inputs[:, :1]), "are no maps"),
    (broken(Slope, attribute=lambda self, asked: asked.inputs / 0), "no maps"),
    (broken(Slope, attribute=_noisy), "than in its batch"),
    (broken(Slope, attribute=_over_the_batch), "than in its batch"),
    (broken(Slope, complete=True, attribute=_constant), "miss the sum"),
    (broken(Detour, codes=lambda self, a, b, *_: torch.stack([a, b], 1)[:, :1]), "is no path"),
    (broken(Detour, codes=lambda self, a, b, *_: torch.stack([b, a], 1)), "begin and end"),
    (broken(Inside, measure=lambda self, asked: asked.maps.abs().sum()), "a finite number for each map"),
    (broken(Inside, measure=lambda self, asked: asked.maps.flatten(1).sum(1) / asked.maps.std()), "than in its"),
    (broken(Inside, better="up"), "better is wrong"),
    (broken(Half, carry=lambda self, x, rebuilt, decoded, a: decoded), "at the end of the way"),
    (broken(Half, carry=lambda self, x, rebuilt, decoded, a: x), "carries nothing"),
    (broken(Margins, lines=lambda self, one: "one line"), "lines of text"),
    (broken(Margins, title=""), "no title"),
]


@pytest.mark.parametrize(("addition", "message"), BROKEN, ids=range(len(BROKEN)))
def test_the_kit_says_what_is_wrong(addition, message):
    with pytest.raises(CheckFailedError, match=message):
        check_addition(addition)


def test_only_additions_are_checked():
    with pytest.raises(OptionError, match="this is no addition"):
        check_addition(toys.Toy)


def test_each_is_used_by_name(fitted, images, tmp_path):
    with adding(*GOOD):
        found = fitted.explain(
            images[:3], attributions={"lig": {}, "slope": {"power": 2}, "along": {}}, path="detour", carry="half"
        )
        x, start = found.inputs, found.counterfactual
        assert torch.allclose(start, (x + 0.5 * (found.edit * 2)).clamp(-4, 4), atol=1e-5)
        assert (found.attributions["slope"] >= 0).all()
        assert set(found.convergence_delta) == {"lig", "along"}
        assert torch.allclose(found.attributions["along"], found.attributions["lig"], atol=0.3)
        found.save_html(tmp_path / "page.html", parts=("margins",), names=["a", "b", "c"])
        page = (tmp_path / "page.html").read_text()
        assert "Scores &lt;before&gt; &amp; after" in page
        assert f"{float(found.scores[1]):.2f} &lt;to&gt;" in page
        inputs = images[toys.patch_of(images).flatten(1).any(1)][:12]
        table = xlens.evaluate(
            fitted, inputs, methods=("slope", "along", "random"), metrics=("inside",),
            masks=toys.patch_of(inputs), progress=False,
        )  # fmt: skip
        assert table.get("inside", "toy: along").value > table.get("inside", "random").value
        assert table.get("inside", "toy: slope").better == "higher"
        assert fitted.counterfactual(images[:2], carry="half").shape == images[:2].shape


def test_what_is_asked_wrongly_is_said_at_once(fitted, images, tmp_path):
    with adding(*GOOD):
        with pytest.raises(OptionError, match="'slope'.*power.*<= 3.*unknown attribution 'slopes'.*Did you mean"):
            fitted.explain(images[:1], attributions={"slope": {"power": 9}, "slopes": {}})
        with pytest.raises(OptionError, match="path must be one of .*detour, got 'tour'"):
            fitted.explain(images[:1], path="tour")
        with pytest.raises(OptionError, match="unknown metric 'insides'.*Did you mean 'inside'"):
            xlens.evaluate(fitted, images[:2], metrics=("insides",), progress=False)
        found = fitted.explain(images[:1])
        with pytest.raises(OptionError, match="there is no part 'margin'.*Did you mean 'margins'"):
            found.save_html(tmp_path / "page.html", parts=("margin",))
    with pytest.raises(OptionError, match="unknown attribution 'slope'"):
        fitted.explain(images[:1], attributions=("slope",))


@pytest.fixture
def installed(monkeypatch):
    """Modules with hooks under entry points, as installed distributions bring them."""

    def install(*claims):
        points = []
        for group, name, hooks in claims:
            module = types.ModuleType(f"made_{name}_{len(points)}")
            for hook, value in hooks.items():
                function = eval("lambda: value", {"value": value})  # noqa: S307 - a hook without arguments
                function.__name__ = hook
                setattr(module, hook, xlens.hookimpl(function))
            monkeypatch.setitem(sys.modules, module.__name__, module)
            points.append(importlib.metadata.EntryPoint(name, module.__name__, group))
        monkeypatch.setattr(importlib.import_module("xlens.registry.installed"), "entry_points", lambda: points)

    return install


def test_they_are_found_through_entry_points(installed, fitted, images):
    pairs = list(zip(ADDITIONS, (Slope, Detour, Inside, Half, Margins), strict=True))
    installed(*((f"xlens.{kind}", one.name, {f"xlens_{kind}": one}) for kind, one in pairs))
    for kind, one in pairs:
        assert additions(kind) == (one.name,)
        assert load_addition(ADDITIONS[kind], one.name) is one
    found = fitted.explain(images[:2], attributions=("slope",), path="detour", carry="half")
    assert found.attributions["slope"].shape == images[:2].shape
    assert not xlens.backends()


def test_what_breaks_the_contract_is_named(installed):
    installed(
        ("xlens.attribution", "slope", {"xlens_attribution": Half}),
        ("xlens.path", "other", {"xlens_path": Detour}),
        ("xlens.metric", "inside", {"xlens_metric": MapMetric}),
        ("xlens.carrier", "half", {"xlens_carrier": Half}),
        ("xlens.carrier", "half", {"xlens_carrier": Half}),
        ("xlens.report_part", "margins", {}),
    )
    for base, name, error, message in (
        (AttributionMethod, "slope", PluginError, "brings no attribution"),
        (PathMethod, "other", PluginError, "another name"),
        (MapMetric, "inside", PluginError, "another name"),
        (Carrier, "half", BackendConflictError, "claimed twice"),
        (ReportPart, "margins", PluginError, "0 implementations"),
        (Carrier, "halves", BackendNotFoundError, "Did you mean 'half'"),
    ):
        with pytest.raises(error, match=message):
            load_addition(base, name)
