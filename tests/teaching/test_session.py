"""Teaching a lens on a local page: the session, the server, and the page in a browser."""

import builtins
import json
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from browser import browser
from torch import nn

import xlens
from xlens.errors import DataError, MissingExtraError, OptionError, StorageError, UnsupportedError
from xlens.teaching.page import Session, make_app, serve

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def pool():
    """Pictures that are bright on the left or on the right, by more or less."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(160, 1, 8, 8, generator=generator)
    images[::2, ..., :4] += torch.rand(80, 1, 1, 1, generator=generator)
    images[1::2, ..., 4:] += torch.rand(80, 1, 1, 1, generator=generator)
    return images


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.fixture(scope="module")
def folder(pool, model, tmp_path_factory):
    """A lens of which nothing is known yet."""
    fitted = xlens.fit(
        xlens.Classifier(model, layer="1"), pool, "ilvm", attributes=("left", "how much"),
        kinds=("binary", "ordinal:3"), steps=60, layers=1, hidden=8, teaching_steps=120, progress=False,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("lens")
    fitted.save(path)
    return path


@pytest.fixture
def fresh(folder, model, tmp_path):
    """A copy of the lens in a folder of its own."""
    explainer = xlens.load(folder, model)
    explainer.save(tmp_path / "lens")
    return explainer, tmp_path / "lens"


def truth(pool, position):
    left = pool[position, ..., :4].mean() > pool[position, ..., 4:].mean()
    return {"left": float(left), "how much": float(min(2, int(4 * abs(pool[position].mean() - 0.5))))}


def answer_all(session, pool):
    """Answer until the round is complete; return the positions."""
    seen = []
    while (position := session.state()["next"]) is not None:
        seen.append(position)
        if session.answer(position, truth(pool, position)):
            break
    return seen


def test_rounds_go_on_and_what_is_checked_is_never_learned(fresh, pool, model):
    explainer, path = fresh
    session = Session(explainer, pool, path, check=24, per_round=20)
    assert session.state()["checking"]
    checked = answer_all(session, pool)
    session.finish_round()
    assert session.state()["history"] == [{"taught": 0, "left": None, "how much": None}]
    assert len(explainer.lens.memory.y) == 160
    for _ in range(2):
        taught = answer_all(session, pool)
        assert not set(taught) & set(checked)
        session.finish_round()
    state = session.state()
    assert [one["taught"] for one in state["history"]] == [0, 20, 40]
    assert state["history"][-1]["left"] > 0.6  # .5 is chance
    assert int((~explainer.lens.memory.targets.isnan()).any(1).sum()) == 40
    # The lens that was saved is the one that has learned.
    again = xlens.load(path, model)
    assert len(again.lens.memory.y) == 200


def test_stopping_at_any_moment_loses_nothing(fresh, pool, model):
    explainer, path = fresh
    session = Session(explainer, pool, path, check=8, per_round=6)
    answer_all(session, pool)
    session.finish_round()
    first = session.state()["next"]
    session.answer(first, {"left": 1.0})
    again = Session(xlens.load(path, model), pool, path, check=8, per_round=6)
    assert again.state() == session.state()
    assert again.state()["answered"] == 9
    answer_all(again, pool)
    # Stopped after the last answer, before anything was learned from it: that is made good.
    third = Session(xlens.load(path, model), pool, path, check=8, per_round=6)
    assert third.state()["history"][-1]["taught"] == 6
    assert third.state()["round"] == 2


def test_stopped_after_the_last_check_it_goes_on(fresh, pool, model):
    explainer, path = fresh
    session = Session(explainer, pool, path, check=8, per_round=6)
    answer_all(session, pool)
    again = Session(xlens.load(path, model), pool, path, check=8, per_round=6).state()
    assert (again["round"], again["left"], again["done"]) == (1, 6, False)


def test_another_seed_asks_about_others(fresh, pool, monkeypatch):
    explainer, path = fresh
    seeds = []
    real = type(explainer).query

    def query(self, inputs, n, strategy="random", *, seed=0):
        seeds.append(seed)
        return real(self, inputs, n, strategy, seed=seed)

    monkeypatch.setattr(type(explainer), "query", query)
    for seed in (0, 70):
        session = Session(explainer, pool, path / str(seed), check=8, per_round=6, seed=seed)
        answer_all(session, pool)
        session.finish_round()
    assert len(set(seeds)) == 2


@pytest.mark.parametrize("fault", [RuntimeError("out of memory"), DataError("it does not fit")])
def test_what_goes_wrong_while_learning_is_said_and_made_good(fresh, pool, model, monkeypatch, fault):
    explainer, path = fresh
    session = Session(explainer, pool, path, check=8, per_round=6)
    answer_all(session, pool)
    session.finish_round()
    answer_all(session, pool)

    def failing(*_, **__):
        raise fault

    monkeypatch.setattr(type(explainer), "teach", failing)
    session.finish_round()
    state = session.state()
    assert str(fault) in state["fault"]
    assert "start xlens label again" in state["fault"]
    assert not state["learning"]
    assert not state["done"]
    monkeypatch.undo()
    again = Session(xlens.load(path, model), pool, path, check=8, per_round=6).state()
    assert (again["round"], again["fault"], again["left"]) == (2, "", 6)


def test_answers_are_checked_and_can_be_taken_back(fresh, pool):
    explainer, path = fresh
    session = Session(explainer, pool, path, check=8, per_round=6)
    first = session.state()["next"]
    for values, message in [
        ({"left": 2.0}, "no answer to 'left'"),
        ({"left": True}, "no answer to 'left'"),
        ({"right": 1.0}, "no question 'right'"),
    ]:
        with pytest.raises(DataError, match=message):
            session.answer(first, values)
    with pytest.raises(DataError, match="not asked about now"):
        session.answer(next(i for i in range(160) if i not in session._facts["asked"]), {})
    session.answer(first, {"left": None})
    assert session.state()["next"] != first
    session.take_back()
    assert session.state()["next"] == first


def test_what_cannot_be_a_session_is_refused(fresh, pool, model, tmp_path):
    explainer, path = fresh
    with pytest.raises(DataError, match="the pool is too small"):
        Session(explainer, pool[:10], path)
    with pytest.raises(OptionError, match="check must be an int >= 1.*per_round must be"):
        Session(explainer, pool, path, check=0, per_round=1.5)
    with pytest.raises(OptionError, match="unknown strategy 'randm'"):
        Session(explainer, pool, path, strategy="randm")
    Session(explainer, pool, path, check=8, per_round=6).answer(
        Session(explainer, pool, path, check=8, per_round=6).state()["next"], {}
    )
    with pytest.raises(StorageError, match="other inputs or questions"):
        Session(explainer, pool + 1, path, check=8, per_round=6)
    (path / "answers.json").write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        Session(explainer, pool, path, check=8, per_round=6)
    classes = xlens.fit(xlens.Classifier(model, layer="1"), pool, "ilvm", steps=2, layers=1, progress=False)
    with pytest.raises(UnsupportedError, match="nothing to ask"):
        Session(classes, pool, tmp_path)


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
        assert "round 2" in page.inner_text("#progress")
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


def test_from_the_command_line(folder, pool, model, tmp_path, monkeypatch, capsys):
    from xlens import cli
    from xlens.cli import labelling

    xlens.load(folder, model).save(tmp_path / "lens")
    (tmp_path / "labelled_model.py").write_text("net = None")
    monkeypatch.syspath_prepend(str(tmp_path))
    import labelled_model

    monkeypatch.setattr(labelled_model, "net", lambda: model)
    np.save(tmp_path / "pool.npy", pool.numpy())
    seen = []

    class Stopped:
        def serve_forever(self):
            raise KeyboardInterrupt

        def server_close(self):
            seen.append("closed")

    def serving(session, port):
        seen.append((len(session.pool), session.state()["left"], port))
        return Stopped(), "http://127.0.0.1:1/secret/"

    monkeypatch.setattr(labelling, "serve", serving)
    given = ["label", str(tmp_path / "lens"), str(tmp_path / "pool.npy"), "--model", "labelled_model:net"]
    assert cli.main([*given, "--check", "8", "--port", "0"]) == 130
    assert seen == [(160, 8, 0), "closed"]
    assert "open http://127.0.0.1:1/secret/" in capsys.readouterr().out
    assert cli.main([*given, "--check", "1", "--per-round", "0"]) == 2
    assert "--check must be >= 4; --per-round must be >= 1" in capsys.readouterr().err


def test_a_lens_on_a_layer_from_the_command_line(pool, model, tmp_path, monkeypatch):
    from xlens import cli

    (tmp_path / "layered_model.py").write_text("net = None")
    monkeypatch.syspath_prepend(str(tmp_path))
    import layered_model

    monkeypatch.setattr(layered_model, "net", lambda: model)
    np.save(tmp_path / "pool.npy", pool.numpy())
    lens, arrays = str(tmp_path / "lens"), str(tmp_path / "pool.npy")
    options = [f"--option={pair}" for pair in ("steps=20", "layers=1", 'attributes=["left"]', 'kinds=["binary"]')]
    given = ["layered_model:net", arrays, "--backend", "ilvm", "--layer", "1", "-o", lens]
    assert cli.main(["fit", *given, *options]) == 0
    page = str(tmp_path / "why.html")
    assert cli.main(["explain", lens, arrays, "--model", "layered_model:net", "--html", page, "--json"]) == 0
    assert (tmp_path / "why.html").stat().st_size > 10_000
