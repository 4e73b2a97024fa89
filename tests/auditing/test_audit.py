"""Audits of classifiers whose ground is known: a stamp in a corner, or an object."""

import csv
import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
import torch
from guard import unchanged
from shortcuts import SIDE, ByObject, ByStamp, CornerEdits, explainer_of, stamped

import xlens
from xlens.auditing.sweep import true_classes
from xlens.contracts import LocalEdit
from xlens.errors import DataError, OptionError, StorageError, UnsupportedError


@pytest.fixture(scope="module")
def data():
    return stamped()


@pytest.fixture(scope="module")
def by_stamp(data):
    images, labels, has = data
    masks = torch.ones(len(images), 1, SIDE, SIDE, dtype=torch.bool)
    masks[..., -8:, -8:] = False
    camera = np.where(has, "old", "new")
    camera[::11] = "new"
    return xlens.audit(
        explainer_of(ByStamp()),
        (images, labels),
        masks=masks,
        metadata={"camera": camera, "day": np.arange(len(images))},
        progress=False,
    )


def test_the_stamp_is_the_one_alarm_with_all_its_signs(by_stamp, data):
    (alarm,) = by_stamp.alarms
    group = by_stamp.group(alarm.group)
    assert group.number == 0
    assert group.target == "rust"
    assert group.share > 0.9
    assert group.effect > 0.5
    assert group.effect_low <= group.effect <= group.effect_high
    assert all(value > 0.75 for value in group.place)
    said = " ".join(alarm.signs)
    for word in ("one and the same thing", "one place", "outside of the object", "camera is old"):
        assert word in said
    assert len(alarm.refuted_by) == 5
    verdict = by_stamp.verdict(0)
    assert "of 'rust' decisions" in verdict
    assert "lower right corner" in verdict
    assert set(group.inputs.tolist()) <= set(data[2].nonzero()[:, 0].tolist())
    assert [one.column for one in group.associations if one.p < 0.01] == ["camera"]


@pytest.mark.parametrize("jitter", [0, 8])
def test_filling_it_takes_the_accuracy_that_came_of_it(jitter):
    images, labels, has = stamped(jitter=jitter)
    explainer = explainer_of(ByStamp())
    found = xlens.audit(explainer, (images, labels), progress=False)
    assert len(found.alarms) >= 1
    remedy = found.remedy((images, labels))
    assert remedy.accuracy > 0.95
    assert remedy.classes["rust"][1] < 0.1
    assert remedy.classes["plain"][1] > 0.95
    assert remedy.there == pytest.approx(float(has.float().mean()), abs=0.05)
    assert "Filled: group 0" in repr(remedy)
    filled = images
    for alarm in found.alarms:
        filled = found.group(alarm.group).mask_out(filled)
    away = (filled != images).flatten(2).any(2)[:, 0]
    assert float(away[has].float().mean()) > 0.9
    assert float(away[~has].float().mean()) < 0.1


def test_a_classifier_that_goes_by_the_object_raises_none(data):
    images, labels, _ = data
    found = xlens.audit(explainer_of(ByObject()), (images, labels), progress=False)
    assert found.alarms == ()
    assert "No group looks like a shortcut." in repr(found)
    with pytest.raises(OptionError, match="there is no alarm"):
        found.remedy((images, labels))


def test_one_place_alone_is_no_alarm_where_looks_vary(data):
    """Objects that are aligned have their parts at one place each."""
    generator = torch.Generator().manual_seed(1)
    images = 0.1 * torch.rand(112, 1, SIDE, SIDE, generator=generator)
    looks = torch.rand(112, 1, 5, 5, generator=generator)
    images[::2, :, 4:9, 4:9] += 0.9 * looks[::2]

    class ByPlace(torch.nn.Module):
        def forward(self, x):
            seen = x[:, 0, 4:9, 4:9].mean((1, 2))
            return torch.stack([torch.zeros_like(seen), 20 * seen - 5], 1)

    found = xlens.audit(explainer_of(ByPlace()), images, progress=False)
    group = next(group for group in found.groups if group.target == "rust")
    assert group.p_place < 0.01
    assert group.template.sameness < 0.98
    assert found.alarms == ()


class ToTheThird(ByStamp):
    """Takes the stamp for class 1 and holds class 0 for the next; without the stamp it decides for class 2."""

    def forward(self, images):
        seen = super().forward(images)[:, 1]
        return torch.stack([torch.where(seen > 0, seen - 1, -5.0), seen, torch.zeros_like(seen)], 1)


