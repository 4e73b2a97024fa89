"""The label page when something goes wrong: nothing is learned twice, lost, or said that should not be."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import redirect_stderr

import pytest
import torch
from browser import browser
from taught import truth

import xlens
from xlens.errors import DataError, StorageError, XlensWarning
from xlens.files import writing
from xlens.teaching import Teaching
from xlens.teaching.page import Session, make_app, serve

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CHECK, ROUND = 6, 4


def opened(path, model, pool):
    return Session(xlens.load(path, model), pool, path, check=CHECK, per_round=ROUND)


def go_on(path, model, pool, rounds):
    """Answer as somebody would who starts the page again, until so many rounds are learned."""
    session = opened(path, model, pool)
    while session.state()["round"] <= rounds:
        position = session.state()["next"]
        if session.answer(position, truth(pool, position)):
            session.finish_round()
            assert session.state()["fault"] == ""
    session.close()


def outcome(path, model):
    kept = json.loads((path / "answers.json").read_text())
    lens = xlens.load(path, model).lens.state_dict()
    return {key: kept[key] for key in ("answers", "asked", "history", "round", "check")}, lens


def same(first, second):
    # What is not known yet is NaN.
    tensors = [[lens[key].nan_to_num(-9.0) for key in sorted(lens)] for _, lens in (first, second)]
    return first[0] == second[0] and all(map(torch.equal, *tensors))


def killed(path, model, pool, rounds, after, before):
    """Go on in a process that is killed at a step between two states of the disk; return whether it was."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    try:
        count, real = [0], os.replace

        def replace(*names):
            count[0] += 1
            if before and count[0] == after:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*names)
            if not before and count[0] == after:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace
        go_on(path, model, pool, rounds)
    finally:
        os._exit(0)


