"""The report: what it holds, how large it is, and that nothing in it can come alive."""

import base64
import dataclasses
import io
import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from test_plot import made, reshaped

import xlens
from xlens.errors import DataError, OptionError, StorageError, UnsupportedError
from xlens.report import Traversal, notebook_html, render_traversals, to_html
from xlens.report.payload import payload
from xlens.report.sprites import frames_uri, maps_uri


def photos(n: int, size: int, channels: int = 3, frames: int = 11) -> xlens.Explanation:
    """Return explanations of smooth, noisy pictures, in which every pixel changes along the path."""
    generator = torch.Generator().manual_seed(0)

    def noise(side: int) -> torch.Tensor:
        small = torch.rand(n, channels, side, side, generator=generator)
        return F.interpolate(small, (size, size), mode="bilinear")

    inputs = (0.5 * noise(4) + 0.3 * noise(16) + 0.2 * noise(size)).clamp(0, 1)
    start = (0.9 * inputs + 0.1 * noise(8)).clamp(0, 1)
    share = torch.linspace(0, 1, frames)[None, :, None, None, None]
    return dataclasses.replace(
        made(channels, n=n, size=size),
        inputs=inputs,
        reconstruction=(inputs + 0.05).clamp(0, 1),
        edit=start - inputs,
        counterfactual=start,
        attributions={name: (inputs - start) * noise(size) for name in ("lig", "ig_counterfactual")},
        mask=noise(8)[:, :1],
        path=start[:, None] + share * (inputs - start)[:, None],
        path_scores=torch.linspace(-1, 2, frames).repeat(n, 1) + torch.arange(n)[:, None] / n,
        scores=2 + torch.arange(n) / n,
        data_range=(0.0, 1.0),
    )


def decoded(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def data_of(page: str) -> dict:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_frames_come_out_as_they_went_in(channels):
    frames = torch.rand(5, channels, 6, 9)
    image = np.asarray(decoded(frames_uri(frames, [(0.0, 1.0)])))
    for t, frame in enumerate(frames):
        expected = (255 * frame).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
        assert np.array_equal(image[t::5], expected)


def test_maps_keep_sign_and_magnitude():
    values = torch.linspace(-2, 2, 24).view(1, 4, 6)
    image = np.asarray(decoded(maps_uri([values, -values], [2.0, 2.0])).convert("RGBA")).astype(float)
    upper, lower = image[:4], image[4:]
    strength = upper[..., 3] / 255
    assert np.abs(strength - values[0].abs().numpy() / 2).max() < 1 / 63
    red, blue = upper[..., 0], upper[..., 2]
    assert ((red > blue) == (values[0].numpy() > 0))[strength > 0].all()
    assert np.array_equal(lower[..., 3], upper[..., 3])


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_images_of_64_pixels_stay_below_2_megabytes(channels, tmp_path):
    photos(16, 64, channels).save_html(tmp_path / "a.html")
    assert (tmp_path / "a.html").stat().st_size < 2e6


def test_the_payload_says_what_the_explanation_says():
    one = photos(3, 16)
    data = payload(one, names=["a", "b", "c"])
    assert [item["name"] for item in data["items"]] == ["a", "b", "c"]
    for i, item in enumerate(data["items"]):
        assert item["path"] == pytest.approx(one.path_scores[i].tolist(), rel=1e-3, abs=1e-3)
        assert item["score"] == pytest.approx(float(one.scores[i]), rel=1e-3)
        assert item["question"] == "Why 'ill' and not 'healthy'?"
        assert dict(map(tuple, item["table"]))["flips"] == "yes"
    assert data["frames"] == 11
    assert [method["title"] for method in data["methods"]] == ["latent IG", "IG from counterfactual"]


NASTY = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\" onmouseover='document.title=1' x=\"",
    "{{ 7 * 7 }}{% for x in y %}",
    "<!--<script>",
    "javascript:document.title='owned'",
]


def nasty_explanation() -> xlens.Explanation:
    one = made(trustworthy=False, n=len(NASTY))
    return dataclasses.replace(
        one,
        class_names=(NASTY[0], NASTY[1]),
        feature_names=(NASTY[1],),
        problems=tuple((text,) for text in NASTY),
        attributions={NASTY[0]: one.inputs, NASTY[1]: one.inputs},
        convergence_delta={NASTY[0]: torch.zeros(len(NASTY))},
    )


def nasty_page() -> str:
    one = nasty_explanation()
    moved = Traversal(feature=NASTY[0], steps=(0.0, 1.0), frames=one.path, scores=one.path_scores)
    return to_html(one, names=NASTY, title=NASTY[0], traversals=[moved])


