"""Errors: one base, and four parts in every message."""

from __future__ import annotations

import copy
import inspect
import warnings
from pathlib import Path

import pytest
import torch
import toys

import xlens
from xlens import errors, plot
from xlens.errors import XlensError


def test_the_message_has_all_four_parts():
    error = errors.DataError("data: wrong", given=3, allowed="1 or 2", do="pass 1")
    assert str(error) == "data: wrong. Given: 3. Allowed: 1 or 2. What to do: pass 1."


def test_half_characters_can_be_printed():
    assert "\\udcff" in str(XlensError("load: no lens", given="a\udcff")).encode().decode()


def test_absent_parts_and_double_full_stops_are_left_out():
    assert str(errors.XlensError("fit: wrong.", do="try again!")) == "fit: wrong. What to do: try again!"


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n.endswith("Error")])
def test_every_error_has_the_common_base(name):
    assert issubclass(getattr(errors, name), errors.XlensError)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [("OptionError", ValueError), ("DataError", ValueError), ("BackendNotFoundError", LookupError)],
)
def test_errors_are_what_a_caller_would_catch(name, builtin):
    assert issubclass(getattr(errors, name), builtin)


def test_the_warning_can_be_filtered_as_a_user_warning():
    assert issubclass(errors.UntrustworthyWarning, errors.XlensWarning)
    assert issubclass(errors.XlensWarning, UserWarning)


@pytest.mark.parametrize(("word", "hint"), [("seeed", " Did you mean 'seed'?"), ("xyz", "")])
def test_suggestions(word, hint):
    assert errors.did_you_mean(word, ["seed", "epochs"]) == hint


def warned(ask):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ask()
    return [(Path(one.filename), one.lineno) for one in said if issubclass(one.category, errors.XlensWarning)]


def here():
    """Return the line that asks for it."""
    return inspect.currentframe().f_back.f_lineno


def test_a_warning_points_at_the_line_that_called_xlens(fitted, images):
    stuck = toys.explainer_with(toys.StuckLens(), fitted)
    lines = []

    def ask():
        lines.append(here() + 1)
        stuck.explain(images[:2], attributions=())

    assert warned(ask) == [(Path(__file__), lines[0])]


def test_a_warning_from_within_contexts_points_there_too(fitted, images, tmp_path):
    """Frozen, seeded, and in several files of xlens's own, through contextlib's."""
    model = copy.deepcopy(fitted.classifier.model)
    explainer = xlens.LensExplainer(fitted.fitted.around(fitted.classifier.around(model)))
    with torch.no_grad():
        model.head.weight.mul_(1.01)
    asks = {
        "counterfactual": lambda: explainer.counterfactual(images[:1]),
        "traverse": lambda: explainer.traverse(images[:1], "bright", [0.0]),
        "save": lambda: explainer.save(tmp_path / "lens"),
        "traversal": lambda: plot.traversal(explainer, images[:1], "bright", [0.0]),
    }
    for name, ask in asks.items():
        places = warned(ask)
        assert places, name
        assert {path for path, _ in places} == {Path(__file__)}, name
        assert {line for _, line in places} == {ask.__code__.co_firstlineno}, name


def test_a_warning_without_a_caller_of_the_users_is_given_all_the_same(programs, tmp_path):
    code = "import warnings; from xlens.errors import warn; warn('so it is')"
    done = programs(cwd=tmp_path, code=code)
    assert done.returncode == 0
    assert done.stderr.startswith(b"<string>:1: XlensWarning: so it is")
