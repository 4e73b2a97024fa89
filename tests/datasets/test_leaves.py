"""The photographs that ship with xlens: what they hold, how they are packed, and that a wheel has them."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import xlens.datasets
from benchmarks.common.pack_leaves import SIDE, chosen, pack
from xlens.datasets import leaves

HERE = Path(xlens.datasets.__file__).parent / "coffee"
HEADER = "id,predominant_stress,miner,rust,phoma,cercospora,severity"


def test_two_classes_split_without_overlap():
    found = leaves()
    assert found.class_names == ("healthy", "rust")
    assert found.train_labels.bincount().tolist() == [176, 176]
    assert found.test_labels.bincount().tolist() == [88, 88]
    assert 0 <= float(found.train.min()) < 0.1
    assert 0.9 < float(found.train.max()) <= 1
    # A leaf in both halves would be there to the last bit.
    seen = {image.numpy().tobytes() for image in found.train}
    assert not any(image.numpy().tobytes() in seen for image in found.test)


def test_the_licence_and_the_source_ship_with_them():
    with zipfile.ZipFile(HERE / "leaves.zip") as packed:
        assert packed.read("LICENSE") == (HERE / "LICENSE").read_bytes()
        assert len([name for name in packed.namelist() if name.endswith(".jpg")]) == 528
    assert "MIT License" in (HERE / "LICENSE").read_text()
    assert "BRACOL" in (HERE / "README.md").read_text()
    assert sum(path.stat().st_size for path in HERE.iterdir()) < 3e6


def test_a_wheel_has_them():
    wheel = pytest.importorskip("hatchling.builders.wheel")
    builder = wheel.WheelBuilder(str(Path(xlens.__file__).parents[1]))
    inside = {Path(file.distribution_path).as_posix() for file in builder.recurse_included_files()}
    assert {f"xlens/datasets/coffee/{name}" for name in ("leaves.zip", "LICENSE", "README.md")} <= inside


def test_packing_takes_one_disease_and_gives_the_same_bytes_again(tmp_path):
    rows = ["1,0,0,0,0,0,0", "2,2,0,1,0,0,1", "3,2,1,1,0,0,1", "4,0,0,0,0,0,0", "5,2,0,1,0,0,2", "6,3,0,0,1,0,1"]
    (tmp_path / "labels.csv").write_text("\n".join([HEADER, *rows]))
    (tmp_path / "LICENSE").write_text("as it is")
    (tmp_path / "leaf").mkdir()
    noise = np.random.default_rng(0)
    for number in range(1, 7):
        photograph = Image.fromarray(noise.integers(0, 256, (32, 64, 3), dtype=np.uint8))
        photograph.save(tmp_path / "leaf" / f"{number}.jpg")
    once, again = tmp_path / "a.zip", tmp_path / "b.zip"
    pack(tmp_path, once, count=2)
    pack(tmp_path, again, count=2)
    assert once.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(once) as packed:
        names = packed.namelist()
        with Image.open(packed.open("rust/5.jpg")) as image:
            assert image.size == (SIDE, SIDE)
    assert names == ["LICENSE", "healthy/1.jpg", "healthy/4.jpg", "rust/2.jpg", "rust/5.jpg"]
    fields = HEADER.split(",")
    listed = [dict(zip(fields, row.split(","), strict=True)) for row in rows]
    assert [len(ids) for ids in chosen(listed, 1).values()] == [1, 1]


def test_they_are_photographs_of_green_things_on_something_bright():
    """Channels in the wrong order, or rows for columns, would show."""
    images = leaves().test
    middle, corner = images[..., 36:60, 36:60].mean((0, 2, 3)), images[..., :6, :6].mean((0, 2, 3))
    assert int(middle.argmax()) == 1
    assert bool((corner > middle).all())
    assert torch.isfinite(images).all()
