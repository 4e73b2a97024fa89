"""The labelling page: who is answered, and what a person sees in a browser."""

import builtins
import json
import os
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import browser
from taught import truth

import xlens
from xlens.errors import MissingExtraError
from xlens.teaching.page import Session, make_app, serve

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@contextmanager
def serving(session):
    """The page of a session, while it is looked at: its server and address."""
    server, address = serve(session)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server, address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def served(fresh, pool):
    explainer, path = fresh
    session = Session(explainer, pool, path, check=6, per_round=5)
    with serving(session) as (server, address):
        yield session, server, address


def get(address, **headers):
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=5)


def test_only_who_knows_the_token_is_answered_and_only_from_here(served):
    _, server, address = served
    assert server.server_address[0] == "127.0.0.1"
    with get(address) as page:
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Referrer-Policy"] == "no-referrer"
    root = address.rsplit("/", 2)[0]
    for wrong, headers, code in [
        (f"{root}/", {}, 404),
        (f"{root}/guess/", {}, 404),
        (f"{root}/guess/state", {}, 404),
        (f"{address}nothing", {}, 404),
        (f"{address}image/9999.png", {}, 404),
        (address, {"Host": "evil.example"}, 403),
    ]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(wrong, **headers)
        assert caught.value.code == code


def test_without_flask_the_error_says_how_to_install_it(fresh, pool, monkeypatch):
    explainer, path = fresh
    session = Session(explainer, pool, path, check=6, per_round=5)
    real = builtins.__import__

    def missing(name, *rest):
        if name == "flask":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match="pip install 'xlens\\[label\\]'"):
        make_app(session, "token")


def test_a_person_answers_in_a_browser_and_sees_the_figure(served, pool, tmp_path):
    session, _, address = served
    said = []
    with browser() as started:
        page = started.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda fault: said.append(str(fault)))
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        for count in range(11):
            page.wait_for_selector("#ask:not([hidden])")
            position = settled(page, session)
            for name, value in truth(pool, position).items():
                index = [q.name for q in session.questions].index(name)
                page.check(f'input[name="q{index}"][value="{value:g}"]')
            if count == 3:
                # Taken back, and answered again.
                page.click("#send")
                _until(lambda: session.state()["answered"] == 4)
                page.click("#back")
                _until(lambda: session.state()["answered"] == 3)
                shows(page, position)
                for name, value in truth(pool, position).items():
                    index = [q.name for q in session.questions].index(name)
                    page.check(f'input[name="q{index}"][value="{value:g}"]')
            page.click("#send")
            _until(lambda count=count: session.state()["answered"] == count + 1)
        _until(lambda: len(session.state()["history"]) == 2)
        _until(lambda: page.evaluate("document.querySelectorAll('#figures tbody tr').length == 2"))
        assert page.inner_text("#figures tbody tr:nth-child(2) td:first-child") == "5"
        assert "Round 2" in page.inner_text("#progress")
        assert page.locator("#chart polyline").count() == 2
    assert said == []
    assert all(url.startswith(address) for url in asked)
    kept = json.loads((session.folder / "answers.json").read_text())["answers"]
    assert all(values == list(truth(pool, int(position)).values()) for position, values in kept.items())


#: Playwright's own way of waiting evaluates strings, which the page forbids.
SHOWN = "p => { const i = document.getElementById('image'); " + (
    "return i.src.endsWith(`image/${p}.png`) && i.naturalWidth >= 256; }"
)


def shows(page, position):
    """Wait until the image is there."""
    _until(lambda: page.evaluate(SHOWN, position))


def settled(page, session):
    """Return what is asked, once it is shown; after a round of learning it is another one than before."""
    found = []

    def there():
        state = session.state()
        found.append(state["next"])
        return not state["learning"] and page.evaluate(SHOWN, state["next"])

    _until(there)
    return found[-1]


def _until(condition, seconds=60.0):
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end
        time.sleep(0.02)