def test_where_decisions_go_is_asked_and_not_what_they_were_explained_against(data):
    images, _, _ = data
    found = xlens.audit(explainer_of(ToTheThird(), names=("plain", "rust", "mould")), images, progress=False)
    (group,) = [one for one in found.groups if one.target == "rust"]
    assert set(found.parts.contrast[found.parts.target == 1]) == {0}
    assert group.flips > 0.9
    assert list(group.toward) == ["mould"]
    assert group.toward["mould"] == pytest.approx(group.flips)
    assert "mostly to 'mould'" in found.verdict(group)


def test_where_no_decision_changes_it_goes_nowhere(data):
    class Sure(ByStamp):
        def forward(self, images):
            return super().forward(images) * 0.2 + torch.tensor([0.0, 9.0])

    found = xlens.audit(explainer_of(Sure()), data[0], progress=False)
    assert found.groups
    for group in found.groups:
        assert not group.toward
        assert "mostly" not in found.verdict(group)
    assert set(found.to_dataframe().toward) == {""}


def test_the_rim_of_an_object_is_no_evidence_outside_of_it():
    """A window there is background for the most part, and what it takes away is the object."""
    generator = torch.Generator().manual_seed(0)
    images = 0.05 * torch.rand(160, 1, SIDE, SIDE, generator=generator)
    masks = torch.zeros(160, 1, SIDE, SIDE, dtype=torch.bool)
    masks[..., 6:, 6:] = True
    images[..., 6:, 6:] += 0.3 + 0.2 * torch.rand(160, 1, 18, 18, generator=generator)
    images[::2, :, 6:8, 6:8] += 0.4

    class ByCorner(torch.nn.Module):
        def forward(self, x):
            seen = x[:, 0, 6:8, 6:8].mean((1, 2))
            return torch.stack([torch.zeros_like(seen), 30 * seen - 20], 1)

    class AroundIt(CornerEdits):
        def edit(self, inputs, target, contrast):
            parts = torch.zeros(len(inputs), 1, *inputs.shape[2:])
            parts[:, :, 2:8, 2:8] = 1
            return LocalEdit(torch.full_like(inputs, 0.05), parts, (None,) * len(inputs))

    explainer = explainer_of(ByCorner(), AroundIt())
    found = xlens.audit(explainer, images, masks=masks, search="lens", progress=False)
    groups = [one for one in found.groups if one.target == "rust"]
    assert groups
    for group in groups:
        assert group.outside == pytest.approx(8 / 9)
        assert group.p_outside < 0.01
        assert group.effect > 0.5
        assert group.carried_outside == pytest.approx(0, abs=0.01)
        assert "outside of the object" not in found.verdict(group)
    # The same box, of which the classifier goes by what is beside the object.
    masks[..., 6:8, 6:8] = False
    beside = xlens.audit(explainer, images, masks=masks, search="lens", progress=False)
    for group in [one for one in beside.groups if one.target == "rust"]:
        assert group.carried_outside > 0.5
        assert "outside of the object" in beside.verdict(group)


@pytest.mark.parametrize("kind", ["shuffle", "subset", "weighted", "shares", "batches"])
def test_facts_by_position_are_refused_beside_a_loader_that_shuffles(data, kind):
    images, labels, has = data
    pairs, size = torch.utils.data.TensorDataset(images, labels), 32
    sampler = {
        "subset": torch.utils.data.SubsetRandomSampler(range(112)),
        "weighted": torch.utils.data.WeightedRandomSampler([1.0] * 112, 112),
        "batches": torch.utils.data.RandomSampler(pairs),
        "shares": torch.utils.data.DistributedSampler(pairs, 1, 0),
    }.get(kind)
    if kind == "batches":
        batches = torch.utils.data.BatchSampler(sampler, size, drop_last=False)
        loader = torch.utils.data.DataLoader(pairs, batch_sampler=batches)
    else:
        loader = torch.utils.data.DataLoader(pairs, size, shuffle=kind == "shuffle", sampler=sampler)
    explainer = explainer_of(ByStamp())
    for facts in ({"metadata": {"has": has}}, {"masks": torch.ones(112, 1, SIDE, SIDE)}):
        with pytest.raises(DataError, match=r"another order on each pass.*Sampler.*shuffle=False"):
            xlens.audit(explainer, loader, progress=False, **facts)
    found = xlens.audit(explainer, loader, progress=False)
    assert any("the order of one pass" in note for note in found.notes)
    whole = torch.utils.data.DistributedSampler(pairs, 1, 0, shuffle=False)
    still = torch.utils.data.DataLoader(pairs, size, sampler=whole if kind == "shares" else None)
    assert not any("one pass" in note for note in xlens.audit(explainer, still, n=8, progress=False).notes)


