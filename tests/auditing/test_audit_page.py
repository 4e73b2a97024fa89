"""The page of an audit, and what a person may do to its names."""

import dataclasses
import json

import pytest
from browser import browser, opened
from pages import NASTY, data_of
from shortcuts import ByStamp, explainer_of, stamped

import xlens
from xlens.auditing.page import page_of
from xlens.errors import StorageError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def found():
    images, labels, _ = stamped()
    return xlens.audit(explainer_of(ByStamp()), (images, labels), progress=False)


def test_names_are_text_and_nothing_else(found, tmp_path):
    for nasty in NASTY:
        named = dataclasses.replace(found, names={0: nasty})
        page = page_of(named, nasty)
        assert nasty not in page or "<" not in nasty
        assert data_of(page)["groups"][0]["title"] == nasty
        assert page.count("<script") == 2
    with pytest.raises(StorageError, match="no such folder"):
        found.save_html(tmp_path / "nowhere" / "a.html")


def test_it_holds_every_group_and_its_exemplars(found):
    facts = data_of(page_of(found, "Audit"))
    assert len(facts["groups"]) == len(found.groups)
    group = facts["groups"][0]
    assert group["alarm"]
    assert len(group["names"]) == len(found.groups[0].exemplars)
    assert group["pictures"].startswith("data:image/png")
    assert json.dumps(facts).count("NaN") == 0


def test_pictures_are_in_the_images_own_colours_where_these_are_known(found):
    said = {"mean": [0.5], "std": [0.25]}
    told = dataclasses.replace(found, fitted=dataclasses.replace(found.fitted, provenance={"normalization": said}))
    pictures = [data_of(page_of(one, "Audit"))["groups"][0]["pictures"] for one in (found, told)]
    assert pictures[0] != pictures[1]
    assert "how they were prepared" not in page_of(found, "Audit")


def test_in_a_browser_with_keys_on_a_phone_in_the_dark(found, tmp_path):
    named = dataclasses.replace(found, names={0: NASTY[1]})
    named.save_html(tmp_path / "audit.html", title=NASTY[0])
    with browser() as started:
        options = {"viewport": {"width": 360, "height": 700}, "color_scheme": "dark"}
        with opened(started, tmp_path / "audit.html", **options) as tab:
            tab.wait("document.querySelectorAll('#cards li').length > 0")
            assert tab.page.title() == NASTY[0]
            assert tab.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            tab.page.focus("#cards button")
            tab.page.keyboard.press("Enter")
            tab.page.wait_for_selector("#tiles canvas")
            assert "one and the same thing" in tab.page.inner_text("#signs")
            assert any(tab.pixels("#tiles canvas"))
            assert tab.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            tab.page.focus("#tiles button")
            tab.page.keyboard.press("Enter")
            tab.page.wait_for_selector("#single-pictures canvas")
            assert tab.page.locator("#single-pictures canvas").count() == 3
            assert "decision" in tab.page.inner_text("#single-table")
            # The map is drawn where the two pictures differ, and white elsewhere.
            seen = tab.pixels("#single-pictures figure:last-child canvas")
            assert min(seen) < 255
            assert tab.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            tab.page.keyboard.press("Escape")
            assert not tab.page.is_visible("#single")
            assert tab.page.evaluate("document.activeElement.closest('#tiles') !== null")
            tab.page.keyboard.press("Escape")
            assert tab.page.is_visible("#cards")
            tab.check_quiet()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_read_by_everybody(found, tmp_path, scheme):
    from axe_playwright_python.sync_playwright import Axe

    found.save_html(tmp_path / "audit.html")
    with browser() as started:
        with opened(started, tmp_path / "audit.html", color_scheme=scheme) as tab:
            # An example, and where all of its group lie.
            tab.wait("document.querySelectorAll('#cards .triple canvas').length > 0")
            for stage in ("all", "one", "single"):
                if stage == "one":
                    tab.page.click("#cards button")
                if stage == "single":
                    tab.page.click("#tiles button")
                    tab.page.wait_for_selector("#single-pictures canvas")
                violations = Axe().run(tab.page).response["violations"]
                assert [fault["id"] for fault in violations if fault["impact"] in ("serious", "critical")] == []