def test_nothing_from_the_input_becomes_markup():
    page, plain = nasty_page(), to_html(made(n=len(NASTY)))
    # As many elements of each kind as without them, and their text arrives whole.
    for tag in ("script", "img", "iframe", "title"):
        assert page.count(f"<{tag}") == plain.count(f"<{tag}")
    data = data_of(page)
    assert [item["name"] for item in data["items"]] == NASTY
    assert data["items"][0]["contrast"] == NASTY[0]
    assert "49" not in data["items"][3]["name"]


def test_the_page_forbids_the_network_and_foreign_scripts():
    page = to_html(made())
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#39;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy
    assert "http" not in re.sub(r"http-equiv|http://www\.w3\.org/2000/svg", "", page)


def test_one_input_has_no_gallery():
    assert 'id="gallery"' not in to_html(made(n=1))
    assert 'id="gallery"' in to_html(made(n=2))


def test_a_notebook_shows_the_first_in_a_frame_of_its_own():
    one = made(n=12)
    shown = one._repr_html_()
    assert shown == notebook_html(one)
    assert 'sandbox="allow-scripts"' in shown
    assert "The first 8 are shown" in shown
    assert shown.count("<script") == 0  # all of it is escaped, inside srcdoc
    volumes = reshaped(made(), (2, 2, 4, 4))
    assert volumes._repr_html_() is None


def test_a_lens_that_decodes_to_a_hidden_layer_has_a_report():
    data = payload(dataclasses.replace(made(), reconstruction=None, edit=None, mask=None))
    assert data["reconstruction"] is False
    assert decoded(data["items"][0]["images"]).size == (8, 2 * 8)


def test_signals_come_as_numbers():
    data = payload(reshaped(made(), (2, 32)))
    assert (data["kind"], data["channels"], data["width"]) == ("signal", 2, 32)
    item = data["items"][0]
    assert len(item["images"]) == 3
    expected = (1000 * (made().inputs[0].flatten() + 3) / 6).round().clamp(0, 1000)
    assert item["images"][1] == expected.int().tolist()
    assert max(abs(value) for value in item["maps"][0]) <= 1000


def test_features_are_rendered_ahead(fitted, images, tmp_path):
    explanation = fitted.explain(images[:3])
    moved = render_traversals(fitted, explanation)
    assert {one.feature for one in moved} == {"bright", "dark"}
    for one in moved:
        assert torch.equal(one.frames, fitted.traverse(images[:3], one.feature, one.steps))
        with torch.no_grad(), fitted.classifier.frozen():
            logits = fitted.classifier(one.frames.flatten(0, 1))
        rows = torch.arange(3).repeat_interleave(len(one.steps))
        margin = logits[range(len(rows)), explanation.target[rows]]
        margin = margin - logits[range(len(rows)), explanation.contrast[rows]]
        assert torch.allclose(one.scores.flatten(), margin, atol=1e-4)
    fitted.report(explanation, tmp_path / "a.html", features=["dark"], steps=[0.0, 1.0], names=["a", "b", "c"])
    item = data_of((tmp_path / "a.html").read_text())["items"][0]
    assert [(one["feature"], one["steps"]) for one in item["traversals"]] == [("dark", [0.0, 1.0])]
    with pytest.raises(OptionError, match="no feature 'drak'|drak"):
        fitted.report(explanation, tmp_path / "b.html", features=["drak"])


def test_what_does_not_fit_is_refused(tmp_path):
    one = made()
    with pytest.raises(DataError, match="names do not fit"):
        one.save_html(tmp_path / "a.html", names=["only one"])
    moved = Traversal(feature="x", steps=(0.0,), frames=one.path, scores=one.path_scores)
    with pytest.raises(DataError, match="the traversal of 'x' does not fit"):
        one.save_html(tmp_path / "a.html", traversals=[moved])
    with pytest.raises(UnsupportedError, match="report: inputs of this shape"):
        reshaped(one, (2, 2, 4, 4)).save_html(tmp_path / "a.html")
    with pytest.raises(StorageError, match="cannot write"):
        one.save_html(tmp_path / "missing" / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_three_classes_an_own_input_and_nothing_at_all(tmp_path):
    one = photos(2, 16)
    moved = torch.stack([one.path[:, 0], one.reconstruction], 1)
    other = dataclasses.replace(one, class_names=("a", "b", "c"), path=moved, path_scores=one.path_scores[:, :2])
    data = payload(other)
    assert data["items"][0]["p"] == "p(b against a)"
    assert data["end"] == "reconstruction"
    assert decoded(data["items"][0]["images"]).size == (16, 4 * 16)
    with pytest.raises(DataError, match="nothing to show"):
        one[:0].save_html(tmp_path / "a.html")
    assert one[:0]._repr_html_() is None