def test_too_few_edits_to_judge_by_are_said(data):
    found = xlens.audit(explainer_of(ByStamp()), data[0][:20], progress=False)
    assert not found.groups
    assert "nothing is said of shortcuts" in repr(found)
    assert any("not grouped" in note and "'rust'" in note for note in found.notes)


def test_another_lens_of_the_same_backend_is_another_audit(data, tmp_path):
    """Some options stand in no weight of the lens."""
    from xlens_infill import Infill

    options = {"output_dir": tmp_path, "progress": False, "n": 8}
    fitted = dataclasses.replace(explainer_of(ByStamp()).fitted, backend=Infill())
    xlens.audit(fitted, data[0], **options)
    xlens.audit(fitted, data[0], **options)
    with pytest.raises(StorageError, match="another audit"):
        xlens.audit(dataclasses.replace(fitted, backend=Infill(goal=0.9)), data[0], **options)


class Detached(ByStamp):
    """Lets no gradient reach its inputs."""

    def forward(self, images):
        return super().forward(images.detach())


@pytest.mark.parametrize("side", [SIDE, 136])
@pytest.mark.parametrize("kind", ["double", "detached"])
def test_classifiers_of_any_precision_and_without_a_gradient_are_asked_by_windows(data, side, kind):
    from xlens.auditing.windows import of_windows

    model = ByStamp() if kind == "double" else Detached()
    if kind == "double":
        forward = model.forward
        model.forward = lambda images: forward(images).double()
    fitted = explainer_of(model).fitted
    stamped_one = data[0][int(data[2].nonzero()[0])]
    image = torch.full((1, 1, side, side), 0.05)
    image[..., -SIDE:, -SIDE:] = stamped_one
    with fitted.asking():
        _, mask = of_windows(fitted, image, torch.tensor([1]), torch.tensor([0]))
    assert bool(mask[0, -8:, -8:].any())
    if kind == "detached":
        parts = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
        parts[..., :2, :2] = parts[..., -6:, -6:] = True
        with pytest.raises(UnsupportedError, match="takes a gradient"), fitted.asking():
            parted(fitted, stamped_one[None], parts)


def parted(fitted, inputs, mask):
    from xlens.auditing.evidence import Evidence
    from xlens.auditing.parts import parts_of

    found = Evidence(torch.where(mask[:, None], 0.05, inputs), mask, torch.ones(len(inputs), dtype=torch.bool))
    target = torch.ones(len(inputs), dtype=torch.long)
    index = torch.arange(len(inputs))
    known = {"logits": fitted.classifier(inputs), "index": index, "labels": None, "objects": None}
    return parts_of(fitted, inputs, target, 1 - target, found, **known)


def test_what_does_nothing_does_no_share_of_it_outside(by_stamp):
    from xlens.auditing.groups import _carried_outside

    some = by_stamp.parts[by_stamp.parts.target == 1][:3]
    nothing = dataclasses.replace(some, drop=np.full(len(some), -0.1), drop_outside=np.full(len(some), 0.2))
    assert np.isnan(_carried_outside(nothing))


def test_of_large_images_the_time_is_looked_at_more_often():
    from xlens.auditing.sweep import Reader
    from xlens.data import as_data

    for side, batch in ((127, 64), (128, 8)):
        images = torch.zeros(3, 1, side, side)
        assert Reader(as_data(images), tuple(images.shape[1:]), None, 0).batch == batch


def test_the_lens_own_edits_count_where_they_change_the_decision(data):
    images, labels, _ = data
    found = xlens.audit(explainer_of(ByStamp(), CornerEdits()), (images, labels), search="lens", progress=False)
    assert found.parts.by_lens.all()
    assert set(found.parts.target.tolist()) == {1}
    assert found.parts.area == pytest.approx(81 / SIDE**2)
    assert found.parts.share == pytest.approx(1)
    both = xlens.audit(explainer_of(ByStamp(), CornerEdits()), (images, labels), progress=False)
    assert 0 < both.parts.by_lens.mean() <= 1


