"""Progress where there is no terminal: lines in a log, and silence where that was asked for."""

import logging
import sys

import pytest

from xlens.training import bar
from xlens.training.bar import Bar


@pytest.fixture
def lines(monkeypatch, caplog):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    now = [0.0]
    monkeypatch.setattr(bar.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "xlens")

    def moved(steps, seconds, **options):
        caplog.clear()
        with Bar(**options) as shown:
            for _ in range(steps):
                now[0] += seconds
                shown.update(1)
        return [record.getMessage() for record in caplog.records]

    return moved


def test_a_log_has_a_line_twice_a_minute(lines):
    said = lines(9, 10.0, total=10, desc="medxgan", disable=None)
    assert said == [
        "medxgan: 3 of 10 in 00:30, about 01:10 left",
        "medxgan: 6 of 10 in 01:00, about 00:40 left",
        "medxgan: 9 of 10 in 01:30, about 00:10 left",
    ]
    assert lines(3, 10.0, desc="survey", unit="input", disable=None) == ["survey: 3 inputs in 00:30"]
    # What was done before, by a run that goes on from it, says nothing of the pace.
    gone_on = lines(1, 30.0, total=10, initial=8, desc="svae", disable=None)
    assert gone_on == ["svae: 9 of 10 in 00:30, about 00:30 left"]


def test_what_is_quick_or_was_to_be_silent_says_nothing(lines):
    assert lines(9, 1.0, total=10, desc="svae", disable=None) == []
    assert lines(9, 100.0, total=10, desc="svae", disable=True) == []
