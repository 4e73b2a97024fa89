"""The demonstration on photographs, in small: what it says, writes and opens, and with how many threads."""

import dataclasses
import webbrowser

import pytest
import torch
import torch.nn.functional as F

from xlens import cli
from xlens.cli import browsing, commands, threads
from xlens.cli import leaves as demo
from xlens.datasets import leaves


@pytest.fixture
def small(monkeypatch):
    """A few leaves, scaled down."""
    found = leaves()
    few = {}
    for part, every in (("train", 6), ("test", 11)):
        few[part] = F.interpolate(getattr(found, part)[::every], (24, 24), mode="area")
        few[f"{part}_labels"] = getattr(found, f"{part}_labels")[::every]
    small = dataclasses.replace(found, **few)
    monkeypatch.setattr(demo, "leaves", lambda: small)
    return small


def test_the_demonstration_shows_leaves_pages_and_what_the_audit_found(small, tmp_path, capsys):
    shown = []
    explainer, explanation, audit = demo.demonstrate(out=tmp_path, steps=40, show=shown.append)
    assert not explainer.backend.trains
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "leaves-audit.html",
        "leaves-data.png",
        "leaves-rust.png",
        "leaves.html",
    ]
    assert [page.name for page in shown] == ["leaves.html", "leaves-audit.html"]
    assert set(explanation.target.tolist()) == {1}
    assert audit.total == len(small.test)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("[") for line in lines)
    said = "\n".join(lines)
    # The first picture comes before the classifier is trained.
    assert said.index("leaves-data.png") < said.index("step 10 of 40") < said.index("leaves-rust.png")
    assert ("ALARM" in said) == bool(audit.alarms)
    assert ("it has missed the sticker" in said) != bool(audit.alarms)


def test_the_sticker_is_a_thing_in_the_corner_and_nothing_else_changes():
    images = torch.full((2, 3, 96, 96), 0.5)
    marked = demo.stuck(images)
    where = (marked != images).any(1)
    rows, columns = where[0].any(1).nonzero()[:, 0], where[0].any(0).nonzero()[:, 0]
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (79, 92, 79, 92)
    assert torch.equal(where[0], where[1])
    assert bool((marked[0, :, 85, 85] == 1).all())


def test_the_command_opens_pages_unless_told_not_to(monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setattr(commands, "demonstrate", lambda backend, **options: asked.append(options))
    before = torch.get_num_threads()
    assert cli.main(["demo", "--out", str(tmp_path), "--seed", "3"]) == 0
    assert cli.main(["demo", "--no-open"]) == 0
    assert (asked[0]["show"], asked[0]["seed"], asked[0]["out"]) == (browsing.open_page, 3, tmp_path)
    assert asked[1]["show"] is None
    assert "computing with 1 thread" in capsys.readouterr().out or before > 1
    assert torch.get_num_threads() == before


def test_a_page_is_opened_where_there_is_a_screen_alone(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(webbrowser, "open", lambda address: not asked.append(address))
    monkeypatch.setattr(browsing.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not browsing.open_page(tmp_path / "a.html")
    assert asked == []
    monkeypatch.setenv("DISPLAY", ":0")
    assert browsing.open_page(tmp_path / "a.html")
    assert asked == [(tmp_path / "a.html").as_uri()]

    def refuse(address):
        raise webbrowser.Error("none")

    monkeypatch.setattr(webbrowser, "open", refuse)
    assert not browsing.open_page(tmp_path / "a.html")


@pytest.mark.parametrize(
    ("available", "load", "wanted", "taken"),
    [
        (2, 0.0, 2, 2),
        (2, 0.4, 2, 2),
        (2, 1.1, 2, 1),
        (2, 9.0, 2, 1),
        (16, 4.2, 16, 12),
        (16, 0.0, 4, 4),
        (1, 0, 8, 1),
    ],
)
def test_threads_are_taken_where_cores_are_free(available, load, wanted, taken):
    assert threads.free_threads(available, load, wanted) == taken


def test_threads_are_given_back_whatever_happens(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "cores", lambda: 3)
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    torch.set_num_threads(4)
    try:
        with pytest.raises(KeyboardInterrupt), threads.threads() as said:
            assert torch.get_num_threads() == 3
            assert said.startswith("computing with 3 threads, on 3 cores")
            raise KeyboardInterrupt
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_a_container_may_use_less_than_the_machine_has(tmp_path):
    own = threads.cores(tmp_path / "missing")
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    assert threads.cores(quota) == 1
    quota.write_text("max 100000\n")
    assert threads.cores(quota) == own
