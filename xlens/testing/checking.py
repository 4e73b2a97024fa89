"""What a check is: a small function with an id, which says what is wrong, what was given and what to do."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from xlens.contracts.backend import Backend
from xlens.errors import XlensError

__all__ = ["Check", "CheckFailedError", "NotCheckedError", "Result", "all_checks", "check", "require", "same"]

#: Module of checks -> group, in the order in which they run.
_GROUPS = {
    "api": "api",
    "manners": "manners",
    "interruption": "manners",
    "correctness": "correctness",
    "devices": "correctness",
    "meaning": "meaning",
    "capabilities": "capabilities",
    "drawing": "capabilities",
    "distances": "capabilities",
    "extras": "capabilities",
    "teaching": "capabilities",
    "edits": "capabilities",
    "speed": "speed",
}

Status = Literal["passed", "failed", "expected failure", "not checked"]


class CheckFailedError(XlensError, AssertionError):
    """A backend breaks the contract."""


class NotCheckedError(XlensError):
    """A check says nothing of this backend, because of its kind or because of an earlier failure."""


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Args:
        id: ``group.name`` of the check.
        status: ``"passed"``, ``"failed"``, ``"expected failure"`` or ``"not checked"``.
        message: why, where it did not pass.
    """

    id: str
    status: Status
    message: str = ""


@dataclass(frozen=True)
class Check:
    """One question to a backend.

    Args:
        id: ``group.name``.
        function: asks it; raises CheckFailedError, or NotCheckedError.
        needs: checks that have to hold before this one says anything of its own.
        capability: asked only of backends that declare this.
        decoding: asked only of backends whose lens decodes codes, and not of those that declare ``"edits"``.
        essential: whether nothing else can be asked where it fails, so that no failure of it can be expected.
    """

    id: str
    function: Callable[[Any], None]
    needs: tuple[Check, ...] = ()
    capability: str | None = None
    decoding: bool = False
    essential: bool = False

    def applies(self, backend: Backend) -> bool:
        """Whether this backend is asked."""
        if self.decoding and "edits" in backend.capabilities:
            return False
        return self.capability is None or self.capability in backend.capabilities


def check(
    *,
    needs: tuple[Check, ...] = (),
    capability: str | None = None,
    decoding: bool = False,
    essential: bool = False,
) -> Callable[[Callable[[Any], None]], Check]:
    """Decorate a function of a bench as a check; the arguments are those of :class:`Check`."""

    def decorate(function: Callable[[Any], None]) -> Check:
        group = _GROUPS[function.__module__.rpartition(".")[2]]
        return Check(f"{group}.{function.__name__}", function, needs, capability, decoding, essential)

    return decorate


def all_checks() -> tuple[Check, ...]:
    """Return every check, in the order in which they run."""
    modules = [importlib.import_module(f"xlens.testing.{name}") for name in _GROUPS]
    return tuple(value for module in modules for value in vars(module).values() if _is_own(value, module.__name__))


def _is_own(value: object, module: str) -> bool:
    # A check that another group needs is imported there as well.
    return isinstance(value, Check) and value.function.__module__ == module


def require(
    holds: bool, problem: str, *, given: object = None, allowed: object = None, do: str | None = None
) -> None:
    """Fail the check unless it holds; arguments as for :class:`xlens.errors.XlensError`.

    Raises:
        CheckFailedError: it does not hold.
    """
    if not holds:
        raise CheckFailedError(problem, given=given, allowed=allowed, do=do)


def same(first: Tensor, second: Tensor, *, exactly: bool = False) -> bool:
    """Whether two tensors are equal, up to rounding unless `exactly`; NaN equals NaN.

    >>> import torch
    >>> from xlens.testing.checking import same
    >>> same(torch.tensor([1.0]), torch.tensor([1.0 + 1e-6])), same(torch.zeros(2), torch.zeros(3))
    (True, False)
    """
    if first.shape != second.shape:
        return False
    if first.dtype == torch.bool:
        return torch.equal(first, second)
    if exactly:
        return bool(torch.equal(first.nan_to_num(0.5), second.nan_to_num(0.5)))
    scale = float(first.detach().nan_to_num().abs().max()) if first.numel() else 0.0
    return bool(torch.allclose(first, second, rtol=1e-3, atol=1e-4 * scale, equal_nan=True))
