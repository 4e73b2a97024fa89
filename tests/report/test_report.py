"""The report: what it holds, how large it is, and that nothing in it can come alive."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toys
from drawings import made, reshaped, texts
from pages import NASTY, data_of, nasty_page, photos
from PIL import Image

import xlens
from xlens import plot
from xlens.errors import DataError, OptionError, StorageError, UnsupportedError
from xlens.report import Traversal, notebook_html, render_traversals, save_report, to_html
from xlens.report.payload import payload
from xlens.report.sprites import frames_uri, maps_uri, stacked_uri


def decoded(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


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


def sliders(one: xlens.Explanation, count: int, steps: int = 7) -> list[Traversal]:
    """Return traversals of features that change every pixel, of decodings without the finest detail."""
    generator = torch.Generator().manual_seed(1)
    n, channels, size, _ = one.inputs.shape
    values = torch.linspace(0, 1.5, steps)
    smooth = F.interpolate(
        F.interpolate(one.reconstruction, scale_factor=0.5, mode="area"), (size, size), mode="bilinear"
    )
    found = []
    for k in range(count):
        small = torch.rand(n, 1, channels, 8, 8, generator=generator) - 0.5
        change = F.interpolate(small.flatten(0, 1), (size, size), mode="bilinear")
        frames = (smooth + values.view(-1, 1, 1, 1, 1) * 0.3 * change).transpose(0, 1).clamp(0, 1)
        found.append(
            Traversal(
                feature=f"part {k}", values=tuple(values.tolist()), frames=frames, scores=torch.zeros(n, steps)
            )
        )
    return found


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sliders_stay_within_2_megabytes_too(channels):
    one = photos(16, 64, channels)
    moved = sliders(one, 6)
    page = to_html(one, traversals=moved, optional=True)
    assert len(page) < 2e6
    data = data_of(page)
    shown = [made["feature"] for made in data["items"][0]["traversals"]]
    # The first are kept, and what is left out is named.
    assert shown + data["leftOut"] == [made.feature for made in moved]
    assert len(shown) >= {1: 6, 3: 2, 4: 0}[channels]
    # What somebody asked for by name is never left out.
    assert data_of(to_html(one, traversals=moved[:4]))["leftOut"] == []


def test_sliders_are_exact_where_there_is_room():
    one = photos(4, 28, 1)
    (moved,) = sliders(one, 1)
    item = data_of(to_html(one, traversals=[moved], optional=True))["items"][2]["traversals"][0]
    assert item["stacked"] is False
    pixels = np.asarray(decoded(item["images"]))
    expected = (255 * moved.frames[2]).round().to(torch.uint8)[:, 0].numpy()
    for t in range(7):
        assert np.array_equal(pixels[t::7], expected[t])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [12, 16])
@pytest.mark.parametrize("coarse", [False, True])
def test_stacked_frames_do_not_shine_into_each_other(channels, size, coarse):
    frames = torch.stack([torch.full((channels, size, size), value) for value in (0.0, 1.0, 0.0, 0.5)])
    uri = stacked_uri(frames, [(0.0, 1.0)], coarse=coarse)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
    pitch = len(image) // 4
    for t, frame in enumerate(frames):
        assert np.abs(image[t * pitch : t * pitch + size] / 255 - float(frame.max())).max() < 0.01


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
        assert torch.equal(one.frames, fitted.traverse(images[:3], one.feature, one.values))
        with torch.no_grad(), fitted.classifier.frozen():
            logits = fitted.classifier(one.frames.flatten(0, 1))
        rows = torch.arange(3).repeat_interleave(len(one.values))
        margin = logits[range(len(rows)), explanation.target[rows]]
        margin = margin - logits[range(len(rows)), explanation.contrast[rows]]
        assert torch.allclose(one.scores.flatten(), margin, atol=1e-4)
    save_report(
        fitted, explanation, tmp_path / "a.html", features=["dark"], values=[0.0, 1.0], names=["a", "b", "c"]
    )
    item = data_of((tmp_path / "a.html").read_text())["items"][0]
    assert [(one["feature"], one["values"]) for one in item["traversals"]] == [("dark", [0.0, 1.0])]
    save_report(fitted, explanation, tmp_path / "small.html", max_bytes=1)
    save_report(fitted, explanation, tmp_path / "all.html", features=[1, 2], max_bytes=1)
    assert set(data_of((tmp_path / "small.html").read_text())["leftOut"]) == {"bright", "dark"}
    assert len(data_of((tmp_path / "all.html").read_text())["items"][0]["traversals"]) == 2
    with pytest.raises(OptionError, match="report: there is no feature 'drak'"):
        save_report(fitted, explanation, tmp_path / "b.html", features=["drak"])
    for wrong in (0, 2.5, "1 MB"):
        with pytest.raises(OptionError, match="max_bytes is no size. Given: .*Allowed: an int >= 1"):
            save_report(fitted, explanation, tmp_path / "b.html", max_bytes=wrong)
    assert not (tmp_path / "b.html").exists()


def test_a_direction_has_a_slider_and_a_picture(fitted, images, tmp_path):
    class Directed(toys.ToyLens):
        @property
        def directions(self):
            brighter = torch.zeros(192)
            brighter[:64] = 0.125
            return {"brighter": brighter}

    explainer = toys.explainer_with(Directed(), fitted)
    save_report(explainer, explainer.explain(images[:2]), tmp_path / "a.html", features=["brighter", "dark"])
    first, second = data_of((tmp_path / "a.html").read_text())["items"][0]["traversals"]
    assert (first["feature"], len(first["values"])) == ("brighter", 5)
    assert (second["feature"], len(second["values"])) == ("dark", 7)
    assert "brighter" in texts(plot.traversal(explainer, images[:1], "brighter", [0.0, 1.0]))


def test_what_does_not_fit_is_refused(tmp_path):
    one = made()
    with pytest.raises(DataError, match="names do not fit"):
        one.save_html(tmp_path / "a.html", names=["only one"])
    moved = Traversal(feature="x", values=(0.0,), frames=one.path, scores=one.path_scores)
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