def test_classifier_and_lens_are_left_as_they_are(data):
    model = ByStamp().eval()
    before = torch.random.get_rng_state()
    with unchanged(model):
        xlens.audit(explainer_of(model), data[0], n=64, progress=False)
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_goes_on_from_where_it_stopped(data, tmp_path):
    images, labels, _ = data
    explainer = explainer_of(ByStamp())
    options = {"output_dir": tmp_path, "progress": False}
    cut = xlens.audit(explainer, (images, labels), seconds=1e-9, **options)
    assert cut.count == 64
    assert any("time ran out after 64 of 112" in note for note in cut.notes)
    whole = xlens.audit(explainer, (images, labels), **options)
    fresh = xlens.audit(explainer, (images, labels), progress=False)
    assert whole.to_json() == fresh.to_json()
    with pytest.raises(StorageError, match="another audit"):
        xlens.audit(explainer, (images, labels), seed=1, **options)
    with pytest.raises(StorageError, match="another audit"):
        xlens.audit(explainer, images, **options)
    with pytest.raises(StorageError, match="another audit"):
        xlens.audit(explainer, (images, 1 - labels), **options)
    with pytest.raises(StorageError, match="another audit"):
        xlens.audit(explainer, (images.flip(0), labels), **options)
    one = next(tmp_path.glob("batch-*.npz"))
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as entry,
    ):
        for _ in range(300):
            entry.write(bytes(2**20))
    for content in (b"torn", one.read_bytes()[:-30], bomb.getvalue()):
        one.write_bytes(content)
        with pytest.raises(StorageError, match="cannot be read"):
            xlens.audit(explainer, (images, labels), **options)


def test_masks_that_were_moved_are_another_audit(data, tmp_path):
    images, labels, _ = data
    masks = torch.zeros(len(images), 1, SIDE, SIDE, dtype=torch.bool)
    masks[..., :4, :4] = True
    options = {"output_dir": tmp_path, "progress": False, "seconds": 1e-9}
    xlens.audit(explainer_of(ByStamp()), (images, labels), masks=masks, **options)
    with pytest.raises(StorageError, match="another audit"):
        xlens.audit(explainer_of(ByStamp()), (images, labels), masks=masks.flip(3), **options)


def test_of_one_class_alone_nothing_is_proved(data):
    images, _, has = data
    found = xlens.audit(explainer_of(ByStamp()), images[torch.from_numpy(np.asarray(has))], progress=False)
    assert any("all decisions are for 'rust'" in note for note in found.notes)


@pytest.mark.parametrize("column", [[[1, 2], [3]], {1: 2}, object()])
def test_a_column_that_is_no_list_of_values_is_named(data, column):
    images, labels, _ = data
    with pytest.raises(DataError, match="metadata"):
        xlens.audit(explainer_of(ByStamp()), (images, labels), metadata={"a": column}, progress=False)


def test_a_group_takes_images_alone(by_stamp, data):
    images, labels, _ = data
    group = by_stamp.group(0)
    for wrong in ((images, labels), torch.utils.data.TensorDataset(images), None):
        with pytest.raises(DataError, match="Group.mask_out: these are no images"):
            group.mask_out(wrong)


def test_a_stream_gives_what_the_array_gives(data):
    images, labels, _ = data
    stream = [(images[i : i + 30], labels[i : i + 30]) for i in range(0, 112, 30)]
    explainer = explainer_of(ByStamp())
    one, other = (xlens.audit(explainer, given, progress=False) for given in (stream, (images, labels)))
    assert one.to_json() == other.to_json()


def test_groups_have_names_that_become_attributes(by_stamp):
    found = dataclasses.replace(by_stamp, names={})
    with pytest.raises(OptionError, match="no group has a name"):
        found.attributes()
    found.name(0, "sticker")
    index, table, names = found.attributes()
    assert names == ("sticker",)
    assert table.shape == (112, 1)
    assert set(index[table[:, 0] == 1].tolist()) == set(found.group("sticker").inputs.tolist())
    assert found.records()[0]["name"] == "sticker"
    with pytest.raises(OptionError, match="no group was named 'stickr'. Did you mean 'sticker'"):
        found.group("stickr")
    with pytest.raises(OptionError, match="no such group"):
        found.group(99)


