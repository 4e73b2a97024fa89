"""Options: constraints, all faults in one error, spelling suggestions."""

from __future__ import annotations

import dataclasses
import json
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlens.contracts.options import Constraint, make, options, param, to_dict
from xlens.errors import OptionError


@options
class Knobs:
    steps: int = param(10, ge=1, le=100, help="steps")
    rate: float = param(0.1, gt=0, lt=1, help="rate")
    mode: str = param("fast", choices=("fast", "slow"), help="mode")
    widths: tuple = param((8, 16), help="widths")
    limit: int | None = param(None, ge=0, help="limit")
    flag: bool = param(False, help="flag")
    kind: Literal["a", "b"] = param("a", help="kind")
    sizes: tuple[int, ...] = param((8, 16), ge=1, help="sizes")
    pair: tuple[int, str] | None = param(None, help="pair")
    share: float | None = param(None, lt=0.5, help="share")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 101},
        {"steps": 2.0},
        {"steps": True},
        {"steps": "3"},
        {"steps": None},
        {"rate": 0.0},
        {"rate": 1},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"mode": "Fast"},
        {"widths": 3},
        {"limit": -1},
        {"flag": 1},
        {"flag": None},
        {"kind": "zzz"},
        {"kind": None},
        {"sizes": ("x", None)},
        {"sizes": (1, 2.5)},
        {"sizes": (True,)},
        {"sizes": (4, 0)},
        {"sizes": 4},
        {"pair": (1,)},
        {"pair": (1, 2)},
        {"share": 0.5},
        {"share": "x"},
        {"share": float("nan")},
    ],
)
def test_a_value_outside_its_constraint_is_named(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(OptionError, match=rf"^Knobs: 1 option is wrong: {name} must be .*, got ") as caught:
        Knobs(**wrong)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "right",
    [
        {"steps": 1},
        {"steps": 100},
        {"limit": None},
        {"limit": 0},
        {"rate": 0.999},
        {"kind": "b"},
        {"sizes": ()},
        {"sizes": (1, 100)},
        {"pair": (1, "x")},
        {"share": -3},
    ],
)
def test_values_on_an_inclusive_bound_pass(right):
    ((name, value),) = right.items()
    assert getattr(Knobs(**right), name) == value


def test_all_faults_are_in_one_error():
    with pytest.raises(OptionError) as caught:
        Knobs(steps=0, rate=2.0, mood="fast", mode="quick")
    text = str(caught.value)
    assert "4 options are wrong" in text
    assert all(part in text for part in ("steps must be", "rate must be", "mode must be", "Did you mean 'mode'?"))


def test_allowed_values_are_in_the_message():
    with pytest.raises(OptionError, match="an int >= 1 and <= 100, got 0"):
        Knobs(steps=0)
    with pytest.raises(OptionError, match="one of 'fast', 'slow'"):
        Knobs(mode="x")
    with pytest.raises(OptionError, match="or None"):
        Knobs(limit=-1)
    with pytest.raises(OptionError, match="kind must be one of 'a', 'b', got 'c'"):
        Knobs(kind="c")
    with pytest.raises(OptionError, match="sizes must be a tuple, each value an int >= 1, got"):
        Knobs(sizes=(0,))


def test_positional_options_are_refused():
    with pytest.raises(OptionError, match="by keyword, got 1 positional"):
        Knobs(3)


def test_make_suggests_names_of_the_caller_too():
    with pytest.raises(OptionError, match="Did you mean 'progress'"):
        make(Knobs, {"progres": True}, extra=("progress",))


def test_instances_are_frozen_and_compare_by_value():
    knobs = Knobs(steps=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        knobs.steps = 4
    assert knobs == Knobs(steps=3)
    assert knobs != Knobs(steps=4)


def test_every_option_needs_a_default():
    with pytest.raises(TypeError, match="every option needs a default"):

        @options
        class Bare:
            steps: int


@given(st.integers(1, 100), st.floats(0.001, 0.999), st.lists(st.integers(), max_size=4))
def test_options_survive_json(steps, rate, widths):
    knobs = Knobs(steps=steps, rate=rate, widths=tuple(widths))
    assert make(Knobs, json.loads(json.dumps(to_dict(knobs)))) == knobs


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(-5, 5))
def test_bounds_mean_what_they_say(value, low, high):
    assert Constraint(ge=low, le=high).allows(value) == (low <= value <= high)
    assert Constraint(gt=low, lt=high).allows(value) == (low < value < high)
