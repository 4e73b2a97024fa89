"""The conformance kit: how the author of a backend knows that it is right.

``check_backend(MyBackend(steps=20))`` runs every check; ``@parametrize_with_checks([...])`` makes each one a test
of its own under pytest, which is imported only there. The checks live in one module per group.
``check_addition(MyAttribution)`` does the same for what is added beside backends.
"""

from xlens.testing.additions import check_addition
from xlens.testing.candidate import Candidate
from xlens.testing.checking import CheckFailedError, Result
from xlens.testing.run import check_backend, check_ids, parametrize_with_checks

__all__ = [
    "Candidate",
    "CheckFailedError",
    "Result",
    "check_addition",
    "check_backend",
    "check_ids",
    "parametrize_with_checks",
]