def test_tables(by_stamp, tmp_path):
    frame = by_stamp.to_dataframe()
    assert (frame.kind == "place").sum() == len(by_stamp.groups)
    assert bool(frame.alarm[0])
    by_stamp.to_csv(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        assert [row["target"] for row in csv.DictReader(file)] == list(frame.target)
    facts = json.loads(by_stamp.to_json(tmp_path / "a.json"))
    assert facts == json.loads((tmp_path / "a.json").read_text())
    assert facts["alarms"][0]["group"] == 0
    assert len(by_stamp.plot().axes) == 7 * len(by_stamp.groups)


def test_what_cannot_be_audited_is_refused(data):
    images = data[0]
    explainer = explainer_of(ByStamp())
    with pytest.raises(OptionError, match=r"n must be.*search must be.*seconds must be.*confidence must be.*seed"):
        xlens.audit(explainer, images, n=0, search="all", seconds=0, confidence=2, seed=-1)
    with pytest.raises(DataError, match="masks do not fit"):
        xlens.audit(explainer, images, masks=torch.zeros(3, 1, SIDE, SIDE))
    with pytest.raises(DataError, match=r"masks say yes or no.*saliency > 0.5"):
        xlens.audit(explainer, images, masks=torch.full((len(images), 1, SIDE, SIDE), 0.02))
    with pytest.raises(DataError, match=r"labels that are no classes.*Given: 4.*0 to 1, -1 for unknown"):
        xlens.audit(explainer, (images, torch.full((len(images),), 4)), progress=False)
    with pytest.raises(DataError, match="'camera' of shape"):
        xlens.audit(explainer, images, metadata={"camera": [1, 2]})
    with pytest.raises(DataError, match="not the shape"):
        xlens.audit(explainer, images[..., :-1], progress=False)
    with pytest.raises(OptionError, match="no explainer"):
        xlens.audit(ByStamp(), images)
    vectors = dataclasses.replace(explainer.fitted, spec=dataclasses.replace(explainer.spec, shape=(4,)))
    with pytest.raises(UnsupportedError, match="parts are places in images"):
        xlens.audit(vectors, torch.zeros(8, 4))
    with pytest.raises(DataError, match="accuracy needs labels"):
        found = xlens.audit(explainer, images, n=100, progress=False)
        found.remedy(images, [0])
    for wrong in (-1, 0.5, torch.nan):
        with pytest.raises(
            DataError, match=r"Audit.remedy: labels that are no classes.*Allowed: whole numbers from 0 to 1\b"
        ):
            found.remedy((images, torch.full((len(images),), wrong)), 0)


def test_what_is_filled_depends_on_no_switch_of_the_program(by_stamp, data):
    images, group = data[0][:8], by_stamp.groups[0]
    usual = group.mask_out(images)
    assert torch.equal(group.mask_out(images[0]), usual[:1])
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(group.mask_out(images), usual)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def test_labels_of_some_that_are_unknown():
    found = true_classes(torch.tensor([-1.0, 0, 1]), 2, "audit")
    assert found.tolist() == [-1, 0, 1]
    assert not found.is_floating_point()


def test_names_are_taught_to_a_lens_on_a_layer_which_is_audited_by_windows_alone(digits):
    model, given = digits
    images = given.train[:96]
    names = ("closed",)
    classifier = xlens.Classifier(model, layer="7")
    found = xlens.audit(xlens.fit(classifier, images, "ilvm", steps=2, progress=False), images, progress=False)
    assert not found.parts.by_lens.any()
    assert len(found.parts) > 0
    group = found.groups[0]
    found.name(group, names[0])
    index, table, columns = found.attributes()
    assert columns == names
    side_info = torch.full((len(images), 1), torch.nan)
    side_info[index] = table
    options = {"side_info": side_info, "attributes": columns, "steps": 2, "teaching_steps": 2, "progress": False}
    taught = xlens.fit(classifier, images, "ilvm", **options)
    taught.teaching.teach(images[index[:8]], table[:8], progress=False)
    assert names[0] in [feature.name for feature in taught.features]
    with pytest.raises(UnsupportedError, match="needs a lens that makes images"):
        xlens.audit(taught, images, search="lens")
