"""Rounds of questions and answers: nothing is lost, and what is checked is never learned."""

import pytest
from taught import truth

import xlens
from xlens.errors import DataError, OptionError, StorageError, UnsupportedError
from xlens.teaching import Teaching
from xlens.teaching.page import Session


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
    real = Teaching.query

    def query(self, inputs, n, strategy="random", *, seed=0):
        seeds.append(seed)
        return real(self, inputs, n, strategy, seed=seed)

    monkeypatch.setattr(Teaching, "query", query)
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

    monkeypatch.setattr(Teaching, "teach", failing)
    session.finish_round()
    state = session.state()
    assert str(fault) in state["fault"]
    assert "start xlens label again" in state["fault"]
    assert not state["learning"]
    assert not state["done"]
    monkeypatch.undo()
    again = Session(xlens.load(path, model), pool, path, check=8, per_round=6).state()
    assert (again["round"], again["fault"], again["left"]) == (2, "", 6)


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_lens_that_was_fitted_into_the_folder_meanwhile_is_not_overwritten(fresh, pool, model, monkeypatch, when):
    explainer, path = fresh
    session = Session(explainer, pool, path, check=8, per_round=6)
    answer_all(session, pool)
    session.finish_round()
    other = xlens.load(path, model)
    other.provenance["seed"] = 7
    real = Teaching.teach

    def replace(*given, **said):
        other.save(path)
        return real(*given, **said)

    if when == "before":
        other.save(path)
    else:
        monkeypatch.setattr(Teaching, "teach", replace)
    answer_all(session, pool)
    session.finish_round()
    assert "replaced by somebody else" in session.state()["fault"]
    assert "Every answer is kept" in session.state()["fault"]
    assert xlens.load(path, model).provenance["seed"] == 7
    monkeypatch.undo()
    session.close()
    again = Session(xlens.load(path, model), pool, path, check=8, per_round=6)
    assert (again.state()["round"], again.state()["fault"]) == (2, "")
    saved = xlens.load(path, model).provenance
    assert (saved["seed"], saved["label"]["round"]) == (7, 1)


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