def test_keys_answer_a_single_question_and_shortcuts_do_not(pool, model, tmp_path):
    fitted = xlens.fit(
        xlens.Classifier(model, layer="1"), pool, "ilvm", attributes=("left",), kinds=("binary",), steps=5,
        layers=1, teaching_steps=5, progress=False,
    )  # fmt: skip
    session = Session(fitted, pool, tmp_path / "lens", check=4, per_round=4)
    with serving(session) as (_, address), browser() as started:
        page = started.new_page()
        page.goto(address)
        first = settled(page, session)
        for keys in ("Control+2", "Alt+2", "9", "2"):
            page.keyboard.press(keys)
        _until(lambda: session.state()["next"] != first)
        shows(page, session.state()["next"])
        assert session._facts["answers"] == {str(first): [1.0]}


def test_the_chart_names_as_many_questions_as_there_are(pool, model, tmp_path):
    fitted = xlens.fit(
        xlens.Classifier(model, layer="1"), pool, "ilvm", kinds=("binary",) * 7, steps=2, layers=1, progress=False
    )
    session = Session(fitted, pool, tmp_path / "lens", check=4, per_round=4)
    for position in list(session._facts["asked"]):
        session.answer(position, {question.name: 1 for question in session.questions})
    session.finish_round()
    # As if there were something to draw.
    session._facts["history"][0].update(dict.fromkeys((question.name for question in session.questions), 0.5))
    with serving(session) as (_, address), browser() as started:
        page = started.new_page()
        page.goto(address)
        settled(page, session)
        keys = page.locator("#chart circle.key")
        frame = page.locator("#chart").bounding_box()
        boxes = [keys.nth(index).bounding_box() for index in range(keys.count())]
    assert len({(box["x"], box["y"]) for box in boxes}) == 7
    for box in boxes:
        assert frame["x"] <= box["x"]
        assert box["x"] + box["width"] <= frame["x"] + frame["width"]
        assert frame["y"] <= box["y"]
        assert box["y"] + box["height"] <= frame["y"] + frame["height"]


def test_keys_answer_question_by_question_and_nothing_is_answered_unsaid(served):
    session, _, address = served
    with browser() as started:
        page = started.new_page()
        page.goto(address)
        first = settled(page, session)
        assert page.locator("input:checked").count() == 0
        assert "1 of 6" in page.inner_text("#progress")
        assert "never learns from your answers to them" in page.inner_text("#why")
        page.keyboard.press("Enter")
        assert "Choose an answer to “left” first" in page.inner_text("#hint")
        page.keyboard.press("2")
        page.click("#send")
        assert "how much" in page.inner_text("#hint")
        assert session.state()["answered"] == 0
        page.keyboard.press("0")
        page.keyboard.press("Enter")
        _until(lambda: session.state()["answered"] == 1)
        assert session._facts["answers"] == {str(first): [1.0, None]}
        # What was said is counted from the first answer on.
        _until(lambda: page.inner_text("#answers tbody tr:nth-child(2)").split() == ["yes", "1", "0"])
        assert page.inner_text("#answers tbody tr:last-child").split() == ["cannot", "tell", "1", "0"]
        assert "5 more images for checking" in page.inner_text("#waiting")
        shows(page, session.state()["next"])
        page.keyboard.press("Backspace")
        _until(lambda: session.state()["answered"] == 0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_read_by_everybody(served, scheme):
    from axe_playwright_python.sync_playwright import Axe

    session, _, address = served
    with browser() as started:
        page = started.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 900})
        page.goto(address)
        settled(page, session)
        for stage in ("checking", "learned"):
            for width in (1200, 390):
                page.set_viewport_size({"width": width, "height": 844})
                violations = Axe().run(page).response["violations"]
                assert [fault["id"] for fault in violations if fault["impact"] in ("serious", "critical")] == []
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                picture(page, f"label-{stage}-{scheme}-{width}")
            for position in list(session._facts["asked"]) if stage == "checking" else []:
                session.answer(position, {"left": position % 2, "how much": position % 3})
            session.finish_round()
            page.reload()
            settled(page, session)
            page.keyboard.press("1")


def picture(page, name):
    """Keep a picture to look at, where somebody asks for it."""
    if folder := os.environ.get("XLENS_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
