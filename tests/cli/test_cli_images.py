"""Images and arrays as people have them, and files that would become far larger than they are."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import torch
from command_line import EXPLAIN, FIT, SCALE
from PIL import Image

from xlens import cli
from xlens.cli.arrays import read_array
from xlens.cli.inputs import Preprocessing, find_images, listed, read_images
from xlens.cli.read import data_to_explain
from xlens.cli.weights import read_weights
from xlens.contracts.backend import Spec
from xlens.errors import DataError, StorageError
from xlens.files.limits import MOST_BYTES

GREY = Preprocessing(mode="grey")


def picture(seed=0, size=(6, 4)):
    levels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0]), dtype=np.uint8)
    return Image.fromarray(levels)


def test_hidden_files_are_no_images(tmp_path):
    (tmp_path / "cat").mkdir()
    for folder in (tmp_path, tmp_path / "cat"):
        picture().save(folder / "a.png")
        for name in ("._a.png", ".DS_Store", ".hidden.jpg", "__b.png", "Thumbs.db"):
            (folder / name).write_bytes(b"no image")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._a.png").write_bytes(b"no image")
    found = find_images([tmp_path])
    assert found == [tmp_path / "a.png", tmp_path / "cat" / "a.png"]
    assert len(read_images(found, GREY)) == 2
    assert listed(tmp_path / "__MACOSX") == []
    # Somebody who names one means it.
    assert find_images([tmp_path / "._a.png"]) == [tmp_path / "._a.png"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(tmp_path, orientation):
    upright = picture(size=(8, 5))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    lying = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying.save(tmp_path / "a.png", exif=exif)
    upright.save(tmp_path / "b.png")
    found = read_images([tmp_path / "a.png", tmp_path / "b.png"], GREY)
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("name", ["stack.tif", "moving.gif", "moving.webp", "moving.png"])
def test_several_images_in_one_file_are_refused(tmp_path, name):
    frames = [picture(seed).convert("RGB") for seed in (0, 1, 2)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="several images in one file.*3 frames.*a file of its own"):
        read_images([tmp_path / name], GREY)


def png_of_16_bits(colours):
    """Return a PNG that Pillow reads as 8 bits without a word: kind of colours -> bytes of a 2x2 image."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    row = b"\0" + bytes(range(2 * 2 * {2: 3, 6: 4, 4: 2, 0: 1}[colours]))
    header = struct.pack(">IIBBBBB", 2, 2, 16, colours, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(2 * row)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((f"{colours}.png", png_of_16_bits(colours)) for colours in (0, 2, 4, 6)),
        ("a.ppm", b"P6 2 2 65535\n" + bytes(24)),
        ("a.pgm", b"P5 2 2 65535\n" + bytes(8)),
    ],
)
def test_more_than_8_bits_are_refused_also_where_pillow_cuts_them_off(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="more than 8 bits per channel"):
        read_images([tmp_path / name], Preprocessing())


@pytest.mark.parametrize("name", ["one.tif", "one.gif", "one.webp", "one.png", "one.jpg", "one.bmp"])
def test_one_image_in_a_file_that_could_hold_several_is_read(tmp_path, name):
    picture().convert("RGB").save(tmp_path / name)
    assert read_images([tmp_path / name], GREY).shape == (1, 1, 4, 6)


def test_a_photo_with_a_preview_behind_it_is_a_photo(tmp_path):
    picture().convert("RGB").save(tmp_path / "a.mpo", save_all=True, append_images=[picture(1).convert("RGB")])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.n_frames == 2
    assert read_images([tmp_path / "a.jpg"], GREY).shape == (1, 1, 4, 6)


