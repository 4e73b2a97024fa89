"""Errors: one base, and four parts in every message."""

from __future__ import annotations

import pytest

from xlens import errors


def test_the_message_has_all_four_parts():
    error = errors.DataError("data: wrong", given=3, allowed="1 or 2", do="pass 1")
    assert str(error) == "data: wrong. Given: 3. Allowed: 1 or 2. What to do: pass 1."


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
