"""Layers of every shape as values, where a classifier can be cut, and what is refused before training."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
import toys
from ours import OPTIONS
from torch import nn

import xlens
from xlens.data import as_data
from xlens.errors import ModelError, OptionError, StorageError, UnsupportedError
from xlens.plot.words import other_case
from xlens.registry.loading import offering
from xlens.report import to_html
from xlens.stages.arrangement import Arrangement, order_of
from xlens.stages.bank import Bank
from xlens.stages.cutting import layers_that_cut
from xlens.stages.values import EncodedData, encoded

SMALL = {"steps": 3, "hidden": 16, "class_code": 2, "nuisance_code": 3, "batch_size": 16, "consistency_rows": 4}


class Skipping(nn.Module):
    """A block with a path around it, and a head."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(1, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.after = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        h = self.entry(x)
        return self.head(self.after(h + self.inner(h).relu()))


class Lasting(nn.Module):
    """Maps with their channels last, as Swin has them."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(1, 6, 3, padding=1)
        self.turn, self.norm, self.head = nn.Identity(), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        h = self.norm(self.turn(self.entry(x).permute(0, 2, 3, 1)))
        return self.head(h.amax((1, 2)))


class Tokens(nn.Module):
    """Patches as tokens, with a block that is a path around attention, as a ViT has them."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(1, 8, 2, 2), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(self.norm(tokens).mean(1))


class Untraceable(Lasting):
    """Asks its input in Python, which no tracing follows."""

    def forward(self, x):
        return super().forward(x if float(x.sum()) > 1e9 else x + 0)


@pytest.fixture(scope="module")
def data():
    return toys.pictures(90, seed=0)[0]


def around(model, layer, data):
    torch.manual_seed(0)
    model = model().eval()
    with torch.no_grad():
        # Otherwise one class has all inputs.
        model.head.bias.sub_(model(data).mean(0))
    return xlens.Classifier(model, layer=layer)


