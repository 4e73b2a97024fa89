"""A report of a lens on a hidden layer: another real case, parts that are not taught; and a person's notes."""

import dataclasses
import json
import re

import pytest
import torch
from browser import browser, opened
from drawings import made, texts
from pages import data_of, photos

from xlens.errors import StorageError
from xlens.plot import plot_explanation, plot_features
from xlens.report import read_notes, to_html

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NOTE = "Ask Dr Möller: </script><script>document.title='owned'</script> \u2028 & <b>"


@pytest.fixture(scope="module")
def started():
    with browser() as running:
        yield running


def on_a_layer(n=1):
    """Return an explanation by other real inputs, with one part about which nothing was answered."""
    one = photos(n, 16)
    return dataclasses.replace(
        one,
        reconstruction=None,
        edit=None,
        mask=None,
        counterfactual_scores=torch.full((n,), -1.5),
        feature_names=("round", "everything else"),
        feature_contributions=torch.tensor([[0.0, 6.86]]).repeat(n, 1),
        not_taught=("round",),
    )


def test_the_other_image_is_another_real_case_with_its_own_probability(started, tmp_path):
    on_a_layer().save_html(tmp_path / "a.html")
    with opened(started, tmp_path / "a.html") as tab:
        page = tab.page
        assert page.inner_text("#after-label") == "Another real case"
        assert page.inner_text("#before-label") == "This case"
        assert "ill 18%" in page.inner_text("#after-says")
        page.click("#blink")
        tab.wait("document.getElementById('before-label').textContent === 'Another real case'")
        page.click("#blink")
        page.click("#engineers > summary")
        page.wait_for_selector("#tiles canvas")
        captions = page.locator("#tiles figcaption").all_inner_texts()
        assert captions == ["input", "another real case, p(ill) = 0.18", "latent IG", "IG from counterfactual"]
        assert "difference" not in page.inner_text("#method")
        assert "counterfactual" not in re.sub("IG from counterfactual", "", page.inner_text("main"))
        tab.check_quiet()


def test_no_heat_map_of_the_input_lies_over_another_case(started, tmp_path):
    on_a_layer().save_html(tmp_path / "a.html")
    with opened(started, tmp_path / "a.html") as tab:
        page = tab.page
        page.click("#engineers > summary")
        page.wait_for_selector("#tiles canvas")
        bare = {}
        for frame in ("0", "5", "10"):
            page.locator("#slider").fill(frame)
            bare[frame] = tab.pixels("#image")
        page.select_option("#method", "1")
        for frame, other in (("0", True), ("5", True), ("10", False)):
            page.locator("#slider").fill(frame)
            assert (tab.pixels("#image") == bare[frame]) == other
            assert ("of the input alone" in page.inner_text("#overlay-note")) == other
        page.locator("#slider").fill("0")
        assert "frame 1 of 11 (another real case)" in page.inner_text("#where")


def test_what_is_not_taught_says_so_and_has_no_bar(started, tmp_path):
    on_a_layer().save_html(tmp_path / "a.html")
    with opened(started, tmp_path / "a.html") as tab:
        tab.page.click("#engineers > summary")
        rows = tab.page.locator("#bars .part").all_inner_texts()
        assert any("round" in row and "not taught" in row for row in rows)
        assert any("+6.86 for ill" in row for row in rows)
        (width,) = [
            row.locator("rect").get_attribute("width")
            for row in tab.page.locator("#bars .part").all()
            if "round" in row.inner_text()
        ]
        assert float(width) == 0
        assert "nobody has answered anything" in tab.page.inner_text("#parts")
    assert "not taught" in texts(plot_features(on_a_layer()))
    assert "nobody has answered" not in to_html(made(n=1))


def test_pictures_call_it_so_too():
    shown = texts(plot_explanation(on_a_layer()))
    assert "another real case\np = 0.18" in shown
    assert "input − counterfactual" not in shown
    assert "red where the input has more" not in shown


