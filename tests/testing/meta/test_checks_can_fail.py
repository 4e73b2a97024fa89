"""Every check can fail, says why, and catches what the others do not."""

import dataclasses
import functools

import broken_backends
import broken_capabilities
import broken_edits
import broken_lenses
import pytest
from broken import BROKEN, SHAPE
from exemplary import Exemplary
from exemplary_edits import ExemplaryEdits
from exemplary_values import ExemplaryValues

import xlens
from xlens.testing import Candidate
from xlens.testing.bench import Bench
from xlens.testing.checking import all_checks

# They register themselves.
MODULES = (broken_backends, broken_lenses, broken_capabilities, broken_edits)


#: What has learned the toy world as it should, for the many that are broken elsewhere.
LEARNED = {}
#: The mask is fitted in few steps.
MASK = xlens.MaskOptions(steps=60)


def outcomes(candidate):
    candidate = dataclasses.replace(candidate, mask=MASK)
    bench = Bench(candidate, learned=LEARNED if type(candidate.learned) is Exemplary else None)
    return {check.id: bench.result(check) for check in all_checks() if check.applies(candidate.backend)}


@functools.cache
def exemplary_outcomes():
    return outcomes(Candidate(Exemplary(), learned=Exemplary(), shape=SHAPE))


def test_the_exemplary_backend_passes_every_check():
    assert {result.status for result in exemplary_outcomes().values()} == {"passed"}
    asked = [check.id for check in all_checks() if check.applies(Exemplary())]
    assert list(exemplary_outcomes()) == asked


def test_the_exemplary_backend_that_edits_passes_every_check():
    found = outcomes(Candidate(ExemplaryEdits(), shape=SHAPE))
    silent = [name for name, result in found.items() if result.status != "passed"]
    assert silent == ["meaning.features_are_of_their_class"], [found[name].message for name in silent]
    everywhere = {check.id for check in all_checks() if check.applies(ExemplaryValues())}
    assert {*found, *exemplary_outcomes(), *everywhere} == {check.id for check in all_checks()}


def test_the_exemplary_backend_of_any_values_is_fitted_on_a_layer():
    bench = Bench(Candidate(ExemplaryValues(), shape=SHAPE))
    asked = [check for check in all_checks() if check.capability == "representations"]
    assert [bench.result(check).status for check in asked] == ["passed"]


def test_there_is_a_broken_backend_for_every_check():
    assert {check for check, _ in BROKEN} == {check.id for check in all_checks()}


@pytest.mark.parametrize(("check", "make"), BROKEN, ids=[f"{check}-{make.__name__}" for check, make in BROKEN])
def test_a_broken_backend_is_caught_by_its_check_alone(check, make):
    found = outcomes(make())
    failed = {name: result.message for name, result in found.items() if result.status == "failed"}
    assert list(failed) == [check], failed
    # Who, and what was found or what to do about it.
    assert "exemplary" in failed[check] or "Broken" in failed[check]
    assert "Given: " in failed[check] or "What to do: " in failed[check]
