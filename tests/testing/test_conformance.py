"""Every backend that ships with xlens passes the kit that third parties use."""

import dataclasses
import subprocess
import sys
import textwrap
from typing import Any, Literal

import pytest
import torch
import toys
from ours import LAYERS, OPTIONS, OURS, VARIANTS

import xlens
from xlens.errors import OptionError
from xlens.registry.loading import load_backend
from xlens.testing import Candidate, CheckFailedError, check_backend, check_ids, parametrize_with_checks

#: Name -> check -> why this backend fails it.
EXPECTED = {
    "dif": {
        "meaning.codes_decode_to_what_was_encoded": "a bounded code of one separating dimension keeps 49% of the "
        "variance after 800 steps",
    },
    "infill": {
        "meaning.counterfactuals_flip_f": "it takes evidence away and adds none, and two thirds of the pairs of "
        "classes ask for a patch that is not there",
        "meaning.attributions_lie_on_the_cause": "the survey looks at windows of 12 pixels, wider than these "
        "pictures; the plugin's own tests ask this at 28 and 64 pixels",
    },
    "introvac": {
        "meaning.codes_decode_to_what_was_encoded": "trained on absolute errors, it leaves out much of a patch "
        "that is a ninth of the picture: 6% of the variance is explained after 400 steps, 8% after 1200",
    },
}


def candidates(name):
    cls = load_backend(name)
    few = {"steps": 8} if any(field.name == "steps" for field in dataclasses.fields(cls)) else {}
    small, learned = OPTIONS.get(name, (few, {}))
    expected = EXPECTED.get(name, {})
    yield Candidate(cls(**small), learned=cls(**learned), layer=LAYERS.get(name), expected_failures=expected)
    if name in VARIANTS:
        yield Candidate(cls(**small, **VARIANTS[name]), learned=cls(**learned), expected_failures=expected)


def test_the_backends_that_ship_with_xlens_are_found():
    assert "medxgan" in OURS


@parametrize_with_checks([candidate for name in OURS for candidate in candidates(name)])
def test_our_backends(check):
    check()


# --- the kit itself ------------------------------------------------------------------------------------------


@xlens.options
class Fleeting(toys.Toy):
    """The toy backend under a name of its own; passes what needs no fit and no capability."""

    name = "fleeting"
    capabilities = ()


def cheap(monkeypatch, *wanted):
    """Run only these checks, so that a test of the runner takes no fit."""
    from xlens.testing import run

    checks = tuple(check for check in run.all_checks() if check.id in wanted)
    monkeypatch.setattr(run, "all_checks", lambda: checks)


def test_results_name_every_check(monkeypatch):
    cheap(monkeypatch, "api.options_are_frozen", "api.options_have_help")
    results = check_backend(Fleeting())
    assert [(r.id, r.status) for r in results] == [
        ("api.options_are_frozen", "passed"),
        ("api.options_have_help", "passed"),
    ]


def broken():
    @xlens.options
    class Older(Fleeting):
        contract = 0

    return Older()


def test_a_failure_says_what_and_lists_all(monkeypatch):
    cheap(monkeypatch, "api.written_for_this_contract", "api.options_are_frozen")
    with pytest.raises(CheckFailedError, match="1 of 2 checks failed") as caught:
        check_backend(broken())
    assert "- api.written_for_this_contract: fleeting: written for another version" in str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, xlens.errors.XlensError)


def test_expected_failures_are_strict(monkeypatch):
    cheap(monkeypatch, "api.written_for_this_contract", "api.options_are_frozen")
    (first, _) = check_backend(broken(), expected_failures={"api.written_for_this_contract": "it is old"})
    assert (first.status, first.message) == ("expected failure", "it is old")
    with pytest.raises(CheckFailedError, match="passes, although a failure is expected"):
        check_backend(Fleeting(), expected_failures={"api.options_are_frozen": "they are not"})


def raising():
    @xlens.options
    class Raising(Fleeting):
        def fit(self, classifier, data, run):
            raise RuntimeError("not today")

    return Raising()


def test_a_check_that_never_ran_cannot_be_an_expected_failure(monkeypatch):
    cheap(monkeypatch, "manners.fits_a_lens", "manners.takes_any_iterable")
    with pytest.raises(CheckFailedError, match=r"(?s)2 of 2.*takes_any_iterable: a failure is expected, and it"):
        check_backend(raising(), expected_failures={"manners.takes_any_iterable": "it wants an order"})


@pytest.mark.parametrize("check", ["manners.fits_a_lens", "correctness.shapes_are_right"])
def test_what_everything_rests_on_cannot_be_an_expected_failure(check):
    with pytest.raises(OptionError, match=f"'{check}' cannot be expected to fail"):
        check_backend(raising(), expected_failures={check: "not today"})


def test_what_is_not_asked_cannot_be_an_expected_failure():
    expected = {"capabilities.inversion_starts_anew": "why"}
    message = "expected failure of what is not asked. Given: capabilities.inversion_starts_anew"
    with pytest.raises(OptionError, match=message):
        check_backend(Fleeting(), expected_failures=expected)
    with pytest.raises(OptionError, match=message):
        parametrize_with_checks([Candidate(Fleeting(), expected_failures=expected)])
    with pytest.raises(OptionError, match=message):
        parametrize_with_checks([Fleeting()], expected_failures=expected)


def test_what_needs_an_expected_failure_is_asked_all_the_same():
    from xlens.testing.bench import Bench
    from xlens.testing.checking import Check, CheckFailedError

    def fails(bench):
        raise CheckFailedError("it fails")

    first = Check("meaning.first", fails)
    second = Check("meaning.second", lambda bench: None, needs=(first,))
    assert Bench(Candidate(Fleeting())).result(second).status == "not checked"
    assert Bench(Candidate(Fleeting()), expected={"meaning.first"}).result(second).status == "passed"


