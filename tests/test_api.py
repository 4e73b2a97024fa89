"""`fit`: every bad input named, and the model left exactly as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import toys
from guard import unchanged
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import xlens
from xlens.errors import (
    BackendNotFoundError,
    DataError,
    ModelError,
    OptionError,
    UnsupportedError,
    XlensError,
)

pytestmark = pytest.mark.usefixtures("toy_installed")


@pytest.fixture
def fit(trained, images):
    """Fit the toy under guard."""

    def fit(model=trained, data=images, backend="toy", mask=toys.SHORT_MASK, **arguments):
        module = model.model if isinstance(model, xlens.Classifier) else model
        guarded = module if isinstance(module, nn.Module) else trained
        with unchanged(guarded):
            return xlens.fit(model, data, backend, mask=mask, progress=False, **arguments)

    return fit


# --- what works -----------------------------------------------------------------------------------


def test_a_name_with_options_is_a_backend_object(fit):
    assert fit(strength=2.0).backend == fit(backend=toys.Toy(strength=2.0)).backend == toys.Toy(strength=2.0)


@pytest.mark.parametrize(
    "form",
    [lambda x, y: x, lambda x, y: x.numpy(), lambda x, y: (x, y), lambda x, y: TensorDataset(x, y),
     lambda x, y: DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)],
)  # fmt: skip
def test_the_spec_says_what_the_data_are(fit, trained, images, labels, form):
    spec = fit(data=form(images, labels)).spec
    assert (spec.shape, spec.num_classes) == ((1, 8, 8), 3)
    assert spec.minimum == pytest.approx((toys.DARK,))
    assert spec.maximum == pytest.approx((toys.BRIGHT,))
    assert spec.mean == pytest.approx((images.numpy().mean(),), abs=1e-5)
    assert spec.std == pytest.approx((images.numpy().std(),), abs=1e-5)
    logits = copy.deepcopy(trained).eval()(images).detach()
    predicted = [int(row.argmax()) for row in logits]
    for c in range(3):
        rows = [row for row, p in zip(logits, predicted, strict=True) if p == c]
        for t in range(3):
            gaps = sorted(float(row[c] - row[t]) for row in rows)
            assert spec.class_margins[c][t] == pytest.approx(gaps[(len(gaps) - 1) // 2], abs=1e-3)


def test_the_same_seed_gives_the_same_lens(fit):
    first, second, other = fit(seed=1), fit(seed=1), fit(seed=2)
    state = lambda explainer: torch.cat([v.flatten() for v in explainer.mask.state_dict().values()])  # noqa: E731
    assert torch.equal(state(first), state(second))
    assert not torch.equal(state(first), state(other))


def test_the_lens_comes_back_frozen(fit):
    explainer = fit()
    assert not explainer.lens.training
    assert not any(p.requires_grad for p in [*explainer.lens.parameters(), *explainer.mask.parameters()])


def test_fitting_works_where_the_caller_has_switched_gradients_off(fit):
    with torch.no_grad():
        assert fit().backend.name == "toy"


def test_an_interrupted_fit_resumes_to_the_same_lens(fit, tmp_path):
    mask = xlens.MaskOptions(steps=8)

    def interrupt(event):
        if event.step == 5:
            raise KeyboardInterrupt

    whole = fit(mask=mask)
    with pytest.raises(KeyboardInterrupt):
        fit(mask=mask, output_dir=tmp_path, on_step=interrupt)
    seen = []
    resumed = fit(mask=mask, output_dir=tmp_path, resume=True, on_step=lambda event: seen.append(event.step))
    assert seen == [6, 7, 8]
    for a, b in zip(whole.mask.state_dict().values(), resumed.mask.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_other_data_or_options_is_refused(fit, tmp_path, images):
    fit(output_dir=tmp_path)
    for change in ({"data": images[:60]}, {"seed": 1}, {"strength": 2.0}, {"mask": None}):
        with pytest.raises(XlensError, match="another run"):
            fit(output_dir=tmp_path, resume=True, **change)


def test_a_checkpoint_of_other_side_info_is_refused(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(toys.Toy, "capabilities", ("side_info",))
    fit(output_dir=tmp_path, side_info=torch.zeros(96, 2))
    with pytest.raises(XlensError, match="another run"):
        fit(output_dir=tmp_path, side_info=torch.ones(96, 2), resume=True)


def test_class_names_reach_the_explanation(fit, trained, images):
    explainer = fit(model=xlens.Classifier(trained, class_names=("none", "bright", "dark")))
    assert explainer.explain(images[:1], attributions=()).class_names == ("none", "bright", "dark")


@pytest.mark.parametrize("kind", ["binary", "probabilities", "double", "dict"])
def test_kinds_of_models(fit, images, kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3))

        class Head(nn.Module):
            def __init__(self):
                super().__init__()
                self.base = base

            def forward(self, inputs):
                out = self.base(inputs)
                return {
                    "binary": lambda: (out[:, 0] - out[:, 1]) * 30,
                    "probabilities": lambda: out.softmax(1),
                    "double": lambda: out,
                    "dict": lambda: {"logits": out},
                }[kind]()

        model = Head().double() if kind == "double" else Head()
    outputs = "probabilities" if kind == "probabilities" else "logits"
    explainer = fit(model=xlens.Classifier(model, outputs=outputs))
    assert explainer.spec.num_classes == (2 if kind == "binary" else 3)
    with unchanged(model):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whether these untrained models flip is not the question
            found = explainer.explain(images[:3])
    assert found.scores.isfinite().all()
    assert len(found) == 3


# --- what does not ----------------------------------------------------------------------------------


def test_a_misspelt_option_gets_a_suggestion(fit):
    with pytest.raises(OptionError, match="unknown option 'strenght'. Did you mean 'strength'"):
        fit(strenght=1.0)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("sede", "seed"), ("supervison", "supervision"), ("outputdir", "output_dir"), ("maks", "mask")],
)
def test_a_misspelt_argument_of_fit_gets_a_suggestion(fit, wrong, meant):
    with pytest.raises(OptionError, match=f"unknown option '{wrong}'. Did you mean '{meant}'"):
        fit(**{wrong: 1})


def test_all_faults_are_in_one_error(fit):
    with pytest.raises(OptionError) as caught:
        fit(strenght=1.0, kind="odd", seed=-1, supervision="teacher", resume=True)
    text = str(caught.value)
    for word in ("'strenght'", "kind must be", "seed must be", "supervision must be", "resume=True needs"):
        assert word in text


def test_a_backend_that_is_not_installed(fit):
    with pytest.raises(BackendNotFoundError, match=r"no backend 'tyo' is installed. Did you mean 'toy'\?"):
        fit(backend="tyo")


@pytest.mark.parametrize("backend", [toys.Toy, 3])
def test_a_backend_that_is_neither_name_nor_object(fit, backend):
    with pytest.raises(OptionError, match="neither a name nor a backend object"):
        fit(backend=backend)


def test_options_beside_a_backend_object(fit):
    with pytest.raises(OptionError, match=r"options beside a backend object.*Toy\(strength=...\)"):
        fit(backend=toys.Toy(), strength=2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": {"steps": 3}}, r"mask must be xlens.MaskOptions\(...\) or None, got {'steps': 3}"),
        ({"resume": True}, "resume=True needs the output_dir"),
        ({"seed": -1}, "seed must be an int >= 0 .*got -1"),
        ({"seed": 1.5}, "seed must be"),
        ({"seed": True}, "seed must be"),
        ({"seed": 2**64}, "seed must be"),
        ({"supervision": "teacher"}, "'classifier' or 'labels', got 'teacher'"),
        ({"device": "gpu"}, "device"),
        ({"device": "cuda:97"}, "device"),
    ],
)
def test_arguments_out_of_range(fit, arguments, message):
    with pytest.raises(OptionError, match=message):
        fit(**arguments)


def test_an_output_dir_that_is_a_file(fit, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="output_dir must be a folder, got the file"):
        fit(output_dir=tmp_path / "file")


@pytest.mark.parametrize(("name", "value"), [("side_info", torch.zeros(96, 2)), ("over", object())])
def test_what_a_backend_does_not_use(fit, name, value):
    with pytest.raises(UnsupportedError, match=f"'toy' does not use {name}.*none is installed"):
        fit(**{name: value})


def test_side_info_of_the_wrong_length(fit, monkeypatch):
    monkeypatch.setattr(toys.Toy, "capabilities", ("side_info",))
    with pytest.raises(DataError, match=r"side_info does not fit the data. Given: \(5, 2\). Allowed: \(96, A\)"):
        fit(side_info=torch.zeros(5, 2))


DATES = [1.6e9 + i for i in range(96)]


@pytest.mark.parametrize("table", [DATES, np.array(DATES), [[None], *([v] for v in DATES[1:])]])
def test_side_info_keeps_what_float32_would_lose(fit, monkeypatch, table):
    monkeypatch.setattr(toys.Toy, "capabilities", ("side_info",))
    seen = []
    train = toys.Toy.fit

    def watched(backend, classifier, data, run):
        seen.append(run.side_info)
        return train(backend, classifier, data, run)

    monkeypatch.setattr(toys.Toy, "fit", watched)
    fit(side_info=table)
    assert seen[0].shape == (96, 1)
    assert len(seen[0][1:].unique()) == 95


@pytest.mark.parametrize("table", [["red"] * 96, object(), [[1.0], [1.0, 2.0]]])
def test_side_info_that_is_no_table(fit, monkeypatch, table):
    monkeypatch.setattr(toys.Toy, "capabilities", ("side_info",))
    with pytest.raises(DataError, match="side_info is no table of numbers"):
        fit(side_info=table)


def test_labels(fit, images, labels):
    with pytest.raises(DataError, match="supervision='labels', but the data have no labels"):
        fit(supervision="labels")
    with pytest.raises(DataError, match="labels from 0 to 5. Allowed: 0 to 2"):
        fit(data=(images, torch.where(labels == 2, 5, labels)), supervision="labels")
    with pytest.raises(DataError, match="90 labels for 96 inputs"):
        fit(data=(images, labels[:90]), supervision="labels")
    with pytest.raises(DataError, match="all labels are the same.*all 1"):
        fit(data=(images, torch.ones_like(labels)), supervision="labels")
    assert fit(data=(images, labels), supervision="labels").provenance["supervision"] == "labels"
    for wrong in (torch.full((96,), torch.nan), labels + 0.5):
        with pytest.raises(DataError, match="labels are not class indices"):
            fit(data=(images, wrong), supervision="labels")
    with pytest.raises(DataError, match="a list of str beside the inputs, which are no numbers"):
        fit(data=(images, ["cat"] * 96), supervision="labels")
    # What is not used is not looked at.
    for unused in (labels + 100, ["cat"] * 96, labels[:90]):
        fit(data=(images, unused))


class Odd(nn.Module):
    """Returns or raises whatever it is told to."""

    def __init__(self, act):
        super().__init__()
        self.linear, self.act = nn.Linear(64, 3), act

    def forward(self, inputs):
        return self.act(self.linear(inputs.flatten(1)))


def raises(fault):
    def act(_out):
        raise fault

    return act


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda out: [out], "cannot find the logits in what the model returns. Given: list"),
        (lambda out: out * torch.nan, "returns values that are not finite"),
        (lambda out: out[:, :1, None], "one row of class scores per input"),
        (raises(RuntimeError("mat1 and mat2")), "fails on these data.*mat1 and mat2"),
        (raises(ValueError("channel dimension")), "fails on these data.*channel dimension"),
        (raises(AssertionError()), "fails on these data.*AssertionError"),
    ],
)
def test_models_that_cannot_be_used(fit, act, message):
    with pytest.raises(ModelError, match=message):
        fit(model=Odd(act))


def test_no_model(fit):
    with pytest.raises(ModelError, match="not a torch.nn.Module. Given: str"):
        fit(model="resnet18")


def test_a_layer_that_does_not_exist(trained):
    with pytest.raises(ModelError, match=r"no layer 'haed'. Did you mean 'head'"):
        xlens.Classifier(trained, layer="haed")


def nan_at_41(images):
    images = images.clone()
    images[41, 0, 0, 0] = torch.nan
    return images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:0], "data: empty"),
        (lambda x: [], "data: empty. Given: 0 batches"),
        (nan_at_41, "input 41 has values that are not finite"),
        (lambda x: x[1::3], "puts every input in one class.*all of class 1"),
        (lambda x: x[:2].mean() + 0 * x, "same constant"),
        (lambda x: [x, x[:, :, :6]], r"different shapes. Given: \(1, 6, 8\) after \(1, 8, 8\)"),
        (lambda x: iter([x]), "used up after one pass"),
        (lambda x: "folder/", "cannot make batches"),
    ],
)
def test_data_that_cannot_be_used(fit, images, change, message):
    with pytest.raises(DataError, match=message):
        fit(data=change(images))


def test_a_wrong_channel_count_is_an_error_of_the_model(fit, images):
    with pytest.raises(
        ModelError, match=r"inputs of shape \(96, 3, 8, 8\).*expected.*1 channels.*number of channels"
    ):
        fit(data=images.expand(-1, 3, -1, -1))


def test_class_names_that_do_not_fit(fit, trained):
    with pytest.raises(DataError, match="class_names do not fit.*Given: 2 names. Allowed: 3"):
        fit(model=xlens.Classifier(trained, class_names=("a", "b")))


# --- backends that fail -------------------------------------------------------------------------------


def backend_that(act):
    class Failing(toys.Toy):
        def fit(self, classifier, data, run):
            classifier.model.train()
            with torch.no_grad():
                classifier.model.head.weight.add_(1)
            classifier.model.head.register_forward_hook(lambda *_: None)
            torch.rand(5)
            return act(classifier, run)

    return Failing()


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
def test_the_model_is_as_it_was_when_the_backend_raises(fit, fault):
    def act(_classifier, _run):
        raise fault("in the middle")

    with pytest.raises(fault, match="in the middle"):
        fit(backend=backend_that(act))


def test_a_backend_that_returns_no_lens(fit):
    with pytest.raises(XlensError, match="'toy' returned no lens. Given: Linear"):
        fit(backend=backend_that(lambda classifier, run: nn.Linear(2, 2)))


def test_a_lens_that_is_not_finite_ends_in_an_error(fit):
    with pytest.raises(XlensError, match="not finite"), pytest.warns(xlens.errors.XlensWarning):
        fit(backend=backend_that(lambda classifier, run: toys.NanLens()))
