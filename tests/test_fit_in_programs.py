"""A fit within programs that have settings, checkpoints and loaders of their own: each of these failed once."""

import pytest
import torch
import toys
from accelerate.state import PartialState
from guard import unchanged
from torch.utils.data import DataLoader, TensorDataset
from toys import Toy, pictures, trained_cnn

import xlens
from xlens.data import as_data
from xlens.errors import DataError, OptionError


@pytest.fixture(scope="module")
def images():
    return pictures(96, 0)[0]


def quick(model, data, **changes):
    changes = {"steps": 3, "width": 4, "nuisance_code": 4, "mask": toys.SHORT_MASK, "progress": False, **changes}
    return xlens.fit(model, data, "medxgan", **changes)


def test_accelerate_is_left_as_it_was_found(images):
    if PartialState._shared_state:
        pytest.skip("another test's program uses accelerate")
    quick(trained_cnn(), images)
    assert not PartialState._shared_state


def test_the_float64_default_of_a_program_stays_and_does_no_harm(images):
    torch.set_default_dtype(torch.float64)
    try:
        explainer = quick(trained_cnn(), images)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert explainer.explain(images[:2]).codes.dtype == torch.float32


def test_a_new_run_forgets_the_checkpoints_of_an_old_one(images, tmp_path):
    model = trained_cnn()
    quick(model, images, output_dir=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"medxgan.checkpoint", "mask.checkpoint"}

    def interrupt(event):
        if event.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), unchanged(model):
        quick(model, images, steps=6, output_dir=tmp_path, on_step=interrupt)
    resumed = quick(model, images, steps=6, output_dir=tmp_path, resume=True)
    whole = quick(model, images, steps=6)
    with whole.classifier.frozen(), torch.no_grad():
        assert torch.equal(resumed.lens.encode(images[:4]), whole.lens.encode(images[:4]))


def test_a_loader_with_its_own_generator_can_be_resumed(images, tmp_path):
    model = trained_cnn()

    def loader():
        generator = torch.Generator().manual_seed(5)
        return DataLoader(TensorDataset(images), 20, shuffle=True, generator=generator, drop_last=True)

    def interrupt(event):
        if event.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(model, loader(), output_dir=tmp_path, on_step=interrupt)
    assert len(quick(model, loader(), output_dir=tmp_path, resume=True).explain(images[:2])) == 2


def test_data_with_history_and_columns_of_labels(images):
    model = trained_cnn()
    with torch.no_grad():
        labels = model(images).argmax(1)
    with_history = images.clone().requires_grad_() * 1
    assert not quick(model, with_history).explain(images[:2]).edit.requires_grad
    assert torch.equal(as_data((images, labels[:, None])).take(torch.arange(5)).labels, labels[:5])
    assert torch.equal(as_data((images, torch.eye(3)[labels])).take(torch.arange(5)).labels, labels[:5])

    class Once:
        def __init__(self):
            self.batches = iter([images[:48], images[48:]])

        def __iter__(self):
            return self.batches

    with pytest.raises(DataError, match="0 batches on this pass.*starts anew each time"):
        quick(model, Once())


def test_mps_is_refused_with_a_reason(images):
    with pytest.raises(OptionError, match="'mps' has no float64"):
        xlens.fit(trained_cnn(), images, Toy(), device="mps")
