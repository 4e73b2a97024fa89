"""Files written whole, under names that nobody can foresee, with the rights that the process gives."""

from __future__ import annotations

import os
import stat
import time

import pytest

import xlens
from xlens.errors import XlensError
from xlens.files import writing
from xlens.files.limits import Allowance, read_entry
from xlens.files.plain import parse
from xlens.files.writing import write_all, write_whole
from xlens.plot.figure import new_figure, save_figure


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_written_and_nothing_else_is_left(tmp_path):
    write_whole(tmp_path / "deep" / "a", b"one")
    write_whole(tmp_path / "deep" / "a", b"two")
    assert (tmp_path / "deep" / "a").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]


@pytest.mark.usefixtures("toy_installed", "umask")
def test_everything_that_is_saved_has_the_same_rights(fitted, images, tmp_path):
    explanation = fitted.explain(images[:1])
    fitted.save(tmp_path / "lens")
    explanation.save(tmp_path / "why")
    explanation.save_html(tmp_path / "why.html")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {mode(path) for path in files} == {0o640}


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("rights", [0o600, 0o444, 0o664])
def test_a_file_that_is_replaced_keeps_its_rights(tmp_path, rights):
    write_whole(tmp_path / "a", b"one")
    (tmp_path / "a").chmod(rights)
    write_all(((tmp_path / "a", b"two"), (tmp_path / "b", b"new")))
    assert (tmp_path / "a").read_bytes() == b"two"
    assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == (rights, 0o640)


@pytest.mark.usefixtures("toy_installed")
@pytest.mark.parametrize("name", ["a\0b", "half \ud800"])
def test_what_can_be_no_name_is_refused_in_words(fitted, trained, images, tmp_path, name):
    explanation = fitted.explain(images[:1])
    path = f"{tmp_path}/{name}"
    for use in (
        *(fitted.save, explanation.save, explanation.to_json, explanation.to_csv, explanation.save_html),
        *(lambda place: xlens.load(place, trained), xlens.Explanation.load),
    ):
        with pytest.raises(XlensError):
            use(path)


def test_a_link_at_the_place_gives_way(tmp_path):
    (tmp_path / "else").write_bytes(b"theirs")
    (tmp_path / "a").symlink_to(tmp_path / "else")
    write_whole(tmp_path / "a", b"ours")
    assert (tmp_path / "else").read_bytes() == b"theirs"
    assert (tmp_path / "a").read_bytes() == b"ours"


@pytest.mark.parametrize("there", ["link", "file", "folder"])
def test_what_is_planted_at_the_partial_name_is_never_written_to(tmp_path, monkeypatch, there):
    """Also by somebody who has foreseen the name."""
    monkeypatch.setattr(writing.secrets, "token_hex", lambda n: "foreseen")
    partial, other = tmp_path / ".xlens-foreseen.partial", tmp_path / "other"
    other.write_bytes(b"theirs")
    {"link": lambda: partial.symlink_to(other), "file": partial.touch, "folder": partial.mkdir}[there]()
    with pytest.raises(OSError):
        write_whole(tmp_path / "a", b"ours")
    assert other.read_bytes() == b"theirs"
    assert not (tmp_path / "a").exists()


@pytest.mark.usefixtures("toy_installed")
@pytest.mark.parametrize("name", ["lens.json.partial", "lens.safetensors.partial"])
def test_a_link_at_the_earlier_partial_names_is_not_followed(fitted, tmp_path, trained, name):
    other = tmp_path / "other"
    other.write_bytes(b"theirs")
    (tmp_path / "lens").mkdir()
    (tmp_path / "lens" / name).symlink_to(other)
    fitted.save(tmp_path / "lens")
    assert other.read_bytes() == b"theirs"
    xlens.load(tmp_path / "lens", trained)


def test_names_differ(tmp_path, monkeypatch):
    seen = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: (seen.append(str(path)), real(path, *rest))[1])
    for _ in range(3):
        write_whole(tmp_path / "a", b"x")
    names = [name for name in seen if name.endswith(".partial")]
    assert len(set(names)) == 3


def test_what_a_killed_program_left_goes_and_what_is_being_written_stays(tmp_path):
    old, new, theirs = (tmp_path / name for name in (".xlens-1.partial", ".xlens-2.partial", ".theirs.partial"))
    for path in (old, new, theirs):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    os.utime(theirs, (time.time() - 7200,) * 2)
    write_whole(tmp_path / "a", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".theirs.partial", ".xlens-2.partial", "a"]


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real(descriptor, content[:3]))
    write_whole(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_all_is_on_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (order.append(name), real(*a))[1])
    write_all(((tmp_path / "a", b"1"), (tmp_path / "b", b"2")))
    assert order == ["fsync", "fsync", "replace", "fsync", "replace", "fsync"]


def test_a_pipe_is_written_to_as_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(tmp_path / "pipe", b"said")
        assert os.read(reader, 9) == b"said"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("text", ["[" * 100 + "]" * 100, "[" * 5000 + "]" * 5000, '{"a":' * 80 + "1" + "}" * 80])
def test_deep_json_is_refused(text):
    with pytest.raises(ValueError, match="nested deeper"):
        parse(text)


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udfff": 1}', "nan?", b"\xff", "9" * 5000])
def test_what_cannot_be_printed_is_refused(text):
    with pytest.raises(ValueError):
        parse(text)


def test_plain_json_is_read():
    assert parse('{"a": [1, {"b": null}], "ü": "\\ud83d\\ude00"}') == {"a": [1, {"b": None}], "ü": "😀"}


def test_an_allowance_is_used_up(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(6000))
        archive.writestr("y", bytes(6000))
    allowance = Allowance(tmp_path / "a.zip", 10_000, xlens.errors.DataError)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert len(read_entry(archive, "x", allowance)) == 6000
        with pytest.raises(xlens.errors.DataError, match=r"6,000 bytes.*after 6,000.*10,000.*--max-bytes 12000"):
            read_entry(archive, "y", allowance)


def test_what_the_disk_does_not_confirm_is_new_and_said_to_be(tmp_path, monkeypatch):
    """All of several files are: half of them would help nobody."""
    one, two = tmp_path / "one", tmp_path / "two"
    write_all(((one, b"old"), (two, b"old")))

    def broken(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(writing, "_flush_folder", broken)
    with pytest.raises(writing.UnflushedError, match=r"'one' and 'two': new and in place.*Input/output error"):
        write_all(((one, b"new"), (two, b"new")))
    assert (one.read_bytes(), two.read_bytes()) == (b"new", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_picture_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    figure = new_figure(1, 1)
    for name in ("a.png", "a.svg", "bare"):
        save_figure(figure, tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["a.png", "a.svg", "bare.png"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    figure.add_subplot()
    for name in ("a.png", "a.svg", "bare"):
        with pytest.raises(OSError, match="No space left"):
            save_figure(figure, tmp_path / name, dpi=20)
    with pytest.raises(ValueError, match="Format 'nothing' is not supported"):
        save_figure(figure, tmp_path / "a.nothing")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
