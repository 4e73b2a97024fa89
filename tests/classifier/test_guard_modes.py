"""Switches around a call do not decide its result, and are as they were afterwards."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, contextmanager

import pytest
import torch
from torch import nn

import xlens
from xlens import Classifier
from xlens.classifier.quiet import quiet
from xlens.classifier.turns import Turn, out_of_turn
from xlens.testing.state import differing, process_state
from xlens.testing.world import pictures, trained_cnn


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "meta by default": lambda: default_device("meta"),
    "meta within": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic": deterministic,
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.fixture(scope="module")
def model():
    return trained_cnn()


def seen():
    """What a program finds switched on, in its thread and in its process."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_dtype(),
        torch.empty(0).device,
        torch.is_anomaly_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_users_code_within_a_call_finds_the_users_modes(mode):
    plain = seen()
    with MODES[mode]():
        before = seen()
        with Turn(), torch.enable_grad():
            inside = seen()
            with out_of_turn():
                outside = seen()
            again = seen()
        after = seen()
    assert before == outside == after != plain
    assert inside == again
    assert seen() == plain


def test_a_callback_of_a_fit_finds_the_users_modes(model):
    found = []
    mask = xlens.MaskOptions(steps=1, pool=64)
    with torch.autocast("cpu", torch.bfloat16), default_dtype(torch.float64), torch.no_grad():
        before = seen()
        xlens.fit(model, INPUTS, "svae", steps=2, mask=mask, progress=False, on_step=lambda _: found.append(seen()))
    assert found == [before] * 3


def heard(category):
    with warnings.catch_warnings(record=True) as found:
        warnings.warn("said", category, stacklevel=1)
    return bool(found)


def test_who_has_a_turn_meanwhile_gets_warnings():
    """And a filter that is placed there stays."""
    before = list(warnings.filters)
    with Turn(), quiet(), quiet(UserWarning):
        assert not heard(DeprecationWarning)
        with out_of_turn():
            assert warnings.filters == before
            warnings.simplefilter("always", FutureWarning)
            assert heard(DeprecationWarning)
        assert not heard(DeprecationWarning)
    assert warnings.filters == [("always", None, FutureWarning, None, 0), *before]
    warnings.filters.pop(0)


INPUTS = pictures(48, seed=1)[0]
FEW = INPUTS[:2].clone()


def everything(model, folder):
    """Fit, ask, save, load and judge; return all numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = xlens.MaskOptions(steps=2)
        explainer = xlens.fit(model, INPUTS, "svae", steps=3, mask=mask, progress=False)
        explanation = explainer.explain(FEW, n_steps=4, tolerance=0.5, attributions=("lig", "gradient_shap"))
        explainer.save(folder)
        loaded = xlens.load(folder, model)
        judged = xlens.evaluate(loaded, INPUTS[:4], methods=("lig",), steps=2, progress=False)
        found = dict(loaded.lens.state_dict())
        found |= {f"map {name}": values for name, values in explanation.attributions.items()}
        found["counterfactual"] = explainer.counterfactual(FEW)
        found["frames"] = explainer.traverse(FEW, 0, [0.0, 1.0])
        found["sample"] = explainer.sample(2, target=1)
        found["variants"] = explainer.invariances(FEW, 2).variants
        found |= {f"{f.contender} {f.name}": f.values for f in judged.figures}
    return {name: values.detach() for name, values in found.items()}


@pytest.fixture(scope="module")
def plain(model, tmp_path_factory):
    return everything(model, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", MODES)
def test_a_mode_around_a_call_changes_nothing(model, plain, tmp_path, name):
    with MODES[name]():
        before = process_state()
        found = everything(model, tmp_path)
        changed = differing(before, process_state())
        casting, device = torch.is_autocast_enabled("cpu"), torch.empty(0).device
    assert not changed
    assert casting == (name == "autocast")
    assert device.type == ("meta" if "meta" in name else "cpu")
    assert found.keys() == plain.keys()
    different = [
        key
        for key in plain
        if found[key].dtype != plain[key].dtype
        or not torch.equal(found[key].nan_to_num(7.0), plain[key].nan_to_num(7.0))
    ]
    assert not different


class Makes(nn.Module):
    """Makes a tensor in its forward pass, of the program's defaults."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, inputs):
        self.made = torch.ones(4)
        return self.linear(inputs * self.made)


def test_a_model_finds_defaults_that_are_its_own():
    model = Makes().double()
    classifier = Classifier(model)
    seen = []
    model.register_forward_hook(lambda module, *_: seen.append(module.made.dtype))
    with default_dtype(torch.float64), classifier.frozen(seed=0):
        assert torch.get_default_dtype() == torch.float32
        classifier(torch.ones(2, 4))
        assert torch.get_default_dtype() == torch.float32
    with default_dtype(torch.float16), classifier.frozen(seed=0):
        classifier(torch.ones(2, 4))
    assert seen == [torch.float64, torch.float32]


def test_modes_are_put_back_after_a_fault():
    with ExitStack() as stack:
        for enter in MODES.values():
            stack.enter_context(enter())
        before = process_state()
        with pytest.raises(ZeroDivisionError), Classifier(Makes()).frozen(seed=0):
            raise ZeroDivisionError
        assert not differing(before, process_state())
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_default_device().type == "meta"
