"""Options: constraints, all faults in one error, spelling suggestions."""

from __future__ import annotations

import dataclasses
import json
from typing import Literal

import numpy as np
import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

import xlens
from xlens.contracts.numbers import check_seed, is_count, is_number
from xlens.contracts.options import Constraint, fits, make, options, param, to_dict
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


# --- NumPy's numbers --------------------------------------------------------------------------------


@given(
    steps=st.integers(1, 100),
    rate=st.floats(0.0625, 0.875, width=32),
    flag=st.booleans(),
    kinds=st.tuples(
        st.sampled_from([np.int8, np.int32, np.int64, np.uint8, np.uint64]),
        st.sampled_from([np.float32, np.float64]),
    ),
)
def test_numpys_numbers_are_taken_as_pythons(steps, rate, flag, kinds):
    whole, real = kinds
    given_so = {
        "steps": whole(steps), "rate": real(rate), "flag": np.bool_(flag), "mode": np.str_("slow"),
        "limit": whole(steps), "sizes": (whole(steps), 3), "pair": (whole(steps), np.str_("x")),
    }  # fmt: skip
    plain = {
        "steps": steps, "rate": float(real(rate)), "flag": flag, "mode": "slow", "limit": steps,
        "sizes": (steps, 3), "pair": (steps, "x"),
    }  # fmt: skip
    for made in (Knobs(**given_so), make(Knobs, given_so)):
        assert made == Knobs(**plain)
        assert json.loads(json.dumps(to_dict(made))) == json.loads(json.dumps(to_dict(Knobs(**plain))))
        parts = [part for value in vars(made).values() for part in (value if type(value) is tuple else (value,))]
        assert {type(part) for part in parts} <= {int, float, str, bool, type(None)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": np.int64(0)},
        {"steps": np.float64(3)},
        {"steps": np.bool_(True)},
        {"steps": np.array([3])},
        {"rate": np.float32("nan")},
        {"rate": np.float64(2)},
        {"rate": 10**400},
        {"flag": np.int64(1)},
        {"mode": np.str_("slwo")},
    ],
    ids=str,
)
def test_numpys_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(OptionError):
        Knobs(**wrong)


SEEDS = [
    np.int64(3),
    np.uint8(3),
    np.array(3)[()],
    torch.tensor(3).numpy()[()],
    np.random.default_rng(0).integers(9),
]


@pytest.mark.parametrize("seed", SEEDS)
def test_numpys_seeds(seed):
    found = check_seed(seed)
    assert type(found) is int
    assert found == int(seed)


@pytest.mark.parametrize(
    "seed", [np.int64(-1), np.float64(3), np.bool_(True), True, 3.0, "3", None, 2**63, np.array([3])]
)
def test_what_is_no_seed(seed):
    with pytest.raises(OptionError, match="seed must be an int >= 0"):
        check_seed(seed)


def test_half_characters_are_no_option_because_no_file_takes_them():
    assert fits(("a", "\U0001f600"), tuple[str, ...])
    assert not fits(("a", "\udcff"), tuple[str, ...])


def test_counts_and_numbers():
    assert is_count(np.int32(1))
    assert not any(map(is_count, (np.int32(0), np.float32(1), np.bool_(True))))
    assert all(map(is_number, (np.float32(0.5), np.int8(3), 2)))
    assert not any(map(is_number, (np.float32("inf"), True, np.bool_(True), "1", None, 10**400)))


@pytest.mark.usefixtures("toy_installed")
def test_a_fit_and_its_questions_take_numpys_numbers(trained, images, tmp_path):
    """Also a seed so large that its arithmetic would overflow."""
    seed = np.int64(2**62)
    mask = dataclasses.replace(toys.SHORT_MASK, steps=np.int64(3), pool=np.int32(64))
    options = {"strength": np.float32(0.5), "mask": mask}
    explainer = xlens.fit(trained, images, "toy", seed=seed, progress=np.bool_(False), **options)
    plain = xlens.fit(trained, images, "toy", seed=2**62, progress=False, strength=0.5, mask=toys.SHORT_MASK)
    whole = {"n_steps": np.int64(4), "internal_batch_size": np.int32(2), "tolerance": np.float32(0.5)}
    found = explainer.explain(images[:2], target=np.int64(1), contrast=np.int64(0), **whole)
    expected = plain.explain(
        images[:2], target=1, contrast=0, n_steps=4, internal_batch_size=2, tolerance=float(np.float32(0.5))
    )
    assert torch.equal(found.counterfactual, expected.counterfactual)
    assert torch.equal(found.attributions["lig"], expected.attributions["lig"])
    assert torch.equal(explainer.sample(np.int64(2), 1, seed=np.int64(3)), plain.sample(2, 1, seed=3))
    explainer.save(tmp_path)
    assert xlens.load(tmp_path, trained).backend == explainer.backend
    small = {"n": np.int64(6), "steps": np.int32(4), "share": np.float32(0.25), "seed": np.uint8(3)}
    tables = [
        xlens.evaluate(one, images[:20], methods=("lig", "random"), progress=False, **numbers).records()
        for one, numbers in ((explainer, small), (plain, {key: value.item() for key, value in small.items()}))
    ]
    assert str(tables[0]) == str(tables[1])
