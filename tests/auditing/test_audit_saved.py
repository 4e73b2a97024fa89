"""What an audit writes, what a group may be called, and what is kept of its edits."""

import csv
import dataclasses

import pytest
import torch
from shortcuts import ByStamp, explainer_of, stamped

import xlens
from xlens.auditing import run
from xlens.auditing.edits import KeptEdits
from xlens.auditing.page import page_of
from xlens.errors import DataError, OptionError, StorageError, XlensError


@pytest.fixture(scope="module")
def found():
    images, labels, _ = stamped()
    return xlens.audit(explainer_of(ByStamp()), (images, labels), progress=False)


def test_without_groups_a_table_has_its_header(found, tmp_path):
    bare = dataclasses.replace(found, groups=(), alarms=(), tones=())
    bare.to_csv(tmp_path / "a.csv")
    found.to_csv(tmp_path / "b.csv")
    one, other = ((tmp_path / name).read_text().splitlines()[0] for name in ("a.csv", "b.csv"))
    assert one == other
    assert list(csv.DictReader((tmp_path / "a.csv").open())) == []


def test_no_folder_is_made_unasked(found, tmp_path):
    for write in (found.to_csv, found.to_json, found.save_html):
        with pytest.raises(StorageError, match="no such folder"):
            write(tmp_path / "mistyped" / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [None, 5, b"a.csv", "", "a\0.csv"])
def test_what_is_no_path_is_refused_in_words(found, path):
    for write in (found.to_csv, found.save_html, *([found.to_json] if path is not None else [])):
        with pytest.raises(XlensError, match="no path|cannot write"):
            write(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "blanks"), ("  ", "blanks"), ("x" * 81, "too long"), ("a\nb", "a line"), (5, "a name is text")],
)
def test_odd_names_are_refused(found, name, said):
    with pytest.raises(OptionError, match=said):
        dataclasses.replace(found, names={}).name(0, name)


def test_no_two_groups_have_one_name(found):
    twice = (found.groups[0], dataclasses.replace(found.groups[0], number=1))
    named = dataclasses.replace(found, groups=twice, names={})
    named.name(0, " sticker ")
    assert named.names == {0: "sticker"}
    named.name(0, "sticker")
    for taken in ("sticker", "sticker ", "group 0"):
        if taken == "group 0":
            named.names.clear()
        with pytest.raises(OptionError, match="another group is called so"):
            named.name(1, taken)


@pytest.mark.parametrize(
    "odd", [{"output_dir": 5}, {"n": "x"}, {"masks": 5}, {"masks": "x"}, {"metadata": 5}, {"seconds": "x"}]
)
def test_odd_arguments_are_refused_in_words(odd):
    with pytest.raises((OptionError, DataError), match=next(iter(odd))):
        xlens.audit(explainer_of(ByStamp()), stamped()[0], progress=False, **odd)


def test_a_remedy_of_no_group_is_refused_in_words(found):
    for odd in (3.5, object(), [None]):
        with pytest.raises(OptionError, match="no such group"):
            found.remedy(stamped()[:2], odd)


def test_the_verdict_says_how_many_lose_more_than_half(found):
    group = found.groups[0]
    own = found.parts[(found.parts.target == 1)]
    lost = {}
    for i, fall in zip(own.input.tolist(), (own.before - own.after).tolist(), strict=True):
        lost[i] = max(fall, lost.get(i, 0.0))
    expected = sum(lost[i] > 0.5 for i in group.inputs.tolist()) / len(group.inputs)
    assert group.losing_half == pytest.approx(expected, abs=0.02)
    assert f"{group.losing_half:.0%} of them lose more than .5" in found.verdict(0)
    assert found.records()[0]["losing_half"] == group.losing_half


def test_edits_are_kept_bit_for_bit_and_those_of_the_largest_fall_longest():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 12, 12, generator=generator)
    edited = images.clone()
    edited[:, :, 2:6, 3:9] = torch.rand(6, 3, 4, 6, generator=generator)
    kept = KeptEdits(3 * 320)
    kept.add(torch.arange(6), images, edited, torch.tensor([0.1, 0.9, 0.2, 0.8, 0.3, 0.7]))
    there = [i for i in range(6) if kept.edited(i, images[i]) is not None]
    assert set(there) <= {1, 3, 5} != set()
    assert 1 in there
    assert all(torch.equal(kept.edited(i, images[i]), edited[i]) for i in there)


def test_pictures_are_not_searched_anew_and_are_the_same_where_they_have_to_be(found, monkeypatch):
    images, labels, _ = stamped()
    explainer = explainer_of(ByStamp())
    asked = []
    evidence_of = run.evidence_of
    monkeypatch.setattr(run, "evidence_of", lambda *args: asked.append(args) or evidence_of(*args))
    xlens.audit(explainer, (images, labels), progress=False)
    assert asked == []
    monkeypatch.setattr(KeptEdits, "edited", lambda *_: None)
    again = xlens.audit(explainer, (images, labels), progress=False)
    assert asked
    for number, pictures in found.thumbnails.items():
        assert torch.allclose(again.thumbnails[number], pictures, atol=1e-6)


def test_each_exemplar_has_its_own_figures_on_the_page(found):
    from pages import data_of

    group = data_of(page_of(found, "Audit"))["groups"][0]
    assert len(group["singles"]) == len(group["names"])
    figures = dict(map(tuple, group["singles"][0]))
    assert figures["decision"] == found.groups[0].target
    row = (found.parts.input == min(found.groups[0].exemplars)).nonzero()[0]
    before = [f"{found.parts.before[i]:.3f} to {found.parts.after[i]:.3f}" for i in row]
    assert figures["probability, with this part alone filled"] in before
