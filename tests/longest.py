"""Which test files take longest, so that several workers begin with them: none of them then comes last and alone.

Seconds of one worker, rounded, as ``pytest --durations=0`` sums them up on two cores. A file that is not named
comes after these; where the numbers are stale only the balance suffers.
"""

from __future__ import annotations

__all__ = ["LONGEST"]

LONGEST: dict[str, int] = {
    "tests/testing/test_conformance.py": 90,
    "tests/testing/meta/test_checks_can_fail.py": 55,
    "tests/test_examples.py": 45,
    "tests/training/test_processes.py": 30,
    "tests/auditing/test_audit.py": 30,
    "plugins/xlens_medxgan/tests/test_medxgan.py": 30,
    "tests/test_plugin_page.py": 30,
    "tests/cli/test_output.py": 25,
    "plugins/xlens_ilvm/tests/test_ilvm_over.py": 25,
    "plugins/xlens_svae/tests/test_svae.py": 20,
    "plugins/xlens_introvac/tests/test_introvac.py": 20,
    "plugins/xlens_dif/tests/test_dif.py": 20,
    "tests/stress/test_files.py": 20,
    "tests/evaluation/test_evaluation_cases.py": 20,
    "tests/integrations/test_lightning.py": 20,
    "tests/stress/test_interruptions.py": 20,
    "plugins/xlens_dif/tests/test_dif_fit.py": 15,
    "tests/plot/test_plot.py": 15,
    "tests/teaching/test_nothing_doubled.py": 15,
    "tests/report/test_report_browser.py": 15,
    "tests/teaching/test_page.py": 15,
    "tests/test_docs.py": 15,
    "tests/explaining/test_other_labels.py": 10,
    "tests/explaining/test_attributions.py": 10,
    "tests/surrogate/test_fit_with_surrogate.py": 10,
    "tests/fitting/test_choosing.py": 10,
    "tests/evaluation/test_evaluation.py": 10,
    "tests/report/test_report.py": 10,
    "tests/documentation/test_site.py": 10,
    "tests/stress/test_threads.py": 10,
    "tests/stages/test_behind_codec.py": 10,
    "tests/fitting/test_warm_start.py": 10,
}
