"""What an audit writes, what a group may be called, and what is kept of its edits."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from shortcuts import ByStamp, explainer_of, stamped

import xlens
from xlens.auditing import run
from xlens.auditing.edits import KeptEdits
from xlens.auditing.page import page_of
from xlens.errors import DataError, OptionError, StorageError, XlensError
from xlens.integrations.audits import write_audit


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


def test_a_folder_that_audits_are_written_into_is_gone_on_with(found, tmp_path):
    images, labels, _ = stamped()
    how = {"output_dir": tmp_path, "search": "windows", "progress": False}
    first = xlens.audit(explainer_of(ByStamp()), (images, labels), **how)
    batches = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write_audit(found, tmp_path)
    found.to_json(tmp_path / "audit.json")
    found.to_csv(tmp_path / "groups.csv")
    assert set(batches).isdisjoint(("audit.json", "audit.html", "audit.png", "groups.csv"))
    again = xlens.audit(explainer_of(ByStamp()), (images, labels), **how)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in batches} == batches
    assert again.to_json() == first.to_json()


def test_batches_of_which_nothing_says_whose_they_are_are_not_taken(tmp_path):
    how = {"output_dir": tmp_path, "search": "windows", "progress": False}
    xlens.audit(explainer_of(ByStamp()), stamped()[0], n=8, **how)
    (tmp_path / "batches.json").unlink()
    with pytest.raises(StorageError, match="holds batches of another audit"):
        xlens.audit(explainer_of(ByStamp()), stamped()[0], n=8, **how)


@pytest.mark.parametrize(
    "size", [(4, 1, 1, 1), (4, 1, 3, 3), (1, 48, 48), (2, 3, 24, 24), (2, 1, 24, 25), (1, 2, 1, 24, 24)]
)
def test_evidence_is_looked_for_in_images_of_the_audits_shape_alone(found, size):
    for name in ("find", "mask_out"):
        with pytest.raises(DataError, match=rf"^Group.{name}: not the shape.*\(N, 1, 24, 24\).*What to do"):
            getattr(found.groups[0], name)(torch.rand(*size))


@pytest.mark.parametrize("shape", [(1, 24, 24), (1, 1, 24, 24), (5, 1, 24, 24)])
def test_one_image_or_several_of_that_shape_will_do(found, shape):
    masks, there = found.groups[0].find(torch.rand(*shape))
    assert masks.shape == (len(there), 1, 24, 24)


def test_a_group_of_another_audit_is_refused(found):
    other = dataclasses.replace(found.groups[0], effect=0.5)
    named = dataclasses.replace(found, names={})
    asked = (named.group, named.title, named.verdict, lambda group: named.name(group, "sticker"))
    for ask in (
        *asked,
        lambda group: named.remedy(stamped()[:2], group),
        lambda group: named.remedy((), [0, group]),
    ):
        with pytest.raises(OptionError, match="not of this audit"):
            ask(other)
    assert named.names == {}
    assert named.group(named.groups[0]) is named.groups[0]


SEVERAL = [
    [0],
    (0,),
    {0},
    frozenset({0}),
    range(1),
    {0: "stamp"}.keys(),
    np.array([0]),
    np.array(0),
    torch.tensor([0]),
    torch.tensor(0),
    np.int64(0),
    [torch.tensor(0)],
    iter([0]),
]


@pytest.mark.parametrize("groups", SEVERAL, ids=[repr(one) for one in SEVERAL[:-1]] + ["an iterator"])
def test_one_or_several_groups_come_in_any_form(found, groups):
    assert found.remedy(stamped()[:2], groups).groups == ("group 0",)


def test_several_in_a_set_have_one_order(found):
    twice = (found.groups[0], dataclasses.replace(found.groups[0], number=1))
    named = dataclasses.replace(found, groups=twice, names={0: "b", 1: "a"})
    assert named.remedy(stamped()[:2], {"b", "a"}).groups == ("a", "b")


@pytest.mark.parametrize(
    "groups", [np.array([0.0]), torch.tensor([True]), np.array([[0]]), {0: "x"}, b"0", {-1}, [99]]
)
def test_what_names_no_group_is_refused_and_says_what_is_taken(found, groups):
    with pytest.raises(OptionError, match="no such group.*in a list, tuple, set, array or tensor.*What to do"):
        found.remedy(stamped()[:2], groups)


@pytest.mark.parametrize("none", [[], (), set(), np.array([], int), torch.tensor([], dtype=torch.long)])
def test_no_groups_say_what_can_be_named(found, none):
    with pytest.raises(
        OptionError, match=r"Given: no groups\..*leave groups out for those of the alarms, or name some"
    ):
        found.remedy(stamped()[:2], none)
    calm = dataclasses.replace(found, alarms=())
    with pytest.raises(OptionError, match=r"Given: no groups\..*What to do: name some"):
        calm.remedy(stamped()[:2], none)
    with pytest.raises(OptionError, match="Given: no groups, and there is no alarm.*What to do: name some"):
        calm.remedy(stamped()[:2])
    with pytest.raises(OptionError, match="What to do: the audit found no groups"):
        dataclasses.replace(calm, groups=()).remedy(stamped()[:2])


@pytest.mark.parametrize("odd", ["no", "", 0, 1, 2.0, [], np.int64(1)])
def test_progress_is_yes_no_or_none(odd):
    with pytest.raises(OptionError, match="progress must be True, False or None"):
        xlens.audit(explainer_of(ByStamp()), stamped()[0], progress=odd)


@pytest.mark.parametrize("odd", ["", b"run", 5])
def test_an_output_dir_that_is_no_path_is_refused(odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="output_dir must be a path"):
        xlens.audit(explainer_of(ByStamp()), stamped()[0], output_dir=odd, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_without_groups_a_data_frame_has_its_columns(found):
    pytest.importorskip("pandas")
    bare = dataclasses.replace(found, groups=(), alarms=(), tones=())
    assert list(bare.to_dataframe().columns) == list(found.to_dataframe().columns)
    assert len(bare.to_dataframe()) == 0


@pytest.mark.parametrize(
    "odd",
    [
        {"masks": torch.zeros(3, 1, 24, 24)},
        {"masks": "x"},
        {"masks": torch.rand(112, 1, 24, 24)},
        {"metadata": 5},
        {"metadata": {"day": [1, 2]}},
        {"metadata": {"day": [[1], [1, 2]]}},
    ],
)
def test_facts_that_do_not_fit_are_refused_with_what_to_do(odd):
    with pytest.raises(DataError, match="^audit: .*Given: .*Allowed: .*What to do: "):
        xlens.audit(explainer_of(ByStamp()), stamped()[0], progress=False, **odd)
