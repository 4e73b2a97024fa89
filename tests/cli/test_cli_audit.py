"""``xlens audit``: from a folder of images to groups."""

import json

import pytest
import toys

import xlens
from xlens import cli
from xlens.cli import audit


@pytest.fixture
def lens(here, trained):
    classifier = xlens.Classifier(trained, class_names=("0-none", "1-bright", "2-dark"))
    explainer = xlens.fit(
        classifier, toys.pictures(60, seed=3)[0], toys.Toy(), mask=toys.SHORT_MASK, progress=False
    )
    explainer.save(here / "lens")
    return here / "lens"


MODEL = ("--model", "my_models:net", "--weights", "net.safetensors")


def test_folders_are_the_true_classes(lens, here, capsys):
    photos = sorted((here / "photos").rglob("*.png"))
    rows = [f"{path.name},{path.parent.name[0]}" for path in photos]
    (here / "facts.csv").write_text("\n".join(["file,kind", *reversed(rows)]))
    command = ["audit", "lens", "photos", *MODEL, "--mean", ".6", "--std", ".2", "--metadata", "facts.csv"]
    assert cli.main([*command, "--html", "audit.html", "--csv", "audit.csv", "--checkpoints", "run", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["inputs"] == facts["total"] == len(photos)
    assert (here / "audit.html").read_text().startswith("<!doctype html>")
    assert len((here / "audit.csv").read_text().splitlines()) == 1 + len(facts["groups"])
    assert list((here / "run").glob("batch-*.npz"))
    assert cli.main([*command, "--checkpoints", "run", "-n", "5"]) == 2
    assert "another audit" in capsys.readouterr().err


def test_arrays_and_what_does_not_fit(lens, here, capsys):
    assert cli.main(["audit", "lens", "data.npz", *MODEL, "--search", "windows"]) == 0
    assert "60 of 60 inputs explained" in capsys.readouterr().out
    (here / "facts.csv").write_text("kind\n1\n2\n")
    assert cli.main(["audit", "lens", "data.npz", *MODEL, "--metadata", "facts.csv"]) == 2
    assert "the metadata do not fit the data. Given: 2 rows" in capsys.readouterr().err
    rows = [
        f"{path.parent.name}/{path.name},{i}" for i, path in enumerate(sorted((here / "photos").rglob("*.png")))
    ]
    (here / "facts.csv").write_text("\n".join(["file,kind", *rows, rows[0]]))
    command = ["audit", "lens", "photos", *MODEL, "--mean", ".6", "--std", ".2", "--metadata", "facts.csv"]
    assert cli.main(command) == 2
    assert "several rows for one image. Given: 2 rows" in capsys.readouterr().err
    # A row that ends before the column of names is of no image.
    (here / "facts.csv").write_text("kind,file\n1\n2,b.png\n")
    assert cli.main(command) == 2
    assert "the metadata lack images" in capsys.readouterr().err
    (here / "photos" / "0-none").rename(here / "photos" / "other")
    assert cli.main(["audit", "lens", "photos", *MODEL]) == 2
    assert "folders that are no classes of this lens" in capsys.readouterr().err


def test_images_of_one_name_are_told_apart_by_their_folder():
    names = ["photos/eight/0.png", "photos/three/0.png", "photos/three/1.png"]
    rows = [{"file": "three/0.png", "day": "2"}, {"file": "eight/0.png", "day": "1"}, {"file": "1.png", "day": "3"}]
    assert [row["day"] for row in audit._of_images(rows, names)] == ["1", "2", "3"]


def test_errors_name_the_command_that_was_given(lens, here, capsys):
    """What is read for one command is read for several, and none has another's name in its errors."""
    read = {
        "audit": ["audit", "lens", "data.npz", *MODEL],
        "explain": ["explain", "lens", "data.npz", *MODEL],
        "evaluate": ["evaluate", "lens", "data.npz", *MODEL],
        "label": ["label", "lens", "data.npz", *MODEL],
    }
    for name, command in read.items():
        assert cli.main([*command, "--mode", "grey"]) == 2
        assert f"{name}: --mode would do nothing to data.npz" in capsys.readouterr().err
    for missing in ("nothing", "nothing.npz"):
        assert cli.main(["audit", "lens", missing, *MODEL]) == 2
        assert "audit: no such data" in capsys.readouterr().err
    (here / "photos" / "empty").mkdir()
    assert cli.main(["audit", "lens", "photos", *MODEL]) == 2
    assert "audit: folders of classes without images" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "kind\n", "kind\n1\n2\n", "file,kind\nnone.png,1\n", b"\xff\xfe\x00"])
def test_metadata_that_do_not_fit_say_what_to_do(lens, here, capsys, text):
    (here / "facts.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    command = ["audit", "lens", "photos", *MODEL, "--mean", ".6", "--std", ".2", "--metadata"]
    for name in ("facts.csv", "missing.csv"):
        assert cli.main([*command, name]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "audit: the metadata" in said
        assert "Given: " in said
        assert "Allowed: " in said
        assert "What to do: " in said
