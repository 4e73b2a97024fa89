"""What is asked of the classifier before anything is trained."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from torch import nn

import xlens
from xlens import Classifier
from xlens.errors import ModelError, XlensWarning
from xlens.fitting.answers import check_answers, check_gradient, check_outputs
from xlens.testing.world import pictures, trained_cnn

INPUTS = pictures(64, seed=1)[0]


@pytest.fixture(scope="module")
def model():
    return trained_cnn()


class Through(nn.Module):
    """Another way to the same logits."""

    def __init__(self, net, way):
        super().__init__()
        self.net, self.way = net, way

    def forward(self, inputs):
        return self.way(self.net, inputs)


def without_gradients(net, inputs):
    with torch.no_grad():
        return net(inputs)


def in_inference_mode(net, inputs):
    with torch.inference_mode():
        return net(inputs)


def fit(model):
    trained = []
    try:
        short = xlens.MaskOptions(steps=1, pool=64)
        xlens.fit(model, INPUTS, "svae", steps=2, mask=short, progress=False, on_step=trained.append)
    finally:
        fit.steps = len(trained)


def loaded(traced):
    file = io.BytesIO()
    torch.jit.save(traced, file)
    return torch.jit.load(io.BytesIO(file.getvalue()))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda net, x: loaded(torch.jit.trace(net, x)), "takes no hooks"),
        (lambda net, x: torch.jit.freeze(torch.jit.trace(net, x)), "takes no hooks"),
        (lambda net, x: torch.export.export(net, (x,)).module(), "no eval mode"),
    ],
    ids=["loaded", "frozen", "exported"],
)
def test_a_compiled_program_is_refused_in_words(how, says):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    with pytest.raises(ModelError, match=f"compiled.*{says}.*the torch.nn.Module that it was made from"):
        fit(how(net, INPUTS[:2]))
    assert not fit.steps


@pytest.mark.parametrize(
    "way",
    [
        without_gradients,
        in_inference_mode,
        lambda net, x: net(x).detach(),
        lambda net, x: net(x.detach()),
        lambda net, x: torch.from_numpy(net(x.detach()).detach().numpy()),
    ],
    ids=["no_grad", "inference_mode", "detached outputs", "detached inputs", "numpy"],
)
def test_no_gradient_is_refused_before_training(model, way):
    with pytest.raises(ModelError, match="no gradient of the classifier reaches its inputs.*torch.no_grad"):
        fit(Through(model, way))
    assert fit.steps == 0


def test_a_quantised_model_is_refused_in_words():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        net = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, torch.qint8)
    with pytest.raises(ModelError, match="no gradient.*not quantised"):
        fit(net)
    assert fit.steps == 0


def test_probabilities_that_were_promised_as_logits(model):
    softmax = Through(model, lambda net, x: net(x).softmax(1))
    with pytest.raises(ModelError, match="look like probabilities.*outputs='probabilities'"):
        fit(softmax)
    assert fit.steps == 0
    fit(Classifier(softmax, outputs="probabilities"))
    sigmoid = Through(model, lambda net, x: (net(x)[:, 1] - net(x)[:, 0]).sigmoid())
    with pytest.raises(ModelError, match="single output looks like a probability.*without its sigmoid"):
        fit(sigmoid)
    fit(Classifier(sigmoid, outputs="probabilities"))


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_independent_labels_are_refused_and_the_way_to_say_them_is_named(model, outputs):
    labels = Through(model, lambda net, x: net(x).sigmoid())
    with pytest.raises(ModelError, match="yes/no labels.*outputs='multilabel_probabilities', label=0.*'multilabel"):
        fit(Classifier(labels, outputs=outputs))
    assert fit.steps == 0


def test_logits_that_happen_to_lie_between_0_and_1_are_let_pass_with_a_word(model):
    small = Through(model, lambda net, x: 0.5 + 0.1 * net(x).tanh())
    says = r"from 0\.4.* to 0\.[56].*outputs='multilabel_probabilities'.*nothing to do"
    with pytest.warns(XlensWarning, match=says):
        fit(small)
    values = torch.rand(8, 3) * 0.2 + 0.4
    with pytest.warns(XlensWarning, match="multilabel_probabilities.*nothing to do"):
        check_outputs("multilabel", values)
    values[0, 0], values[1, 1] = 0.05, 0.95
    for outputs in ("multilabel", "logits"):
        with pytest.raises(ModelError, match=r"0\.05 to 0\.95"):
            check_outputs(outputs, values)


def test_labels_that_are_said_wrongly(model):
    with pytest.raises(ModelError, match="which of the classifier's independent labels.*about\\('a'\\)"):
        fit(Classifier(model, outputs="multilabel", labels=["a", "b", "c"]))
    sigmoid = Through(model, lambda net, x: net(x).sigmoid())
    with pytest.raises(ModelError, match="multilabel_probabilities.*without its sigmoid"):
        fit(Classifier(sigmoid, outputs="multilabel", label=1))
    softmax = Through(model, lambda net, x: net(x).softmax(1))
    with pytest.raises(ModelError, match="sum to 1 in each row.*outputs='probabilities'"):
        fit(Classifier(softmax, outputs="multilabel_probabilities", label=1))
    assert fit.steps == 0
    fit(Classifier(sigmoid, outputs="multilabel_probabilities", label=1))
    with pytest.raises(
        ModelError, match="labels were promised, and the classifier's outputs are none.*'multilabel'"
    ):
        fit(Classifier(model, outputs="multilabel_probabilities", label=1))


def test_logits_that_were_promised_as_probabilities(model):
    with pytest.raises(ModelError, match="probabilities were promised, and the classifier's outputs are none"):
        fit(Classifier(model, outputs="probabilities"))
    assert fit.steps == 0


def test_ordinary_outputs_are_not_remarked_upon(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", XlensWarning)
        check_outputs("logits", torch.tensor([[0.1, 0.9], [3.0, -1.0]]))
        check_outputs("logits", torch.tensor([[0.0, 0.5], [0.0, -0.5]]))
        check_outputs("probabilities", torch.tensor([[0.25, 0.75], [1.0, 0.0]]).clamp_min(1e-38).log())
        check_gradient(Classifier(model), INPUTS[:4])


def test_percent_that_were_promised_as_logits():
    logits = 3 * torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ModelError, match="parts of a whole.*sums to 100.*divide them by 100"):
        check_outputs("logits", 100 * logits.softmax(1))
    for right in (logits, logits - logits.mean(1, keepdim=True), logits.abs(), 100 * logits.softmax(1)[:2]):
        check_outputs("logits", right)


@pytest.mark.parametrize("period", [2, 4, 5, 8, 16])
def test_classes_that_take_turns_in_the_data_are_met_at_all_of_them(period):
    """Rows at a fixed distance add up to 10, as percent would to 100; the others are logits as they come."""

    class Turns(nn.Module):
        def forward(self, x):
            first = 5 + 4 * x[:, 0]
            alike = torch.stack([first, 10 - first], 1)
            return torch.where(x[:, 1:] == 0, alike, torch.stack([first, -20 * x[:, 1]], 1))

    rows = torch.arange(1024)
    inputs = torch.stack([torch.rand(1024, generator=torch.Generator().manual_seed(0)), (rows % period).float()], 1)
    check_answers(Classifier(Turns()), inputs)
    with pytest.raises(ModelError, match="each of which sums to 10"):
        check_answers(Classifier(Turns()), inputs[::period])


def test_a_gradient_of_nothing_is_said(model):
    with pytest.warns(XlensWarning, match="exactly 0 on all of 4"):
        check_gradient(Classifier(Through(model, lambda net, x: net(x.round() * 1.0))), INPUTS[:4])
