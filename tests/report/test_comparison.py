"""Several lenses on one page: the same inputs, each with what every lens says, and nothing that comes alive."""

import dataclasses
import re

import pytest
import torch
from browser import browser, opened
from drawings import made, reshaped
from pages import NASTY, data_of, nasty_explanation, photos

from xlens.errors import DataError, UnsupportedError
from xlens.report import save_comparison, to_html


def ways(n=2):
    """Return one explanation, one that does not hold, and one by other real inputs."""
    one = photos(n, 16)
    fails = torch.zeros(n, dtype=torch.bool)
    broken = dataclasses.replace(
        one,
        trustworthy=fails,
        fidelity=dataclasses.replace(one.fidelity, flips=fails),
        counterfactual_scores=one.scores,
        problems=(("the edit is not local",),) * n,
    )
    retrieved = dataclasses.replace(one, reconstruction=None, edit=None, mask=None)
    return {"infill": one, "medxgan": broken, "ilvm": retrieved}


def test_each_input_stands_beside_what_every_lens_says(tmp_path):
    save_comparison(ways(), tmp_path / "a.html", names=["a.png", "b.png"], title="Three")
    with browser() as started:
        for width, scheme in ((1280, "light"), (390, "dark")):
            with opened(
                started, tmp_path / "a.html", color_scheme=scheme, viewport={"width": width, "height": 800}
            ) as tab:
                page = tab.page
                assert page.title() == "Three"
                assert page.locator("section").count() == 2
                heads = page.locator("section:nth-of-type(1) .ways > figure > figcaption strong").all_inner_texts()
                assert heads == ["Before", "infill", "medxgan", "ilvm"]
                said = page.locator("section:nth-of-type(1) .ways > figure").all_inner_texts()
                assert "This explanation holds." in said[1]
                assert "Do not trust this explanation." in said[2]
                assert "the edit is not local" in said[2]
                assert "another real case: ill 27%" in said[3]
                assert "after: ill 27%" in said[1]
                table = page.locator("tbody tr").all_inner_texts()
                assert [re.split(r"\t", row)[:3] for row in table] == [
                    ["infill", "2 of 2", "2 of 2"],
                    ["medxgan", "0 of 2", "0 of 2"],
                    ["ilvm", "2 of 2", "2 of 2"],
                ]
                # Every picture is one, and of the right size.
                sizes = page.evaluate("[...document.images].map((i) => `${i.naturalWidth}x${i.naturalHeight}`)")
                assert set(sizes) == {"16x16"}
                assert len(sizes) == 2 * (1 + 3 * 3)
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                tab.check_quiet()


def test_what_was_decided_otherwise_from_the_start_is_no_change(tmp_path):
    one = photos(2, 12)
    already = dataclasses.replace(
        one, scores=torch.tensor([-3.0, 2.0]), counterfactual_scores=torch.tensor([-3.0, -1.0])
    )
    save_comparison({"infill": already}, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "<td>1 of 2</td>" in page
    assert "The model does not say &#39;ill&#39; here (ill 5%): there is nothing to take away." in page
    assert data_of(to_html(already))["items"][0]["says"] == ["healthy", "healthy"]
    assert data_of(to_html(already))["items"][1]["says"] == ["ill", "healthy"]


def test_it_has_no_serious_accessibility_fault(tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    save_comparison(ways(1), tmp_path / "a.html")
    with browser() as started:
        for scheme in ("light", "dark"):
            with opened(started, tmp_path / "a.html", color_scheme=scheme) as tab:
                found = Axe().run(tab.page).response["violations"]
                assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


def test_names_are_text(tmp_path):
    one = nasty_explanation()
    save_comparison({NASTY[0]: one, NASTY[1]: one}, tmp_path / "a.html", names=NASTY, title=NASTY[0])
    page = (tmp_path / "a.html").read_text()
    assert "<script" not in page
    plain = tmp_path / "b.html"
    save_comparison({"one": made(n=len(NASTY)), "other": made(n=len(NASTY))}, plain)
    # As many pictures as without them: what looks like an element is text.
    assert page.count("<img ") == plain.read_text().count("<img ")


def test_what_cannot_be_compared_is_refused(tmp_path):
    one, path = photos(2, 12), tmp_path / "a.html"
    with pytest.raises(DataError, match="'a' and 'b' differ in their inputs"):
        save_comparison({"a": one, "b": dataclasses.replace(one, inputs=one.inputs + 1)}, path)
    with pytest.raises(DataError, match="differ in their target"):
        save_comparison({"a": one, "b": dataclasses.replace(one, target=one.contrast)}, path)
    with pytest.raises(DataError, match="differ in their classes"):
        save_comparison({"a": one, "b": dataclasses.replace(one, class_names=("x", "y"))}, path)
    with pytest.raises(DataError, match="names do not fit"):
        save_comparison({"a": one}, path, names=["one"])
    with pytest.raises(DataError, match="nothing to show"):
        save_comparison({}, path)
    with pytest.raises(UnsupportedError, match="it shows images"):
        save_comparison({"a": reshaped(made(), (2, 32))}, path)
    assert not path.exists()
