"""The DIF backend: that options, restarts and classes reach the fit, and its agreement against a loop."""

import functools
import warnings

import pytest
import torch
import toys
from torch import nn
from xlens_dif import DIF
from xlens_dif.sparse import PENALTIES

import xlens
from xlens.errors import XlensWarning

#: A mask of three steps, where the mask does not matter.
QUICK = toys.SHORT_MASK

OTHER = {
    "batch_size": 32,
    "bound": 2.0,
    "game": "none",
    "separation": "logistic",
    "separation_share": 0.3,
    "network": "convolutional",
    "learning_rate": 3e-3,
    "ema": 0.0,
    "reconstruction_weight": 5.0,
    "prior_weight": 0.5,
    "play_weight": 0.5,
    "margin": 8.0,
    "sharpness": 0.1,
}


@pytest.fixture(scope="module")
def weights_of(digits):
    """What a lens of these options learns; each is fitted once."""
    model, images = digits

    @functools.cache
    def weights_of(backend):
        return xlens.fit(model, images.train, backend, mask=QUICK, progress=False).lens.state_dict()

    return weights_of


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_every_option_of_training_changes_the_lens(weights_of, name):
    options = {"steps": 20, "hidden": 16, "restarts": 0, "learning_rate": 1e-2, "batch_size": 64}
    if name == "margin":
        # Reached at once; what lies above it pays nothing.
        options |= {"game": "margin", "steps": 60, "margin": 1.01}
    first, second = (weights_of(DIF(**options | other)) for other in ({}, {name: OTHER[name]}))
    weights = [key for key in first if key.startswith("encoder")]
    assert not all(key in second and torch.equal(first[key], second[key]) for key in weights)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_a_fit_begun_anew_begins_with_other_weights(digits, monkeypatch):
    model, images = digits
    built = []
    build = DIF.build

    def seen(self, *args):
        lens = build(self, *args)
        built.append(lens.decoder.trunk[0].weight.detach().clone())
        return lens

    monkeypatch.setattr(DIF, "build", seen)
    monkeypatch.setattr("xlens_dif.health.Health.problems", property(lambda self: ("unsound",)))
    xlens.fit(model, images.train, "dif", steps=2, hidden=16, restarts=2, mask=QUICK, progress=False)
    first, second, third = built
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


@pytest.mark.filterwarnings("error")
def test_without_introspection_the_kls_are_no_problem(digits, monkeypatch):
    from xlens_dif import backend

    told = []
    examine = backend.examine
    monkeypatch.setattr(backend, "examine", lambda *a, **k: told.append(examine(*a, **k)) or told[-1])
    model, images = digits
    options = {"steps": 150, "hidden": 64, "code": 8, "game": "none", "mask": QUICK, "progress": False}
    explainer = xlens.fit(model, images.train, "dif", **options)
    assert not explainer.lens.health.played
    assert not told[0].played


def test_every_batch_holds_its_share_of_each_class(monkeypatch):
    """One input in eight is of class 1: two of each 16."""
    linear = nn.Linear(5, 1)
    with torch.no_grad():
        linear.weight.zero_()[0, 0] = 1
        linear.bias.zero_()
    inputs = torch.rand(128, 5)
    inputs[:, 0] = torch.where(torch.arange(128) < 16, 1.0, -1.0)
    seen = []
    name = "xlens_dif.objective.mean_embedding_separation"
    monkeypatch.setattr(name, lambda _, c, *__: seen.append(int(c.sum())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"steps": 24, "hidden": 16, "batch_size": 16, "restarts": 0, "drawn_classes": False}
        xlens.fit(linear, inputs, "dif", mask=QUICK, progress=False, **options)
    assert set(seen) <= {1, 2, 3}


@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_agreement_against_a_loop(penalty):
    """A lens with random weights, whose sparse models are not of one mind."""
    torch.manual_seed(0)
    classifier = toys.linear_classifier((5,), 3)
    lens = DIF(code=6, hidden=8, feature_penalty=penalty).build(classifier, toys.spec((5,), 3)).eval()
    lens.weights.copy_(torch.randn(4, 3, 6))
    lens.intercepts.copy_(0.1 * torch.randn(4, 3))
    inputs = torch.randn(80, 5)
    found = lens.agreement(inputs)
    agreed, confirmed, flips = [0] * 4, 0, 0
    with torch.no_grad():
        for x in inputs.split(1):
            code, ranked = lens.encode(x), classifier(x)[0].argsort(descending=True)
            for place in range(4):
                agreed[place] += int((lens.weights[place] @ code[0] + lens.intercepts[place]).argmax() == ranked[0])
            edited = lens.counterfactual(code, ranked[:1], ranked[1:2])
            now = classifier(lens.decode(edited))[0].argmax()
            place = PENALTIES.index(penalty)
            confirmed += int((lens.weights[place] @ edited[0] + lens.intercepts[place]).argmax() == now)
            flips += int(now == ranked[1])
    assert found.sparse.tolist() == pytest.approx([count / 80 for count in agreed])
    assert found.confirmed == pytest.approx(confirmed / 80)
    assert found.flips == pytest.approx(flips / 80)


def test_a_fit_interrupted_after_a_restart_resumes_to_the_same_lens(digits, tmp_path, monkeypatch):
    from xlens_dif import backend
    from xlens_dif.health import Health

    model, images = digits
    options = {"steps": 8, "hidden": 16, "restarts": 1, "mask": QUICK, "progress": False}

    def stop(event):
        if event.phase == "dif-2" and event.step == 5:
            raise KeyboardInterrupt

    def fit(**more):
        answers = iter([Health(5.0, 4.0, 0.5, True), Health(5.0, 6.0, 0.5, True)])
        monkeypatch.setattr(backend, "examine", lambda *_, **__: next(answers))
        with pytest.warns(XlensWarning, match="begun anew"):
            return xlens.fit(model, images.train, "dif", **options, **more)

    whole = fit()
    with pytest.raises(KeyboardInterrupt):
        fit(output_dir=tmp_path, on_step=stop)
    resumed = fit(output_dir=tmp_path, resume=True)
    for name, value in whole.lens.state_dict().items():
        assert torch.equal(value, resumed.lens.state_dict()[name]), name
