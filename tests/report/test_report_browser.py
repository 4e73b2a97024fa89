"""The report as a person meets it: in a browser, with a mouse, with the keyboard, in the dark, on a phone."""

import dataclasses
import os
import re
import time
from pathlib import Path

import pytest
import torch
from browser import browser, opened
from drawings import made, reshaped
from pages import NASTY, nasty_page, photos

from xlens.report import Traversal, save_html

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def started():
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A gallery of six, of which the last does not hold."""
    one = photos(6, 16)
    fails = one.trustworthy.clone()
    fails[5] = False
    one = dataclasses.replace(
        one,
        trustworthy=fails,
        problems=((),) * 5 + (("the classifier sees another class",),),
        feature_names=("evidence",),
    )
    moved = Traversal(
        feature="evidence", values=tuple(range(11)), frames=one.path.flip(1), scores=one.path_scores.flip(1)
    )
    path = tmp_path_factory.mktemp("report") / "gallery.html"
    one.save_html(path, names=[f"photo {i}.png" for i in range(6)], title="Photos", traversals=[moved])
    return path


def picture(tab, name: str) -> None:
    """Keep a screenshot where somebody asked for them."""
    if folder := os.environ.get("XLENS_SCREENSHOTS"):
        tab.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def open_card(tab, place: int = 1) -> None:
    tab.page.click(f"#cards li:nth-child({place}) button")
    tab.page.click("#engineers > summary") if not tab.page.is_visible("#tiles") else None
    tab.page.wait_for_selector("#tiles canvas")


def marker(tab) -> tuple[float, float]:
    now = tab.page.locator("#curve .now")
    return float(now.get_attribute("cx")), float(now.get_attribute("cy"))


def test_dragging_the_slider_moves_image_curve_and_overlay(started, report):
    with opened(started, report) as tab:
        open_card(tab)
        tab.page.select_option("#method", "1")
        before, place = tab.pixels("#image"), marker(tab)
        assert "frame 11 of 11 (input): p(ill) = 0.88" in tab.page.inner_text("#where")
        tab.page.locator("#slider").scroll_into_view_if_needed()
        box = tab.page.locator("#slider").bounding_box()
        y = box["y"] + box["height"] / 2
        tab.page.mouse.move(box["x"] + box["width"] - 8, y)
        tab.page.mouse.down()
        tab.page.mouse.move(box["x"] + box["width"] / 2, y, steps=5)
        middle, middle_place = tab.pixels("#image"), marker(tab)
        assert "100%" not in tab.page.inner_text("#overlay-note")
        tab.page.mouse.move(box["x"] + 2, y, steps=5)
        tab.page.mouse.up()
        after, after_place = tab.pixels("#image"), marker(tab)
        assert before != middle != after != before
        assert place[0] > middle_place[0] > after_place[0]
        assert place[1] < middle_place[1] < after_place[1]
        assert "(counterfactual): p(ill) = 0.27" in tab.page.inner_text("#where")
        assert "0% of the difference" in tab.page.inner_text("#overlay-note")
        tab.check_quiet()


def test_without_overlay_the_ends_are_counterfactual_and_input(started, report):
    with opened(started, report) as tab:
        open_card(tab)
        tab.page.select_option("#method", "-1")
        tiles = "#tiles figure:nth-child({}) canvas"
        assert tab.pixels("#image") == tab.pixels(tiles.format(1))
        tab.page.locator("#slider").fill("0")
        assert tab.pixels("#image") == tab.pixels(tiles.format(3)) != tab.pixels(tiles.format(1))


def test_switching_the_method_changes_the_overlay(started, report):
    with opened(started, report) as tab:
        open_card(tab)
        seen = []
        for method in ("-1", "0", "1", "2"):
            tab.page.select_option("#method", method)
            seen.append(tuple(tab.pixels("#image")))
        assert len(set(seen)) == 4
        tab.page.locator("#strength").fill("0")
        assert tuple(tab.pixels("#image")) == seen[0]
        tab.check_quiet()


def test_a_feature_has_its_own_slider(started, report):
    with opened(started, report) as tab:
        open_card(tab)
        before = tab.pixels("#sliders canvas")
        tab.page.locator("#sliders input").fill("10")
        assert tab.pixels("#sliders canvas") != before
        assert "10: p(ill) = 0.27" in tab.page.inner_text("#sliders figcaption")


def test_frames_that_are_stacked_are_drawn_one_by_one(started, tmp_path):
    one = photos(2, 12)
    levels = torch.tensor([0.1, 0.9, 0.3, 0.6])
    frames = levels.view(1, 4, 1, 1, 1).expand(2, 4, 3, 12, 12)
    moved = Traversal(feature="level", values=(0.0, 1.0, 2.0, 3.0), frames=frames, scores=torch.zeros(2, 4))
    one = dataclasses.replace(one, feature_names=("level",))
    one.save_html(tmp_path / "a.html", traversals=[moved], max_bytes=1)
    assert "data:image/jpeg" in (tmp_path / "a.html").read_text()
    with opened(started, tmp_path / "a.html") as tab:
        open_card(tab)
        for step, level in enumerate(levels.tolist()):
            tab.page.locator("#sliders input").fill(str(step))
            colours = [value for i, value in enumerate(tab.pixels("#sliders canvas")) if i % 4 < 3]
            assert max(abs(value / 255 - level) for value in colours) < 0.02
        tab.check_quiet()


def test_sliders_left_out_are_named(started, tmp_path):
    one = dataclasses.replace(photos(1, 12), feature_names=("level",))
    moved = Traversal(feature="level", values=(0.0,), frames=one.path[:, :1], scores=torch.zeros(1, 1))
    save_html(one, tmp_path / "a.html", traversals=[moved], optional=True, max_bytes=1)
    with opened(started, tmp_path / "a.html") as tab:
        tab.page.click("#engineers > summary")
        assert tab.page.inner_text("#left-out").endswith("so that this file stays small: level.")
        assert tab.page.locator("#sliders figure").count() == 0


def test_blinking_and_playing(started, report):
    with opened(started, report) as tab:
        open_card(tab)
        before, after = tab.pixels("#before"), tab.pixels("#after")
        assert before != after
        tab.page.click("#blink")
        assert tab.page.get_attribute("#blink", "aria-pressed") == "true"
        tab.wait("document.getElementById('before-label').textContent === 'After'")
        assert tab.pixels("#before") == after
        tab.wait("document.getElementById('before-label').textContent === 'Before'")
        assert tab.pixels("#before") == before
        tab.page.click("#play")
        assert tab.page.get_attribute("#blink", "aria-pressed") == "false"
        tab.wait("document.getElementById('play').textContent === 'Play'")
        assert tab.page.input_value("#slider") == "10"
        tab.check_quiet()


def test_the_top_answers_without_the_engineers_part(started, report):
    """What is decided, what would have to change, and whether to believe it: before anything is unfolded."""
    with opened(started, report) as tab:
        tab.page.click("#cards li:nth-child(1) button")
        tab.wait("document.querySelectorAll('#tiles canvas').length > 2")
        assert not tab.page.is_visible("#tiles")
        assert not tab.page.is_visible("#method")
        # The pictures are the input and the counterfactual themselves, with nothing laid over them.
        tiles = "#tiles figure:nth-child({}) canvas"
        assert tab.pixels("#before") == tab.pixels(tiles.format(1))
        assert tab.pixels("#after") == tab.pixels(tiles.format(3))
        shown = tab.page.inner_text("#detail")
        assert "the model says “ill” (ill 88%)" in shown
        assert "the model says “healthy” (ill 27%)" in shown
        assert "ill 88% → 27%." in tab.page.inner_text("#finding")
        assert "This explanation holds." in shown
        assert "Whether it is true of the world is for you to see." in shown
        assert all(word not in shown for word in ("latent", "IG", "logit", "SSIM", "mask", "counterfactual"))


def test_one_sign_convention(started, tmp_path):
    """Red and + speak for the class explained, blue and - for the other; nothing else on the page is either."""
    one = dataclasses.replace(
        photos(1, 16),
        feature_names=("evidence for healthy", "size"),
        feature_contributions=torch.tensor([[9.95, -2.0]]),
    )
    one.save_html(tmp_path / "signs.html")
    with opened(started, tmp_path / "signs.html") as tab:
        tab.page.click("#engineers > summary")
        tab.page.wait_for_selector("#tiles canvas")
        assert "red and + speak for “ill”, blue and − for “healthy”" in tab.page.inner_text("#signs")
        bars = tab.page.locator("#bars .part").all_inner_texts()
        assert "+9.95 for ill" in bars[0]
        assert "−2.00 for healthy" in bars[1]
        assert tab.page.locator("#bars rect").nth(0).get_attribute("class") == "plus"
        # Said once.
        words = re.findall(r"\w+", tab.page.inner_text("body").lower())
        assert words.count("red") == words.count("blue") == 1
        tab.page.select_option("#method", "0")
        assert "Violet" in tab.page.inner_text("#overlay-note")
        pixels = tab.pixels("#tiles figure:nth-child(5) canvas")
        assert all(blue >= red for red, blue in zip(pixels[0::4], pixels[2::4], strict=True))


def test_the_keyboard_is_enough(started, report):
    with opened(started, report) as tab:
        page = tab.page
        page.focus("#cards li:nth-child(2) button")
        page.keyboard.press("Enter")
        tab.wait("document.activeElement.id === 'question'")
        assert page.inner_text("#name") == "photo 1.png"
        page.focus("#engineers > summary")
        page.keyboard.press("Enter")
        page.wait_for_selector("#tiles canvas")
        page.keyboard.press("n")
        assert page.inner_text("#position") == "3 of 6"
        page.keyboard.press("p")
        page.keyboard.press("m")
        assert page.input_value("#method") == "0"
        page.focus("#slider")
        page.keyboard.press("ArrowLeft")
        assert "frame 10 of 11" in page.inner_text("#where")
        page.keyboard.press("b")
        assert page.get_attribute("#blink", "aria-pressed") == "true"
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.innerText").count("photo 1.png") == 1
        tab.check_quiet()


def test_sorting_and_filtering(started, report):
    with opened(started, report) as tab:
        page = tab.page

        def names() -> list[str]:
            return page.locator("#cards .small:nth-of-type(2)").all_inner_texts()

        given = [f"photo {i}.png" for i in range(6)]
        assert names() == given
        page.select_option("#sort", "high")
        assert names() == given[::-1]
        page.select_option("#sort", "low")
        assert names() == given
        page.select_option("#sort", "faithless")
        assert names()[0] == "photo 5.png"
        page.select_option("#sort", "faithful")
        assert names()[-1] == "photo 5.png"
        page.select_option("#filter", "fails")
        assert names() == ["photo 5.png"]
        assert page.inner_text("#shown") == "1 of 6 shown"
        open_card(tab)
        assert page.is_visible("#warning")
        assert "the classifier sees another class" in page.inner_text("#warning")
        page.click("#back")
        page.select_option("#filter", "holds")
        open_card(tab)
        assert not page.is_visible("#warning")
        tab.check_quiet()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_no_serious_accessibility_fault(started, report, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    with opened(started, report, color_scheme=scheme, viewport={"width": width, "height": 844}) as tab:
        for name in ("gallery", "detail"):
            if name == "detail":
                open_card(tab, 6)
                tab.page.locator("#slider").fill("7")
                tab.page.click("#numbers summary")
            found = Axe().run(tab.page).response["violations"]
            serious = [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")]
            assert serious == []
            # Nothing sticks out at the side.
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
            picture(tab, f"{name}-{scheme}-{width}")
        background = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_axe_would_find_a_fault(started, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    (tmp_path / "bad.html").write_text("<html><body><img src='data:,'><button></button></body></html>")
    with opened(started, tmp_path / "bad.html") as tab:
        found = {fault["id"] for fault in Axe().run(tab.page).response["violations"]}
    assert {"image-alt", "button-name"} <= found


def test_malicious_names_do_nothing(started, tmp_path):
    (tmp_path / "nasty.html").write_text(nasty_page())
    with opened(started, tmp_path / "nasty.html") as tab:
        assert tab.page.title() == NASTY[0]
        for place in range(1, len(NASTY) + 1):
            open_card(tab, place)
            assert tab.page.inner_text("#name") == NASTY[place - 1]
            tab.page.hover("#question")
            tab.page.click("#back")
        assert tab.page.title() == NASTY[0]
        assert tab.page.locator("img, iframe, [onerror], [onmouseover]").count() == 0
        tab.check_quiet()


def test_a_script_that_got_in_would_not_run(started, tmp_path, report):
    """The policy is the second wall: it is tested as if the first had a hole."""
    hole = "<script>document.title = 'owned'</script><img src='http://192.0.2.1/x.png'>"
    (tmp_path / "hole.html").write_text(report.read_text().replace("<main>", f"<main>{hole}"))
    with opened(started, tmp_path / "hole.html") as tab:
        assert tab.page.title() == "Photos"
        assert len([line for line in tab.console if "Content Security Policy" in line]) == 2


def test_256_images_open_in_less_than_2_seconds(started, tmp_path):
    path = tmp_path / "many.html"
    photos(256, 32).save_html(path)
    with opened(started, tmp_path / "many.html") as tab:
        began = time.perf_counter()
        tab.page.reload()
        tab.wait("document.querySelectorAll('#cards canvas').length > 0")
        taken = time.perf_counter() - began
        assert tab.page.locator("#cards li").count() == 256
        # Cards out of sight are not drawn before they are scrolled to.
        assert tab.page.locator("#cards canvas").count() < 256
        tab.page.locator("#cards li:nth-child(256)").scroll_into_view_if_needed()
        tab.page.wait_for_selector("#cards li:nth-child(256) canvas")
    print(f"256 images of 32x32, {path.stat().st_size / 1e6:.1f} MB: open in {taken:.2f} s")
    assert taken < 2


def test_signals_and_notebooks_are_drawn(started, tmp_path):
    shown = reshaped(made(), (2, 32))._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!doctype html><body>{shown}</body>")
    with opened(started, tmp_path / "notebook.html") as tab:
        frame = tab.page.frame_locator("iframe")
        frame.locator("#cards li:nth-child(1) button").click()
        frame.locator("#engineers > summary").click()
        frame.locator("#tiles canvas").first.wait_for()
        assert frame.locator("#tiles canvas").count() == 6
        read = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
        assert frame.locator("#image").evaluate(read) > 3
        picture(tab, "notebook-signal")
        tab.check_quiet()


def test_cards_differ_by_decision_margin_and_verdict(started, report):
    with opened(started, report) as tab:
        cards = tab.page.locator("#cards li")
        for i in range(cards.count()):
            item = tab.page.evaluate(f"report.items[{i}]")
            before, after = item["says"]
            title = f"{before} → {after}" if before != after else f"{before}, and stays so"
            assert cards.nth(i).locator(".title").inner_text() == title
            dots = [dot.bounding_box()["x"] for dot in cards.nth(i).locator(".dot").all()]
            assert (dots[0] > dots[1]) == (item["score"] > item["end"])
            assert ("holds" in cards.nth(i).locator(".verdict").inner_text()) == item["holds"]
        assert "What the model goes by in these 6" in tab.page.inner_text("#overall")
        tab.check_quiet()


def test_on_paper_nothing_is_folded_and_every_picture_is_there(started, report, tmp_path):
    with opened(started, report, color_scheme="dark", viewport={"width": 390, "height": 500}) as tab:
        page = tab.page
        page.evaluate("window.print = () => { window.printed = true; }")
        page.click("#print")
        tab.wait("window.printed === true")
        assert page.locator("#cards canvas").count() == 12
        open_card(tab)
        assert not page.locator("#engineers").get_attribute("open")
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert page.is_visible("#table")
        for gone in ("#blink", "#back", "#slider", "#method", "#notes", "#play"):
            assert not page.is_visible(gone), gone
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        page.emulate_media(media="screen")
        assert not page.is_visible("#table")
        page.fill("#note", "seen by Ada")
        page.emulate_media(media="print")
        assert page.is_visible("#note")
        tab.check_quiet()
        content = page.pdf(path=tmp_path / "page.pdf", format="A4")
        assert content.startswith(b"%PDF")
        assert len(content) > 20_000