@pytest.fixture(scope="module")
def quick(pool, model, tmp_path_factory):
    """A lens that learns fast, a session that has its checks, and what comes of it undisturbed."""
    fitted = xlens.fit(
        xlens.Classifier(model, layer="1"), pool, "ilvm", attributes=("left", "how much"),
        kinds=("binary", "ordinal:3"), steps=5, layers=1, hidden=8, teaching_steps=4, progress=False,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("quick")
    fitted.save(path)
    go_on(path, model, pool, 0)
    calm = copied(path, tmp_path_factory.mktemp("calm") / "lens")
    go_on(calm, model, pool, 2)
    return path, outcome(calm, model)


def copied(path, to):
    to.mkdir()
    for file in path.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def kills(first):
    # The answers, the two files of a lens, the end of the round, the same again.
    return [(number, before) for number in range(first, 2 * (ROUND + 3) + 1) for before in (True, False)]


@pytest.mark.parametrize(("after", "before"), kills(ROUND))
def test_killed_at_any_step_a_round_is_learned_once(quick, pool, model, tmp_path, after, before):
    path, calm = quick
    path = copied(path, tmp_path / "lens")
    assert killed(path, model, pool, 2, after, before)
    go_on(path, model, pool, 2)
    assert same(outcome(path, model), calm)


@pytest.mark.parametrize("second", range(1, 4))
def test_killed_twice_in_a_row_a_round_is_learned_once(quick, pool, model, tmp_path, second):
    path, calm = quick
    path = copied(path, tmp_path / "lens")
    assert killed(path, model, pool, 2, ROUND + 2, False)  # the lens is saved, and the answers do not say so
    killed(path, model, pool, 2, second, True)
    go_on(path, model, pool, 2)
    assert same(outcome(path, model), calm)


def test_without_the_mark_in_the_lens_it_would_be_learned_twice(quick, pool, model, tmp_path, monkeypatch):
    path, calm = quick
    path = copied(path, tmp_path / "lens")
    monkeypatch.setattr(Session, "_learned", lambda self: self._facts["round"] - 1)
    assert killed(path, model, pool, 2, ROUND + 2, False)
    go_on(path, model, pool, 2)
    assert not same(outcome(path, model), calm)


def test_a_lens_fitted_anew_learns_every_answer_and_says_so(quick, pool, model, tmp_path):
    path, _ = quick
    other = copied(path, tmp_path / "lens")
    go_on(other, model, pool, 1)
    session = opened(other, model, pool)
    while session.state()["left"] > 1:
        position = session.state()["next"]
        session.answer(position, truth(pool, position))
    session.close()
    xlens.load(path, model).save(other)
    explainer = xlens.load(other, model)
    rows = len(explainer.lens.memory.y)
    again = Session(explainer, pool, other, check=CHECK, per_round=ROUND)
    last = again.state()["next"]
    assert again.answer(last, truth(pool, last))
    with pytest.warns(XlensWarning, match="has not learned from the first 1 rounds"):
        again.finish_round()
    assert len(explainer.lens.memory.y) == rows + 2 * ROUND


def test_a_second_program_on_the_folder_is_refused_by_name(quick, pool, model, tmp_path):
    path = copied(quick[0], tmp_path / "lens")
    script = (
        "import sys; from pathlib import Path; from xlens.teaching.page.lock import FolderLock\n"
        "FolderLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match=f"another program is keeping answers.*process {other.pid}"):
            opened(path, model, pool)
    finally:
        other.kill()
        other.communicate()
    opened(path, model, pool).close()


def test_two_sessions_of_one_process_lose_no_answer(quick, pool, model, tmp_path):
    path = copied(quick[0], tmp_path / "lens")
    first, second = opened(path, model, pool), opened(path, model, pool)
    position = first.state()["next"]
    first.answer(position, truth(pool, position))
    with pytest.raises(StorageError, match="changed by somebody else"):
        second.answer(second.state()["next"], {})
    assert str(position) in json.loads((path / "answers.json").read_text())["answers"]


def test_a_last_answer_that_cannot_be_written_can_be_given_again(quick, pool, model, tmp_path, monkeypatch):
    session = opened(copied(quick[0], tmp_path / "lens"), model, pool)
    while session.state()["left"] > 1:
        session.answer(session.state()["next"], {})
    before = session.state()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StorageError, match="No space left"):
            session.answer(before["next"], {})
        assert session.state() == before
        assert not before["done"]
        with pytest.raises(StorageError, match="No space left"):
            session.take_back()
        assert session.state() == before
    assert session.answer(before["next"], {})


def test_an_answer_that_the_disk_does_not_confirm_counts(quick, pool, model, tmp_path, monkeypatch):
    """Who reads the folder next finds it."""
    session = opened(copied(quick[0], tmp_path / "lens"), model, pool)
    before = session.state()

    def broken(_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_flush_folder", broken)
        with pytest.warns(XlensWarning, match="answers are kept, but .*not confirmed.*Input/output error"):
            session.answer(before["next"], {})
    assert session.state()["left"] == before["left"] - 1
    session.answer(session.state()["next"], {})


def test_a_stale_or_repeated_answer_has_no_effect(quick, pool, model, tmp_path):
    session = opened(copied(quick[0], tmp_path / "lens"), model, pool)
    shown = session.state()
    session.answer(shown["next"], {}, turn=shown["turn"])
    after = session.state()
    for position, turn, says in [
        (shown["next"], shown["turn"], "not what is asked"),
        (after["next"], shown["turn"], "not what is asked"),
        (shown["next"], None, "answered already"),
    ]:
        with pytest.raises(DataError, match=says):
            session.answer(position, {}, turn=turn)
    with pytest.raises(DataError, match="not what is asked"):
        session.take_back(turn=shown["turn"])
    assert session.state() == after


@pytest.mark.parametrize(
    "value",
    [10**400, 10**5000, float("nan"), float("inf"), 1e300, "\ud800", [1], {}, True],
    ids=lambda value: type(value).__name__,
)
def test_no_answer_is_a_raw_error(quick, pool, model, tmp_path, value):
    session = opened(copied(quick[0], tmp_path / "lens"), model, pool)
    free = session.questions[0].__class__("free", ())
    with pytest.raises(DataError, match="no answer to 'free'"):
        session._value(free, {"free": value})
    with pytest.raises(DataError):
        session.answer(session.state()["next"], {"left": value})
    with pytest.raises(DataError):
        session.answer(value, {})
    with pytest.raises(DataError, match="no question"):
        session.answer(session.state()["next"], {str(value)[:50] if not isinstance(value, int) else 3: 1.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("asked", "x"), ("asked", [10**6]), ("asked", [[1]]), ("round", -1), ("round", "1"), ("answers", []),
        ("answers", {"x": [1, 2]}), ("answers", {"1": 3}), ("answers", {"1": ["a", 2]}), ("history", [3]),
        ("history", [{}]), ("check", [1, 1]), ("session", 3), ("turn", None), ("before_marks", 1.5),
    ],
)  # fmt: skip
def test_damaged_answers_are_said_to_be(quick, pool, model, tmp_path, name, value):
    path = copied(quick[0], tmp_path / "lens")
    facts = json.loads((path / "answers.json").read_text())
    (path / "answers.json").write_text(json.dumps({**facts, name: value}))
    with pytest.raises(StorageError, match="is damaged"):
        opened(path, model, pool)
    (path / "answers.json").write_text("[" * 100_000)
    with pytest.raises(StorageError, match="is damaged"):
        opened(path, model, pool)


@pytest.fixture
def asked(quick, pool, model, tmp_path):
    session = opened(copied(quick[0], tmp_path / "lens"), model, pool)
    app = make_app(session, "secret-token")
    return session, app.test_client(), app


def test_what_is_no_answer_is_refused_in_words(asked):
    session, client, _ = asked
    position, before = session.state()["next"], session.state()
    shown = f'{{"position": {position}, "values": '
    bodies = [
        shown + '{"left": 1' + "0" * 400 + "}}",
        shown + '{"left": NaN}}',
        shown + '{"left": 1e999}}',
        shown + '{"\\ud800": 1}}',
        shown + '{"left": "\\ud800"}}',
        shown + '{}, "turn": "\\ud800"}',
        shown + '{}, "turn": 3}',
        shown + "[]}",
        f'{{"position": {position}}}',
        '{"position": 1' + "0" * 400 + ', "values": {}}',
        '{"position": 1' + "0" * 6000 + ', "values": {}}',
        '{"position": true, "values": {}}',
        "[" * 50_000,
        "{",
    ]
    for body in bodies:
        said = client.post("/secret-token/answer", data=body.encode(), content_type="application/json")
        assert said.status_code == 400, body[:60]
        assert said.get_json()["fault"]
    assert client.post("/secret-token/answer", data=b"\xff", content_type="application/json").status_code == 400
    too_long = client.post("/secret-token/answer", data=b"1" * 70_000, content_type="application/json")
    assert too_long.status_code == 413
    assert session.state() == before


def test_a_round_whose_thread_cannot_start_is_said_and_the_page_does_not_wait(asked, monkeypatch):
    session, client, _ = asked

    def full(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    while session.state()["left"]:
        state = session.state()
        said = client.post("/secret-token/answer", json={"position": state["next"], "values": {}})
    assert said.status_code == 200
    assert not said.get_json()["learning"]
    assert "can't start new thread Every answer is kept" in said.get_json()["fault"]


def test_nothing_that_goes_wrong_shows_the_token(asked, monkeypatch, caplog):
    session, client, app = asked

    def broken(*_, **__):
        raise RuntimeError("at /secret-token/answer")

    heard = io.StringIO()
    with redirect_stderr(heard):
        monkeypatch.setattr(session, "answer", broken)
        monkeypatch.setattr(session, "state", broken)
        body = {"position": 1, "values": {}}
        for said in (client.post("/secret-token/answer", json=body), client.get("/secret-token/state")):
            assert said.status_code == 500
            assert "secret-token" not in said.get_data(as_text=True)
        assert "RuntimeError" in heard.getvalue()
        assert "secret-token" not in heard.getvalue() + caplog.text
        # As Flask is, it does.
        del app.error_handler_spec[None][None][Exception]
        monkeypatch.delattr(type(app), "log_exception")
        client.get("/secret-token/state")
    assert "Exception on /secret-token/state" in caplog.text


def test_a_server_that_fails_keeps_the_token_to_itself(quick, pool, model, tmp_path, capfd, caplog):
    session = opened(copied(quick[0], tmp_path / "lens"), model, pool)
    server, address = serve(session)
    token = address.rsplit("/", 2)[1]

    def broken(environ, _):
        raise RuntimeError(environ["PATH_INFO"])

    server.app = broken
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address + "state", timeout=5)
        assert token not in caught.value.read().decode()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    said = capfd.readouterr()
    # Where a program has set up logging, the server's own words go there and not to standard error.
    assert "RuntimeError" in said.err + caplog.text
    assert token not in said.err + said.out + caplog.text


def test_a_double_click_answers_the_shown_image_alone(quick, pool, model, tmp_path):
    session = opened(copied(quick[0], tmp_path / "lens"), model, pool)
    server, address = serve(session)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    ready = "() => { const i = document.getElementById('image'); return i.complete && i.naturalWidth > 0; }"
    try:
        with browser() as started:
            page = started.new_page()
            page.goto(address)
            page.wait_for_selector("#ask:not([hidden])")
            for button, answered in (("#send", 1), ("#send", 2), ("#back", 1)):
                while not page.evaluate(ready):
                    page.wait_for_timeout(20)
                for untold in page.locator('input[type=radio][value=""]').all():
                    untold.check()
                # The second half comes when the next image is there already.
                page.dblclick(button, delay=150)
                page.wait_for_timeout(300)
                assert session.state()["answered"] - CHECK == answered
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_teaching_a_lens_below_another_one_is_said_before_it_changes(quick, pool, model, monkeypatch):
    lower = xlens.load(quick[0], model)
    table = torch.tensor([list(truth(pool, i).values()) for i in range(8)])
    settings = {"steps": 2, "layers": 1, "progress": False}
    upper = xlens.fit(lower.classifier, pool, "ilvm", over=lower, kinds=("binary",), **settings)
    codes = upper.lens.encode(pool[:4])
    taught = []
    monkeypatch.setattr(type(lower.lens), "teach", lambda *_: taught.append(1))
    with pytest.raises(XlensWarning, match="over this lens lies the 'ilvm' lens"), warnings_as_errors():
        lower.teaching.teach(pool[:8], table, progress=False)
    assert taught == []
    monkeypatch.undo()
    with pytest.warns(XlensWarning, match="over this lens lies the 'ilvm' lens"):
        Teaching(upper.fitted.over).teach(pool[:8], table, progress=False)
    assert not torch.equal(upper.lens.encode(pool[:4]), codes)
    alone = xlens.load(quick[0], model)
    with warnings_as_errors():
        alone.teaching.teach(pool[:8], table, progress=False)


def warnings_as_errors():
    import warnings

    context = warnings.catch_warnings()

    class Strict:
        def __enter__(self):
            context.__enter__()
            warnings.simplefilter("error", XlensWarning)

        def __exit__(self, *fault):
            return context.__exit__(*fault)

    return Strict()


def test_a_folder_whose_lock_cannot_be_closed_in_peace_is_free_all_the_same(
    quick, pool, model, tmp_path, monkeypatch
):
    folder = copied(quick[0], tmp_path / "lens")
    session = opened(folder, model, pool)
    close = os.close

    def failing(descriptor):
        close(descriptor)
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", failing)
        session.close()
    opened(folder, model, pool).close()
