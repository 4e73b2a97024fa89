"""Which test files take longest, so that several workers begin with them: none of them then comes last and alone.

Seconds of one worker, rounded, as ``pytest --durations=0`` sums them up on two cores. A file that is not named
comes after these; where the numbers are stale only the balance suffers.
"""

from __future__ import annotations

__all__ = ["LONGEST"]

LONGEST: dict[str, int] = {
    "tests/testing/test_conformance.py": 110,
    "tests/testing/meta/test_checks_can_fail.py": 50,
    "tests/test_examples.py": 50,
    "tests/cli/test_output.py": 50,
    "plugins/xlens_introvac/tests/test_introvac.py": 35,
    "tests/test_plugin_page.py": 30,
    "plugins/xlens_ilvm/tests/test_ilvm_over.py": 30,
    "plugins/xlens_medxgan/tests/test_medxgan.py": 30,
    "tests/training/test_processes.py": 30,
    "tests/stress/test_files.py": 25,
    "plugins/xlens_dif/tests/test_dif.py": 20,
    "tests/test_docs.py": 20,
    "plugins/xlens_svae/tests/test_svae.py": 20,
    "plugins/xlens_dif/tests/test_dif_fit.py": 15,
    "tests/fitting/test_warm_start.py": 15,
    "tests/report/test_report_browser.py": 15,
    "tests/teaching/test_page.py": 15,
    "tests/teaching/test_nothing_doubled.py": 15,
}