def test_the_learned_lens_is_shared_between_equal_candidates_of_one_class_alone(monkeypatch):
    from xlens.testing import bench

    fitted = []
    monkeypatch.setattr(bench, "fit", lambda model, data, backend, **_: fitted.append(backend) or object())

    def mine():
        @xlens.options
        class Mine(Fleeting):
            pass

        return Mine

    one, other = mine(), mine()
    assert repr(one()) == repr(other())
    learned = {}
    benches = [bench.Bench(Candidate(cls(), shape=(1, 8, 8)), learned=learned) for cls in (one, one, other)]
    found = [each.learned for each in benches]
    assert [type(backend) for backend in fitted] == [one, other]
    assert found[0] is found[1] is not found[2]
    # In another run, what stands behind the options may be something else.
    assert bench.Bench(Candidate(one(), shape=(1, 8, 8))).learned is not found[0]


@pytest.mark.parametrize(
    ("hint", "default", "bounds"),
    [
        (float | None, None, {"lt": 0.5}),
        (float, 1, {"gt": 0, "le": 2.5}),
        (int | None, None, {"ge": 3}),
        (tuple[int, ...], (4, 8), {"ge": 1}),
        (tuple[float, ...], (0.5,), {"gt": 0, "lt": 1}),
        (Literal["a", "b"], "a", {}),
        (tuple[str, ...], (), {}),
        (Any, None, {}),
    ],
)
def test_options_of_any_type_pass(monkeypatch, hint, default, bounds):
    cheap(monkeypatch, "api.constraints_are_enforced")

    @xlens.options
    class Own(Fleeting):
        value: hint = xlens.param(default, help="a value", **bounds)

    (result,) = check_backend(Own())
    assert result.status == "passed"

    class Lenient(Own):
        def __init__(self, **values):
            object.__setattr__(self, "value", None)

    with pytest.raises(CheckFailedError, match="does not raise OptionError"):
        check_backend(Lenient())


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"api.options_are_frozn": "why"}, "'api.options_are_frozn'. Did you mean 'api.options_are_frozen'"),
        ({"api.options_are_frozen": " "}, "has no reason"),
    ],
)
def test_expected_failures_are_checked(expected, message):
    with pytest.raises(OptionError, match=message):
        check_backend(Fleeting(), expected_failures=expected)
    with pytest.raises(OptionError, match=message):
        parametrize_with_checks([Fleeting()], expected_failures=expected)


@pytest.mark.parametrize("given", [Fleeting, "fleeting", None])
def test_only_instances_are_checked(given):
    with pytest.raises(OptionError, match="backend is no backend"):
        check_backend(given)


@pytest.mark.parametrize("shape", [(1, 4, 4), (4, 4), (7,)])
def test_there_is_no_world_without_room(shape):
    from xlens.testing.world import World

    with pytest.raises(OptionError, match="no toy world of this shape"):
        World.of(shape)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 10), (24,), (3, 16, 12)])
def test_the_classifier_of_each_world_is_right(shape):
    from xlens.testing.world import World, patch_of, pictures

    world = World.of(shape)
    inputs, labels = pictures(99, seed=11, shape=shape)
    with torch.no_grad():
        predicted = world.model().eval()(inputs).argmax(1)
    assert (predicted == labels).float().mean() >= 0.95
    assert not patch_of(inputs[labels == 0]).any()
    assert patch_of(inputs[labels != 0]).flatten(1).any(1).all()


def test_capabilities_that_are_not_declared_are_not_asked():
    asked = set(check_ids(toys.Toy()))
    assert "capabilities.samples_are_reproducible" in asked
    assert "capabilities.inversion_starts_anew" not in asked


def test_under_pytest_each_check_is_a_test(tmp_path):
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import xlens
            from xlens.testing import parametrize_with_checks, run

            run.all_checks = lambda kept=run.all_checks(): [c for c in kept if c.id in (
                "api.written_for_this_contract", "api.options_are_frozen", "api.options_have_help",
                "manners.fits_a_lens", "manners.reports_its_steps")]

            @xlens.options
            class Mine(xlens.Backend):
                name = "mine"
                contract = 0
                def fit(self, classifier, data, run): raise RuntimeError("not today")
                def build(self, classifier, spec): raise NotImplementedError

            @parametrize_with_checks([Mine()], expected_failures={
                "api.written_for_this_contract": "it is old", "api.options_are_frozen": "a mistake"})
            def test_mine(check):
                check()
            """
        )
    )
    command = [sys.executable, "-m", "pytest", "-v", "-rsx", "-p", "no:cacheprovider", "test_it.py"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert "test_mine[mine-api.written_for_this_contract] XFAIL" in shown
    assert "test_mine[mine-api.options_are_frozen] FAILED" in shown
    assert "XPASS(strict)" in shown
    assert "test_mine[mine-api.options_have_help] PASSED" in shown
    assert "test_mine[mine-manners.fits_a_lens] FAILED" in shown
    assert "RuntimeError: not today" in shown
    assert "needs manners.fits_a_lens, which is: failed" in shown


def test_the_kit_needs_no_pytest(programs, tmp_path):
    code = textwrap.dedent(
        """
        import sys
        sys.modules["pytest"] = None
        import xlens.testing
        from xlens.registry.loading import load_backend
        print(len(xlens.testing.check_ids(load_backend("medxgan")())))
        """
    )
    done = programs(cwd=tmp_path, code=code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30