# --- limits -------------------------------------------------------------------------------------------


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def packed(path, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                for part in content if isinstance(content, list) else [content]:
                    stream.write(part)


def weights_of(path, sizes, strides, content):
    meta = {
        "dtype": 7,
        "sizes": [{"as_int": size} for size in sizes],
        "strides": [{"as_int": stride} for stride in strides],
        "storage_offset": {"as_int": 0},
    }
    entry = {"path_name": "w", "use_pickle": False, "tensor_meta": meta}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data/weights/model_weights_config.json", json.dumps({"config": {"w": entry}}))
        archive.writestr("m/data/weights/w", content)


def images_of(path, side):
    Image.new("1", (side, side)).save(path)


def pt_of(path, **entries):
    """Write a tensor whose numbers are packed, which torch itself does not do."""
    torch.save(entries, path)
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in content.items():
            archive.writestr(name, part)


READERS = {
    "npz": lambda path, **limit: read_array(path, **limit),
    "npy": lambda path, **limit: read_array(path, **limit),
    "pt": lambda path, **limit: read_array(path, **limit),
    "pt2": lambda path, **limit: read_weights(path, **limit),
    "png": lambda path, **limit: read_images([path], GREY, **limit),
}
#: Small files that would become 4 MB, and where they are read.
BOMBS = {
    "an array": ("npz", lambda path: packed(path, x=npy(np.zeros((1000, 1000), np.float32)))),
    "an array by another name": ("npy", lambda path: packed(path, x=npy(np.zeros((1000, 1000), np.float32)))),
    "packed numbers": ("pt", lambda path: pt_of(path, x=torch.zeros(1000, 1000))),
    "repeated numbers": ("pt", lambda path: torch.save({"x": torch.zeros(1).expand(1000, 1000)}, path)),
    "packed weights": ("pt2", lambda path: weights_of(path, [1000, 1000], [1000, 1], bytes(4_000_000))),
    "repeated weights": ("pt2", lambda path: weights_of(path, [1000, 1000], [0, 0], bytes(4))),
    "pixels": ("png", lambda path: images_of(path, 1200)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_becomes_too_large_is_refused_and_a_larger_limit_lets_it_in(tmp_path, name):
    kind, write = BOMBS[name]
    path = tmp_path / f"small.{kind}"
    write(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(
        (DataError, StorageError), match=r"'small\.\w+' would become larger.*--max-bytes (\d+)"
    ) as said:
        READERS[kind](path, max_bytes=1_000_000)
    wanted = int(str(said.value).rpartition("--max-bytes ")[2].rstrip("."))
    assert wanted > 1_000_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        READERS[kind](path, max_bytes=2 * wanted)


def test_what_is_stored_as_it_is_may_be_as_large_as_its_file(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((100, 100), np.float32))
    torch.save(torch.rand(100, 100), tmp_path / "a.pt")
    for name in ("a.npz", "a.pt"):
        assert read_array(tmp_path / name, max_bytes=1)[0].shape == (100, 100)


def test_only_the_entries_that_are_wanted_are_read(tmp_path):
    """Another one may be of any size, of Python objects, or damaged."""
    packed(
        tmp_path / "a.npz",
        x=npy(np.ones((3, 2), np.float32)),
        y=npy(np.arange(3)),
        extra=npy(np.zeros((1000, 1000))),
        objects=npy(np.array([None])),
        broken=b"no array",
    )
    x, y = read_array(tmp_path / "a.npz", max_bytes=1000)
    assert x.shape == (3, 2)
    assert y.tolist() == [0, 1, 2]


def test_an_entry_that_lies_about_its_size_is_refused(tmp_path):
    header = npy(np.zeros((1, 1), np.float32)).replace(b"(1, 1), }" + b" " * 14, b"(1, 99999999), }       ")
    packed(tmp_path / "a.npz", x=header)
    with pytest.raises(DataError):
        read_array(tmp_path / "a.npz")
    packed(tmp_path / "b.npz", x=npy(np.zeros((100, 100))))
    content = bytearray((tmp_path / "b.npz").read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (200).to_bytes(4, "little")
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(DataError):
        read_array(tmp_path / "b.npz")


def claiming(path, shape):
    """Write an array's header, without any values."""
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1, np.float32)) | {"shape": shape}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    if path.suffix == ".npy":
        path.write_bytes(file.getvalue())
    elif path.suffix == ".npz":
        packed(path, x=file.getvalue())
    else:
        torch.save(torch.zeros(1).expand(1, *shape)[0] if 0 not in shape else torch.zeros(shape), path)


@pytest.mark.parametrize("kind", ["npy", "npz", "pt"])
def test_what_is_claimed_is_refused_before_anything_is_made(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    claiming(path, (10**9, 64))
    with pytest.raises(DataError, match="would become larger"):
        read_array(path)
    for shape in ((10**10, 0), (0, 3), (3, 0, 2)):
        claiming(path, shape)
        with pytest.raises(DataError, match="inputs without values.*at least one value"):
            read_array(path)


def test_names_of_inputs_count_too(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10**5, 1), np.float16))
    margins = ((0.0, 1.0), (1.0, 0.0))
    spec = Spec(
        **dict(shape=(1,), num_classes=2, minimum=(0.0,), maximum=(1.0,), mean=(0.5,), std=(1.0,)),
        class_margins=margins,
    )
    with pytest.raises(DataError, match="names of 100,000 inputs"):
        data_to_explain([tmp_path / "a.npy"], {}, None, spec, max_bytes=10**6)
    assert len(data_to_explain([tmp_path / "a.npy"], {}, None, spec)[1]) == 10**5


def test_pillow_counts_as_before_afterwards(tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    images_of(tmp_path / "a.png", 40)
    read_images([tmp_path / "a.png"], GREY)
    with pytest.raises(DataError):
        read_images([tmp_path / "a.png"], GREY, max_bytes=10)
    assert limit == Image.MAX_IMAGE_PIXELS
    # What is let in without saying so is what Pillow lets in without a warning.
    assert limit is None or limit == MOST_BYTES // 3


GIGABYTE = """
import resource, sys
from pathlib import Path
from xlens.cli.arrays import read_array
from xlens.cli.inputs import Preprocessing, read_images
from xlens.cli.read import data_to_explain
from xlens.cli.weights import read_weights
from xlens.errors import XlensError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in map(Path, sys.argv[1:]):
    images = lambda path: read_images([path], Preprocessing())
    reader = {".pt2": read_weights, ".png": images}.get(path.suffix, read_array)
    try:
        reader(path)
    except XlensError as fault:
        print("refused", "would become larger" in str(fault))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_gigabytes_are_refused_before_they_are_there(tmp_path):
    """As they were tried: of a megabyte of array, half a kilobyte of weights, and 20 kilobytes of image."""
    million = bytes(2**20)
    header = npy(np.zeros((1, 1), np.float32))[:128].replace(b"(1, 1), }" + b" " * 14, b"(750, 524288), }       ")
    packed(tmp_path / "a.npz", x=[header, *[million] * 1500])
    weights_of(tmp_path / "b.pt2", [350_000_000], [0], bytes(4))
    Image.new("1", (16400, 16400)).save(tmp_path / "c.png", compress_level=9)
    names = [str(tmp_path / name) for name in ("a.npz", "b.pt2", "c.png")]
    assert all(tmp_path.joinpath(name).stat().st_size < 2_000_000 for name in names)
    run = subprocess.run([sys.executable, "-c", GIGABYTE, *names], capture_output=True, text=True, check=True)
    *said, megabytes = run.stdout.split("\n")[:-1]
    assert said == ["refused True"] * 3
    assert int(megabytes) < 300


@pytest.mark.parametrize("number", ["0", "-1", "x", "1e9"])
def test_a_limit_that_is_no_number_of_bytes(here, capsys, number):
    with pytest.raises(SystemExit):
        cli.main([*FIT, "data.npz", "--max-bytes", number])
    assert "--max-bytes" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_the_limit_of_the_command_line(here, capsys):
    Image.new("L", (900, 900)).save(here / "photos" / "0-none" / "large.png")
    limit = ["--max-bytes", str(2_000_000)]
    assert cli.main([*FIT, "photos", *SCALE, "--size", "8", *limit]) == 2
    assert "2,430,000 bytes of 900x900 pixels" in capsys.readouterr().err
    assert cli.main([*FIT, "photos", *SCALE, "--size", "8", "--max-bytes", "2430000"]) == 0
    assert cli.main([*EXPLAIN, "photos/0-none/large.png", *limit]) == 2
    assert cli.main([*EXPLAIN, "photos/0-none/large.png"]) == 0


# --- folders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [FIT, EXPLAIN])
@pytest.mark.parametrize("place", ["x" * 300, "loop", "data.npz/inside"])
def test_a_place_that_cannot_be_looked_at(here, capsys, command, place):
    (here / "loop").symlink_to("loop")
    assert cli.main([*FIT, "data.npz"]) == 0
    capsys.readouterr()
    assert cli.main([*command, place]) == 2
    assert capsys.readouterr().err.startswith("xlens: ")


def test_a_folder_that_cannot_be_read(here, capsys, monkeypatch):
    from pathlib import Path

    def refused(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refused)
    assert cli.main([*FIT, "photos"]) == 2
    assert "Permission denied" in capsys.readouterr().err


# --- a lens and how its inputs were prepared are one ----------------------------------------------------


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_stopped_between_its_files_a_fit_leaves_no_lens_with_other_preprocessing(
    here, capsys, monkeypatch, trained
):
    """Whichever lens is there, its own mean and std are with it."""
    import os

    import xlens
    from xlens.cli.inputs import Preprocessing

    replace = os.replace
    for at in range(1, 4):
        assert cli.main([*FIT, "photos", *SCALE]) == 0
        calls = []

        def stopped(source, target, at=at, calls=calls):
            calls.append(target)
            if len(calls) >= at:
                raise KeyboardInterrupt
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stopped)
            other = ["--mode", "grey", "--mean", "0.5", "--std", "0.25", "--seed", "7"]
            cli.main([*FIT, "photos", *other])
        found = xlens.load(here / "lens", trained)
        how = Preprocessing.of(found.provenance)
        assert (found.provenance["seed"], how.mean, how.std) in ((0, (0.6,), (0.2,)), (7, (0.5,), (0.25,)))


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_what_lies_beside_an_older_lens_is_still_read_and_beside_a_newer_one_is_not(here, capsys, trained):
    import forged

    import xlens

    assert cli.main([*FIT, "photos", *SCALE]) == 0
    how = json.loads((here / "lens" / "lens.json").read_text())["preprocessing"]
    beside = {**how, "mean": [0.125]}
    (here / "lens" / "inputs.json").write_text(json.dumps(beside))
    assert xlens.load(here / "lens", trained).provenance["preprocessing"] == how
    facts = forged.facts_of(here / "lens")
    del facts["preprocessing"]
    forged.write_facts(here / "lens", facts)
    older = xlens.load(here / "lens", trained)
    assert older.provenance["preprocessing"] == beside
    # Saved again, it takes it along.
    older.save(here / "lens")
    assert not (here / "lens" / "inputs.json").exists()
    assert xlens.load(here / "lens", trained).provenance["preprocessing"] == beside
    # An earlier lens's is no longer there for one that was fitted on numbers.
    (here / "lens" / "inputs.json").write_text(json.dumps(beside))
    assert cli.main([*FIT, "data.npz"]) == 0
    assert "preprocessing" not in xlens.load(here / "lens", trained).provenance