def test_notes_are_kept_in_the_file_that_is_saved(started, tmp_path):
    photos(3, 12).save_html(tmp_path / "a.html", names=["a", "b", "c"], title="Leaves, of May")
    with opened(started, tmp_path / "a.html", accept_downloads=True) as tab:
        page = tab.page
        page.click("#cards li:nth-child(2) button")
        page.fill("#note", NOTE)
        # Keys that mean something elsewhere are letters here.
        page.focus("#note")
        page.keyboard.type("npbm ")
        assert page.input_value("#note") == NOTE + "npbm "
        assert page.inner_text("#position") == "2 of 3"
        page.click("#next")
        assert page.input_value("#note") == ""
        with page.expect_download() as download:
            page.click("#keep")
        assert download.value.suggested_filename == "Leaves-of-May-with-notes.html"
        download.value.save_as(tmp_path / "b.html")
        assert "Saved as Leaves-of-May-with-notes.html" in page.inner_text("#kept")
    assert read_notes(tmp_path / "a.html") == {}
    assert read_notes(tmp_path / "b.html") == {"b": NOTE + "npbm "}
    before, after = (data_of((tmp_path / name).read_text()) for name in ("a.html", "b.html"))
    after["items"][1]["note"] = ""
    assert after == before
    # It is the same page, with the same walls around it, and can be saved once more.
    with opened(started, tmp_path / "b.html", accept_downloads=True) as tab:
        page = tab.page
        assert page.title() == "Leaves, of May"
        assert page.locator("#method option").count() == 4
        page.click("#cards li:nth-child(2) button")
        assert page.input_value("#note") == NOTE + "npbm "
        page.fill("#note", "read")
        with page.expect_download() as download:
            page.click("#keep")
        download.value.save_as(tmp_path / "c.html")
        tab.check_quiet()
    assert read_notes(tmp_path / "c.html") == {"b": "read"}


def test_notes_on_inputs_of_one_name_are_all_there(tmp_path):
    data = json.dumps({"items": [{"name": "a", "note": note} for note in ("first", "", "third")]})
    (tmp_path / "a.html").write_text(f'<script type="application/json" id="data">{data}</script>')
    assert read_notes(tmp_path / "a.html") == {"a": "first", "a (3)": "third"}


def test_a_note_is_not_lost_with_the_page(started, tmp_path):
    photos(1, 12).save_html(tmp_path / "a.html")
    asked = "!window.dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    with opened(started, tmp_path / "a.html", accept_downloads=True) as tab:
        assert not tab.page.evaluate(asked)
        tab.page.fill("#note", "of today")
        assert tab.page.evaluate(asked)
        with tab.page.expect_download():
            tab.page.click("#keep")
        assert not tab.page.evaluate(asked)


def test_of_three_classes_a_page_says_which_two_are_compared(started, tmp_path):
    one = dataclasses.replace(
        photos(2, 12),
        class_names=("healthy", "ill", "other"),
        decisions=torch.tensor([[1, 2], [1, 0]]),
        trustworthy=torch.tensor([False, True]),
        verdicts={"flips": torch.tensor([False, True])},
        problems=(("the counterfactual does not change the decision",), ()),
    )
    one.save_html(tmp_path / "a.html")
    with opened(started, tmp_path / "a.html") as tab:
        page = tab.page
        assert page.locator("#cards .title").all_inner_texts() == ["ill → other", "ill → healthy"]
        assert "The model does not come to say 'healthy'." in page.locator("#cards li").first.inner_text()
        page.click("#cards li:nth-child(1) button")
        assert page.inner_text("#after-says") == "the model says “other” (ill 27% against healthy)"
        # Why, in words above, and in the words of engineers below.
        assert page.inner_text("#warning") == "The model does not come to say 'healthy'."
        assert not page.is_visible("#problems")
        page.click("#engineers > summary")
        assert page.inner_text("#problems") == "the counterfactual does not change the decision"
        tab.check_quiet()


def test_notes_of_what_is_no_report_are_refused(tmp_path):
    (tmp_path / "a.html").write_text("<html></html>")
    with pytest.raises(StorageError, match="this is no report"):
        read_notes(tmp_path / "a.html")
    with pytest.raises(StorageError, match="cannot be read"):
        read_notes(tmp_path / "missing.html")
