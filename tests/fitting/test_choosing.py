"""The backend of whoever names none: what is chosen, what is said of it, and what is refused."""

from __future__ import annotations

import logging

import pytest
import torch
import toys
from torch import nn

import xlens
from xlens.contracts import EditingLens, LocalEdit
from xlens.data import as_data
from xlens.errors import BackendNotFoundError, DataError, ModelError, OptionError, UnsupportedError
from xlens.fitting.choosing import choose
from xlens.registry.loading import standing_in

CPU = torch.device("cpu")


class Spot(nn.Module):
    """Sees a bright spot of three pixels anywhere."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x):
        brightest = nn.functional.avg_pool2d(x[:, :1], 3, 1).flatten(1).amax(1)
        return self.scale * torch.stack([torch.zeros_like(brightest), brightest - 0.62], 1)


class Tone(Spot):
    """Sees whether an image is bright as a whole, which no small patch says."""

    def forward(self, x):
        return self.scale * torch.stack([torch.zeros(len(x)), x.flatten(1).mean(1) - 0.45], 1)


def spotted(n=40, side=32):
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.1 * torch.rand(n, 1, side, side, generator=generator)
    for i in range(0, n, 2):
        row, col = torch.randint(6, side - 9, (2,), generator=generator).tolist()
        images[i, :, row : row + 4, col : col + 4] = 0.95
    return images


def toned(n=80, side=32):
    """Images of two brightnesses, under noise that is far wider than what is between them."""
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.1 * torch.rand(n, 1, side, side, generator=generator)
    return images + 0.002 * (torch.arange(n) % 2 - 0.5)[:, None, None, None]


def chosen(model, images):
    classifier = xlens.Classifier(model.eval())
    with classifier.frozen(seed=0):
        return choose(classifier, as_data(images), seed=0, device=CPU)


def test_small_images_are_trained_on_and_it_is_said_why():
    found = chosen(Spot(), spotted(side=20))
    assert found.backend.name == "medxgan"
    assert "20 pixels" in found.reason
    assert f"for {found.backend.steps:,} steps" in str(found)


def test_evidence_that_small_patches_do_not_show_is_trained_on():
    found = chosen(Tone(), toned())
    assert found.backend.trains
    assert "hardly tell" in found.reason


def test_other_backends_are_taken_where_these_are_not_installed(toy_installed, trained):
    found = chosen(trained, toys.pictures(60, seed=3)[0])
    assert found.backend.name in ("plain", "toy")
    assert "no installed backend edits inputs without training" in found.reason


def test_signals_take_a_backend_that_takes_them():
    torch.manual_seed(0)
    found = chosen(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.randn(64, 12))
    assert "'medxgan' is for pictures" in found.reason
    assert found.backend.name != "medxgan"


@xlens.options
class Picky(toys.Toy):
    """Takes nothing."""

    name = "picky"

    def build(self, classifier, spec):
        raise UnsupportedError("picky: not these")


def test_where_nothing_fits_the_error_says_why(monkeypatch, trained):
    monkeypatch.setattr("xlens.fitting.choosing.offering", lambda capability: ())
    monkeypatch.setattr("xlens.fitting.choosing.backends", lambda: {"picky": ""})
    with standing_in(Picky), pytest.raises(BackendNotFoundError, match="'picky' does not take them.*not these"):
        chosen(nn.Linear(12, 2), torch.randn(64, 12))


@xlens.options
class Trained(xlens.Backend):
    """Edits, and says of itself that it trains."""

    name = "trained-edits"
    capabilities = ("edits",)
    tried = 0

    def fit(self, classifier, data, run):
        type(self).tried += 1
        return Whole(run.spec)

    def build(self, classifier, spec):
        return Whole(spec)


@xlens.options
class Quick(Trained):
    """Edits, and only looks at the data."""

    name = "quick-edits"
    trains = False


class Whole(EditingLens):
    features = (xlens.Feature("all", (0,), "class"),)

    def __init__(self, spec):
        super().__init__()
        self.spec = spec

    def edit(self, inputs, target, contrast):
        return LocalEdit(torch.zeros_like(inputs), torch.ones_like(inputs[:, :1, 0]), (None,) * len(inputs))

    def fill(self, inputs, mask):
        return inputs * (1 - mask)


@pytest.mark.parametrize(("kind", "tried"), [(Trained, 0), (Quick, 1)])
def test_only_what_trains_nothing_is_tried(monkeypatch, trained, kind, tried):
    monkeypatch.setattr(kind, "tried", 0)
    monkeypatch.setattr("xlens.fitting.choosing.offering", lambda capability: (kind.name,))
    with standing_in(kind):
        found = chosen(trained, toys.pictures(60, seed=3)[0])
    assert kind.tried == tried
    assert (found.backend.name == kind.name) == bool(tried)


def test_options_need_a_name_and_all_faults_are_said_at_once():
    with pytest.raises(OptionError, match="backend has to be named with side_info, steps.*") as said:
        xlens.fit(Spot(), spotted(), side_info=torch.ones(40, 1), steps=3, seed=-1)
    assert "seed" in str(said.value)


def test_the_one_line(caplog, capsys):
    """Chosen, shown or else said in the log, explained; with progress=False nothing is said."""
    model, images = Spot().eval(), spotted()
    with caplog.at_level(logging.INFO, "xlens"):
        found = xlens.explain(model, images[:2], data=images, progress=True)
    assert len(found) == 2
    assert bool(found.fidelity.flips[0])
    shown = capsys.readouterr().err
    assert "chose the backend 'infill'" in shown
    assert "explain: 100%" in shown
    assert "small regions" in shown
    assert "trains nothing" in shown
    assert not caplog.records
    with caplog.at_level(logging.INFO, "xlens"):
        xlens.explain(model, images[:1], data=images, progress=None)
    assert "chose the backend 'infill'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "xlens"):
        xlens.explain(model, images[:1], data=images, progress=False)
    assert capsys.readouterr().err == ""
    assert not caplog.records


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_the_one_line_takes_a_loader_and_gives_what_two_lines_give():
    model, images = Spot().eval(), spotted(16)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, torch.zeros(16)), batch_size=7)
    one = xlens.explain(model, loader, backend="infill", words=16, seed=3, progress=False)
    two = xlens.fit(model, loader, "infill", words=16, seed=3, progress=False).explain(images)
    assert torch.equal(one.inputs, two.inputs)
    assert torch.equal(one.counterfactual, two.counterfactual)


def test_images_in_a_list_are_no_batches():
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16, 2))
    with pytest.raises(ModelError, match=r"fails on these data.*torch\.stack\(images\)"):
        xlens.explain(flat.eval(), list(torch.rand(6, 3, 4, 4)), progress=False)


def test_one_class_alone_is_refused_in_words():
    with pytest.raises(DataError, match="one class") as fault:
        xlens.explain(Spot().eval(), spotted()[1::2], progress=False)
    assert "Pass data=" in fault.value.__notes__[0]
    with pytest.raises(DataError, match="one class") as fault:
        xlens.explain(Spot().eval(), spotted()[:1], data=spotted()[1::2], progress=False)
    assert not hasattr(fault.value, "__notes__")
