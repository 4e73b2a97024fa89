"""The command line and the demonstration behind it."""

import json
import re
import subprocess
import sys

import pytest
import toys

import xlens
from xlens import cli
from xlens.cli import demo
from xlens.datasets import load_images
from xlens.datasets.examples import read_idx
from xlens.errors import DataError


def test_backends_are_listed_for_people_and_machines(capsys):
    assert cli.main(["backends"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "distribution", "version", "summary", "capabilities"]
    row = next(row for row in rows if row.startswith("medxgan "))
    assert f" xlens  {xlens.__version__} " in re.sub(" {2,}", "  ", row)
    assert row.endswith("sample, invariances, invert, representations")
    assert cli.main(["backends", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert listing["medxgan"]["summary"].startswith("medXGAN")
    assert listing["medxgan"]["distributions"] == [{"name": "xlens", "version": xlens.__version__}]
    assert listing["medxgan"]["capabilities"] == ["sample", "invariances", "invert", "representations"]
    assert listing["medxgan"]["failure"] is None


def test_errors_are_one_line_with_exit_code_2(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "load_images", lambda name: read_idx(tmp_path / "missing.gz"))
    assert cli.main(["demo", "--data", "fashion-mnist"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("xlens: ")
    assert shown.count("\n") == 1
    assert "apt-get install dataset-fashion-mnist" in shown


def test_unknown_commands_and_data_are_refused(capsys):
    for arguments in ([], ["explode"], ["demo", "--data", "cats"], ["fit", "a:b"], ["explain", "lens"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(arguments)
        shown = capsys.readouterr().err
        assert shown.startswith("xlens: ")
        assert shown.count("\n") == 1
        assert "--help" in shown


def test_the_command_is_installed():
    found = subprocess.run(
        [sys.executable, "-m", "xlens.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert "xlens demo --data fashion-mnist" in found.stdout


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_the_demonstration_writes_pictures_and_a_table(tmp_path, monkeypatch, capsys):
    def short(classifier, data, backend, **others):
        return xlens.fit(
            classifier, data, backend, steps=10, width=8, mask=toys.SHORT_MASK, progress=False, **others
        )

    monkeypatch.setattr(demo, "fit", short)
    explainer, explanation = demo.run_demo("digits", out=tmp_path)
    assert explainer.backend.name == "medxgan"
    assert len(explanation) == 90
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits-3.png", "digits-8.png", "digits.html"]
    shown = capsys.readouterr().out
    assert "| flips |" in shown
    assert "trustworthy:" in shown


def test_the_digits_are_split_without_overlap():
    images = load_images("digits")
    assert len(images.train) + len(images.test) == 357
    assert set(images.test_labels.tolist()) == {0, 1}


def test_missing_files_say_what_to_install(tmp_path):
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        load_images("fashion-mnist", tmp_path)


def test_names_do_nothing_to_the_terminal(capsys):
    assert cli.main(["explain", "\x1b[2Jlens", "a.png", "--model", "no\x1b[31mmodule"]) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\\x1b[31m" in shown