def fitted(classifier, data, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xlens.fit(classifier, data, "svae", progress=False, **SMALL, **more)


@pytest.mark.parametrize(
    ("model", "layer", "shape"),
    [
        (Skipping, "after", (16,)),
        (Skipping, "after.1", (4, 2, 2)),
        (Lasting, "norm", (6, 8, 8)),
        (Lasting, "turn", (6, 8, 8)),
        (Untraceable, "norm", (6, 8, 8)),
        (Tokens, "norm", (8, 16)),
    ],
)
def test_layers_of_any_shape_are_fitted_on_and_come_back(model, layer, shape, data):
    classifier = around(model, layer, data)
    explainer = fitted(classifier, data)
    with xlens.asking(explainer) as lens:
        assert lens.stage.spec.shape == shape
        values = lens.stage.encode(data)
        back = lens.stage.decode(values)
        assert torch.allclose(back, classifier.activations(data), atol=1e-5)
        # The classifier of values says what the user's says of inputs.
        assert torch.allclose(lens.stage.classifier(values), classifier(data), atol=1e-4)
        spread = values.transpose(0, 1).flatten(1)
    assert torch.allclose(spread.mean(1), torch.zeros(shape[0]), atol=1e-3)
    assert torch.allclose(spread.std(1), torch.ones(shape[0]), atol=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = explainer.explain(data[:1])
    difference = (found.scores - found.counterfactual_scores).double()
    assert torch.allclose(found.attributions["lig"].double().sum(), difference.sum(), rtol=0.01, atol=0.01)


def test_a_layer_with_paths_around_it_is_refused_before_training_and_others_are_named(data, monkeypatch):
    monkeypatch.setattr("xlens.training.trainer.Trainer.fit", lambda *_, **__: pytest.fail("it trained"))
    classifier = around(Skipping, "inner", data)
    with pytest.raises(ModelError, match="not decided by the layer 'inner' alone.*entry, after.0, after.1"):
        fitted(classifier, data)
    with classifier.frozen():
        near = layers_that_cut(classifier, data[:4])
    assert near == ("entry", "after.0", "after.1")


class TokensFirst(nn.Module):
    """Tokens as (T, N, D), and as many of them as inputs that a fit asks about."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm, self.head = nn.Conv2d(1, 6, (4, 2), (4, 2)), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.norm(self.patches(x).flatten(2).permute(2, 0, 1)).mean(0))


def test_tokens_before_inputs_are_no_rows_of_inputs_however_many_there_are(data):
    with pytest.raises(ModelError, match=r"'norm' puts out no activations of each input. Given: \(8, 8, 6\)"):
        fitted(around(TokensFirst, "norm", data), data)


def test_what_follows_the_layer_goes_where_its_owner_moves_the_model(data):
    classifier = around(Skipping, "after.1", data)
    stage = fitted(classifier, data).lens.stage
    with torch.no_grad():
        values = stage.encode(data[:2])
        classifier.model.to("meta")
        # The lens stays where it is, and what stands between the two joins them.
        assert stage.classifier.model(values).device.type == "meta"
        assert stage.decode(values).device.type == "cpu"


def test_infill_refuses_layers_and_names_those_that_do_not(data):
    with pytest.raises(UnsupportedError, match="'infill' cannot be fitted on a hidden layer.*ilvm.*medxgan.*svae"):
        xlens.fit(around(Skipping, "after", data), data, "infill", progress=False)


def test_a_decoder_needs_a_layer_and_a_lens_that_does_not_read_it_itself(data):
    with pytest.raises(OptionError, match="decoder is for lenses.*without a layer"):
        fitted(around(Skipping, None, data), data, decoder=True)
    with pytest.raises(OptionError, match="'ilvm', which reads the layer itself"):
        xlens.fit(around(Skipping, "after", data), data, "ilvm", decoder=True, progress=False)
    with pytest.raises(OptionError, match=r"decoder is wrong.*'yes'.*DecoderOptions"):
        fitted(around(Skipping, "after", data), data, decoder="yes")


def test_show_is_refused_where_there_is_no_layer_or_no_decoder(data):
    explainer = fitted(around(Skipping, "after", data), data)
    with pytest.raises(UnsupportedError, match="no decoder from the layer 'after'.*decoder=True"):
        explainer.counterfactual(data[:1], show="decode")
    with pytest.raises(OptionError, match="show must be one of 'retrieve', 'decode', got 'best'"):
        explainer.explain(data[:1], show="best")
    on_inputs = fitted(around(Skipping, None, data), data, mask=toys.SHORT_MASK)
    with pytest.raises(OptionError, match="counterfactual: show is for lenses on a hidden layer"):
        on_inputs.counterfactual(data[:1], show="retrieve")


def test_the_decoder_leaves_the_lens_as_it_is_without_one(data):
    classifier = around(Skipping, "after", data)
    alone = fitted(classifier, data)
    with_one = fitted(classifier, data, decoder=xlens.DecoderOptions(steps=2, hidden=8, width=4))
    for name, value in alone.lens.state_dict().items():
        assert torch.equal(value, with_one.lens.state_dict()[name]), name


def test_a_lens_on_inputs_is_the_same_with_the_stages_there(data):
    one, other = (fitted(around(Skipping, None, data), data, mask=toys.SHORT_MASK) for _ in range(2))
    assert not hasattr(one.lens, "stage")
    assert all(torch.equal(a, b) for a, b in zip(one.lens.parameters(), other.lens.parameters(), strict=True))


def test_a_fit_begins_with_a_lens_on_the_same_layer_and_no_other(data):
    classifier = around(Skipping, "after", data)
    first = fitted(classifier, data)
    again = fitted(classifier, data, start_from=first)
    assert again.on_layer
    with pytest.raises(OptionError, match="start_from is a lens on a layer of another shape"):
        fitted(around(Skipping, "after.1", data), data, start_from=first)
    with pytest.raises(OptionError, match="start_from works on something else.*a lens on a hidden layer"):
        fitted(around(Skipping, None, data), data, start_from=first)


def test_whoever_names_a_layer_and_no_backend_gets_one_that_takes_layers(data, monkeypatch):
    from xlens.fitting.choosing import choose

    classifier = around(Skipping, "after", data)
    with classifier.frozen(seed=0):
        found = choose(classifier, as_data(data), seed=0, device=torch.device("cpu"))
    assert "representations" in found.backend.capabilities
    assert "the hidden layer 'after' is named" in found.reason


def test_damaged_facts_of_a_stage_are_refused(data, tmp_path):
    from xlens.stages.building import stage_faults

    explainer = fitted(around(Skipping, "after", data), data)
    facts = explainer.lens.stage.facts()
    assert stage_faults(json.loads(json.dumps(facts))) == []
    for key, value in (("kind", "attic"), ("order", [1]), ("shape", "16"), ("decoder", {"steps": -1}), ("spec", 3)):
        assert stage_faults({**facts, key: value}), key
    assert stage_faults([1])
    explainer.save(tmp_path)
    other = around(Skipping, "after.1", data)
    with pytest.raises(StorageError, match="another classifier"):
        xlens.load(tmp_path, other)


def test_pictures_and_pages_say_what_stands_beside_the_input(data):
    explainer = fitted(
        around(Skipping, "after", data), data, decoder=xlens.DecoderOptions(steps=2, hidden=8, width=4)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        brief = {"n_steps": 2, "tolerance": 0.5}
        real, decoded = (explainer.explain(data[:1], show=show, **brief) for show in ("retrieve", "decode"))
    for one, said in ((real, "another real case"), (decoded, "decoded from the layer")):
        assert other_case(one) == said
        texts = [text.get_text() for text in one.plot().findobj(lambda artist: hasattr(artist, "get_text"))]
        own = float(one.counterfactual_scores[0].sigmoid())
        # Its own probability, and not that of the input that is explained.
        assert f"{said}\np = {own:.2f}" in texts
        assert "input − counterfactual" not in texts
        page = to_html(one)
        assert said in page
        assert f'"other":"{said}"' in page.replace('": "', '":"')
    assert "another real case" not in to_html(decoded).split("<script")[0]


def test_values_are_kept_where_inputs_repeat_and_read_again_where_not():
    inputs, labels = torch.arange(12.0).view(6, 2), torch.arange(6)
    calls = []

    def encode(part):
        calls.append(len(part))
        return part * 2

    kept = encoded(as_data((inputs, labels)), encode, torch.device("cpu"), size=2, repeats=True)
    assert torch.equal(kept.take(torch.tensor([4])).inputs, inputs[4:5] * 2)
    assert kept.take(torch.tensor([4])).labels.tolist() == [4]
    assert sum(calls) == 6
    again = encoded(as_data((inputs, labels)), encode, torch.device("cpu"), size=2, repeats=False)
    assert isinstance(again, EncodedData)
    assert again.indexed
    assert len(again) == 6
    for _ in range(2):
        assert torch.equal(torch.cat([batch.inputs for batch in again.batches(4)]), inputs * 2)
    assert sum(calls) == 18
    stream = EncodedData(as_data([inputs[:4], inputs[4:]]), encode)
    assert not stream.indexed
    assert sum(map(len, stream.batches())) == 6


def test_axes_are_arranged_and_come_back():
    activations = torch.randn(5, 3, 4, 6)
    arrangement = Arrangement((3, 4, 6), (2, 0, 1))
    arrangement.settle(torch.arange(6.0), torch.cat([torch.zeros(1), torch.arange(1.0, 6.0)]))
    values = arrangement.values(activations)
    assert values.shape == (5, 6, 3, 4)
    # A dead channel is not blown up.
    assert torch.allclose(values[:, 0], activations[..., 0] / 5)
    assert torch.allclose(arrangement.activations(values), activations, atol=1e-6)


def test_of_two_axes_the_last_are_the_channels_but_behind_signals():
    signals = nn.Sequential(nn.Conv1d(2, 5, 3, padding=1), nn.Flatten(), nn.Linear(40, 2))
    assert order_of(xlens.Classifier(signals, layer="0"), torch.randn(2, 2, 8)) == ((5, 8), (0, 1))
    tokens = xlens.Classifier(Tokens(), layer="norm")
    assert order_of(tokens, torch.randn(2, 1, 8, 8)) == ((16, 8), (1, 0))


def test_the_bank_gives_the_nearest_of_the_class_and_the_surest_where_there_is_none():
    bank = Bank((1,), 2, 1, 3)
    inputs, values = torch.arange(4.0)[:, None], torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    logits = torch.tensor([[2.0, 0, -1], [2.0, 1, -1], [0, 3.0, -1], [0, 3.0, 2]])
    bank.keep(inputs, torch.cat([values, -values], 1), values, logits)
    none = torch.zeros(0, dtype=torch.long)
    asked, codes = torch.tensor([[2.2]]), torch.zeros(1, 2)
    assert bank.nearest(asked, None, codes, none).tolist() == [2]
    assert bank.nearest(asked, torch.tensor([0]), codes, none).tolist() == [1]
    assert bank.nearest(asked, torch.tensor([2]), codes, none).tolist() == [3]
    # The tenth that is nearest in the first dimensions is one of four.
    assert bank.nearest(asked, None, codes, torch.tensor([0])).tolist() == [0]


def test_what_a_plugin_offers_for_lenses_on_inputs_says_that_this_is_none(data):
    from xlens_svae import redrawn

    explainer = fitted(around(Skipping, "after", data), data)
    with pytest.raises(UnsupportedError, match="redrawn: this is for lenses on inputs.*on the layer 'after'"):
        redrawn(explainer, data[:1], 2)


LAYERED = sorted({*offering("representations"), *offering("retrieve")} & set(OPTIONS))


@pytest.mark.parametrize("name", LAYERED)
def test_a_mask_is_refused_beside_a_layer_where_it_would_be_left_unused(trained, name):
    data = toys.pictures(32, seed=0)[0]
    with pytest.raises(OptionError, match=r"mask is for lenses that change images.*layer='body.3'.*leave mask out"):
        xlens.fit(
            xlens.Classifier(trained, layer="body.3"), data, name, mask=toys.SHORT_MASK, progress=False,
            **OPTIONS[name][0],
        )  # fmt: skip
