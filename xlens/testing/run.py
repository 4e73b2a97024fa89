"""Running the checks: all at once, or each as a test under pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from xlens.contracts.backend import Backend
from xlens.errors import OptionError, did_you_mean
from xlens.testing.bench import Bench, Learned
from xlens.testing.candidate import Candidate, as_candidate
from xlens.testing.checking import Check, CheckFailedError, Result, all_checks

__all__ = ["check_backend", "check_ids", "parametrize_with_checks"]


def check_ids(backend: Backend) -> tuple[str, ...]:
    """Return the ids of the checks that this backend is asked.

    >>> from xlens.registry.loading import load_backend
    >>> from xlens.testing import check_ids
    >>> check_ids(load_backend("medxgan")())[0]
    'api.name_is_the_entry_point'
    """
    return tuple(check.id for check in all_checks() if check.applies(backend))


def check_backend(
    backend: Backend | Candidate, *, expected_failures: Mapping[str, str] | None = None
) -> tuple[Result, ...]:
    """Run every check on a backend; needs no pytest.

    Args:
        backend: an instance that fits quickly, or a :class:`Candidate` that says more.
        expected_failures: id of a check -> why this backend fails it.

    Returns:
        what came of each check.

    Raises:
        CheckFailedError: one or more checks failed, or passed against expectation; names all of them.
        OptionError: no backend, or an expected failure of an unknown check, of one that this backend is not asked,
            or of one that everything else rests on.

    >>> from xlens.testing import check_backend
    >>> check_backend("medxgan")
    Traceback (most recent call last):
    ...
    xlens.errors.OptionError: xlens.testing: backend is no backend. Given: 'medxgan'. Allowed: an instance...
    """
    candidate = as_candidate(backend)
    expected = _expected(candidate, expected_failures)
    _refuse_idle([candidate.backend], expected)
    bench = Bench(candidate, expected=expected)
    results = tuple(
        _judged(bench.result(check), expected) for check in all_checks() if check.applies(candidate.backend)
    )
    failed = [result for result in results if result.status == "failed"]
    if failed:
        listing = "".join(f"\n- {result.id}: {result.message}" for result in failed)
        raise CheckFailedError(
            f"{candidate.backend.name}: {len(failed)} of {len(results)} checks failed:{listing}\n"
        )
    return results


def parametrize_with_checks(
    backends: Iterable[Backend | Candidate], *, expected_failures: Mapping[str, str] | None = None
) -> Callable[..., Any]:
    """Return a decorator that makes each check of each backend a test under pytest.

    The test takes one argument, ``check``, and calls it. What says nothing of a backend is skipped with its
    reason; expected failures are strict.

    Args:
        backends: instances that fit quickly, or candidates that say more.
        expected_failures: id of a check -> why these backends fail it.

    Raises:
        OptionError: no backend, or an expected failure of an unknown check, of one that this backend is not asked,
            or of one that everything else rests on.

    >>> from xlens.registry.loading import load_backend
    >>> from xlens.testing import parametrize_with_checks
    >>> @parametrize_with_checks([load_backend("medxgan")(steps=20)])
    ... def test_my_backend(check):
    ...     check()
    """
    import pytest

    cases = []
    learned: Learned = {}
    candidates = [as_candidate(backend) for backend in backends]
    _refuse_idle([candidate.backend for candidate in candidates], expected_failures or {})
    for candidate in candidates:
        expected = _expected(candidate, expected_failures)
        _refuse_idle([candidate.backend], candidate.expected_failures)
        bench = Bench(candidate, expected=expected, learned=learned)
        for one in all_checks():
            if not one.applies(candidate.backend):
                continue
            marks = []
            if one.id in expected:
                marks = [pytest.mark.xfail(reason=expected[one.id], raises=CheckFailedError, strict=True)]
            case = _Case(bench, one, expected=one.id in expected)
            cases.append(pytest.param(case, id=f"{candidate.backend.name}-{one.id}", marks=marks))
    return pytest.mark.parametrize("check", cases)


class _Case:
    """One check of one backend, as a test calls it."""

    def __init__(self, bench: Bench, check: Check, *, expected: bool) -> None:
        self._bench, self._check, self._expected = bench, check, expected

    def __repr__(self) -> str:
        return f"{self._bench.backend.name}-{self._check.id}"

    def __call__(self) -> None:
        import pytest

        result = self._bench.result(self._check)
        if result.status == "not checked" and self._expected:
            # No skip, and no CheckFailedError, which the mark would take for the expected failure.
            pytest.fail(_idle(result.message))
        if result.status == "not checked":
            pytest.skip(result.message)
        if result.status == "failed":
            raise CheckFailedError(result.message)


def _expected(candidate: Candidate, more: Mapping[str, str] | None) -> dict[str, str]:
    expected = {**candidate.expected_failures, **(more or {})}
    known = [check.id for check in all_checks()]
    essential = [check.id for check in all_checks() if check.essential]
    for name, reason in expected.items():
        if name in essential:
            raise OptionError(
                f"xlens.testing: {name!r} cannot be expected to fail",
                do="mend it: without it nothing else can be checked",
            )
        if name not in known:
            raise OptionError(
                f"xlens.testing: there is no check {name!r}.{did_you_mean(name, known)}", allowed=", ".join(known)
            )
        if not isinstance(reason, str) or not reason.strip():
            raise OptionError(
                f"xlens.testing: the expected failure of {name!r} has no reason",
                given=repr(reason),
                do="say why this backend fails it; readers of your tests will ask",
            )
    return expected


def _refuse_idle(backends: Sequence[Backend], expected: Mapping[str, str]) -> None:
    """Refuse expected failures of what none of these backends is asked."""
    asked = {check.id for check in all_checks() if any(check.applies(backend) for backend in backends)}
    idle = [name for name in expected if name not in asked and name in {check.id for check in all_checks()}]
    if idle:
        raise OptionError(
            "xlens.testing: an expected failure of what is not asked",
            given=f"{', '.join(idle)}, of a capability that no backend here declares",
            do="remove the entry, or declare the capability",
        )


def _idle(reason: str) -> str:
    return f"a failure is expected, and it was not checked: {reason}. What to do: remove the entry"


def _judged(result: Result, expected: Mapping[str, str]) -> Result:
    if result.id not in expected:
        return result
    if result.status == "not checked":
        return Result(result.id, "failed", _idle(result.message))
    if result.status == "failed":
        return Result(result.id, "expected failure", expected[result.id])
    return Result(result.id, "failed", f"passes, although a failure is expected ({expected[result.id]})")
