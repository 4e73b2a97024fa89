"""Tones in an audit: in its tables and its page, taken out, and named by nobody."""

import csv
import json

import pytest
import torch
from pages import NASTY
from shortcuts import SIDE, explainer_of

import xlens
from xlens.auditing.page import page_of
from xlens.errors import DataError, OptionError

NAMES = ("dark | night", NASTY[1])
COUNT = 112


class ByLevel(torch.nn.Module):
    """Goes by how bright the image is, all of it."""

    def forward(self, images):
        level = images.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(level), 60 * (level - 0.4)], 1)


@pytest.fixture(scope="module")
def data():
    """Dark and bright noise in turns, and which is which."""
    labels = torch.arange(COUNT) % 2
    noise = 0.1 * torch.rand(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return 0.3 + 0.1 * labels[:, None, None, None] + noise, labels


@pytest.fixture(scope="module")
def found(data):
    return xlens.audit(explainer_of(ByLevel(), names=NAMES), data, progress=False)


def test_they_stand_in_tables_and_on_the_page_as_text(found):
    assert {one.target for one in found.tones} == set(NAMES)
    assert {one.kind for one in found.tones} == {"colours"}
    said = found.tones[0].said
    assert "the brightness of" in said
    assert "channel" not in said
    facts = json.loads(found.to_json())["tones"]
    assert [one["said"] for one in facts] == [one.said for one in found.tones]
    assert facts[0]["background"] is None
    assert f"- Tone: {said}" in repr(found)
    page = page_of(found, "Audit")
    assert "The tone of whole images" in page
    assert NAMES[1] not in page
    assert page.count("<script") == 2


def test_they_are_rows_of_their_own_after_the_groups(found, tmp_path):
    frame = found.to_dataframe()
    tones = frame[frame.kind != "place"]
    assert tones.verdict.tolist() == [one.said for one in found.tones]
    assert tones.effect.tolist() == [one.effect for one in found.tones]
    assert tones.p_elsewhere.tolist() == [one.p for one in found.tones]
    assert not tones.alarm.any()
    assert (frame.kind == "place").tolist() == [True] * len(found.groups) + [False] * len(found.tones)
    assert len(json.loads(found.to_json())["groups"]) == len(found.groups)
    found.to_csv(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == frame.verdict.tolist()


def test_they_stand_in_the_figure(found):
    figure = found.plot()
    text = " ".join(figure.get_supxlabel().split())
    assert all(one.said in text for one in found.tones)


def test_the_remedy_takes_one_alone_and_its_table_stays_one(found, data):
    bright = next(one for one in found.tones if one.target == NAMES[1])
    remedy = found.remedy(data, bright)
    assert remedy.accuracy == 1
    assert remedy.classes[NAMES[0]][1] == 1
    assert remedy.classes[NAMES[1]][1] < 0.5
    assert remedy.there == pytest.approx(0.5, abs=0.05)
    assert remedy.groups == (f"colours of {NAMES[1]!r}",)
    rows = [line.replace(r"\|", "") for line in repr(remedy).split("\n") if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4}


def test_a_tone_is_no_group(found):
    for wrong in (found.tones[0], 1.0, None, True):
        with pytest.raises(OptionError, match="no such group"):
            found.name(wrong, "night")


def test_a_stream_gives_what_the_array_gives(found, data):
    images, labels = data
    stream = [(images[i : i + 30], labels[i : i + 30]) for i in range(0, COUNT, 30)]
    other = xlens.audit(explainer_of(ByLevel(), names=NAMES), stream, progress=False)
    assert other.to_json() == found.to_json()


def test_what_is_taken_out_depends_on_no_switch_of_the_program(found, data):
    images, tone = data[0], found.tones[0]
    usual = tone.mask_out(images)
    assert torch.equal(tone.mask_out(images.double().numpy()), usual)
    assert torch.equal(tone.mask_out(images[0]), usual[:1])
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(tone.mask_out(images), usual)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    with pytest.raises(DataError, match="Tone.mask_out: not the shape"):
        tone.mask_out(images.repeat(1, 3, 1, 1))


def test_classes_with_too_few_inputs_to_try_are_said(data):
    images, labels = data
    rows = torch.cat([labels.nonzero()[:, 0], (labels == 0).nonzero()[:8, 0]])
    few = xlens.audit(explainer_of(ByLevel()), images[rows], progress=False)
    assert few.tones == ()
    assert "tone was not tried for decisions for 'plain', 'rust': too few inputs of these or others" in few.notes
