"""The IntroVAC backend: a game that is lost is seen, begun anew, and said; and the health test can fail."""

import dataclasses

import pytest
import torch
import toys
from torch import nn
from xlens_introvac import Health, backend
from xlens_introvac.course import Course
from xlens_introvac.health import examine

import xlens
from xlens.data import as_data
from xlens.errors import XlensWarning

#: A game without limit that pulls far harder than the reconstruction, which it destroys within some hundred steps.
BROKEN = {
    "steps": 150,
    "hidden": 32,
    "code": 8,
    "batch_size": 32,
    "game_share": None,
    "fool_weight": 100.0,
    "detect_weight": 3.0,
    "learning_rate": 1e-2,
    "mask": toys.SHORT_MASK,
    "progress": False,
}
SOUND = Health(agreement=0.9, usual=0.5, error=0.3, flips=0.9, worsening=1.0)


def test_a_lost_game_is_begun_anew_and_said_in_the_end(digits):
    model, images = digits
    phases = []
    options = BROKEN | {"restarts": 1, "on_step": lambda event: phases.append((event.phase, event.step))}
    with pytest.warns(XlensWarning) as said:
        explainer = xlens.fit(model, images.train, "introvac", **options)
    texts = [str(w.message) for w in said if "fit:" in str(w.message) and "reconstruction" in str(w.message)]
    assert "begun anew, because at step" in texts[0]
    assert "times as bad as it had been" in texts[0]
    assert "the lens is not sound: reconstructions are" in texts[1]
    assert {w.filename for w in said} == {__file__}
    # The first attempt was stopped early, and the last went on to its end.
    assert max(step for phase, step in phases if phase == "introvac") < 150
    assert max(step for phase, step in phases if phase == "introvac-2") == 150
    assert explainer.lens.health.problems


def test_the_same_game_within_its_share_is_sound(digits, tmp_path):
    model, images = digits
    options = BROKEN | {"game_share": 0.5}
    explainer = xlens.fit(model, images.train, "introvac", **options)
    health = explainer.lens.health
    assert not health.problems
    explainer.save(tmp_path)
    assert xlens.load(tmp_path, model).lens.health == health


def test_each_attempt_plays_with_a_quarter_of_the_share(digits, monkeypatch):
    model, images = digits
    shares = []

    class Noting(backend.Objective):
        def __init__(self, *args, share, **others):
            shares.append(share)
            super().__init__(*args, share=share, **others)

    monkeypatch.setattr(backend, "Objective", Noting)
    monkeypatch.setattr(Course, "lost", property(lambda self: True))
    options = BROKEN | {"steps": 2, "game_share": 0.8}
    with pytest.warns(XlensWarning, match="begun anew"):
        xlens.fit(model, images.train, "introvac", restarts=2, **options)
    assert shares == [0.8, 0.2, 0.05]


def test_an_attempt_after_the_first_resumes_to_the_same_lens(digits, tmp_path):
    model, images = digits
    whole = xlens.fit(model, images.train, "introvac", restarts=1, **BROKEN)

    def stop(event):
        if (event.phase, event.step) == ("introvac-2", 20):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        xlens.fit(model, images.train, "introvac", restarts=1, output_dir=tmp_path, on_step=stop, **BROKEN)
    resumed = xlens.fit(model, images.train, "introvac", restarts=1, output_dir=tmp_path, resume=True, **BROKEN)
    for name, value in whole.lens.state_dict().items():
        assert torch.equal(value, resumed.lens.state_dict()[name]), name


def test_the_course_sees_a_reconstruction_that_gets_worse_and_no_noise():
    course, generator = Course(), torch.Generator().manual_seed(0)
    falling = [0.1 + 0.4 * 0.97**i for i in range(200)]
    for i, value in enumerate(falling):
        course.follow(torch.tensor(value) * (1 + 0.3 * torch.randn((), generator=generator)), first=i == 0)
        assert not course.lost
    for _ in range(60):
        course.follow(torch.tensor(0.2), first=False)
    assert course.lost
    assert course.worsening == pytest.approx(2.0, rel=0.1)
    again = Course()
    again.load_state_dict(course.state_dict())
    assert again.worsening == course.worsening


@pytest.mark.parametrize(
    ("figure", "value", "says"),
    [
        ("worsening", 1.6, "became 1.6 times as bad"),
        ("error", 1.2, "1.20 times as far off as the mean input"),
        ("error", float("nan"), "nan times as far off"),
        ("agreement", 0.74, "74% of the reconstructions, and one class alone makes up 50%"),
        ("usual", 0.85, "90% of the reconstructions, and one class alone makes up 85%"),
        ("flips", 0.4, "decision in 40% of the inputs"),
    ],
)
def test_each_figure_can_be_a_problem(figure, value, says):
    assert not SOUND.problems
    (problem,) = dataclasses.replace(SOUND, **{figure: value}).problems
    assert says in problem


def test_the_examination_measures_what_it_says():
    class Halved(toys.ToyLens):
        def encode(self, inputs):
            return inputs

        def decode(self, codes):
            return codes / 2

        def counterfactual(self, codes, target, contrast):
            # Two of three succeed: those of class 0 stay where they are.
            return torch.where((target == 0)[:, None], codes, -codes)

    # Three points at the corners of two classes; sorted, and most of them in class 1.
    inputs = torch.tensor([[-1.0, 1.0]] * 200 + [[1.0, -1.0]] * 400)
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    run = toys.run_for(inputs)
    found = examine(Halved(), xlens.Classifier(model), as_data(inputs), run, worsening=1.0)
    assert found.agreement == 1.0
    assert found.usual == pytest.approx(2 / 3, abs=0.06)
    assert found.flips == pytest.approx(2 / 3, abs=0.2)
    # 1/2 each value; from a mean of 1/3 they are off by 2/3 with the two thirds, by 4/3 with the others: 8/9.
    assert found.error == pytest.approx(0.5 / (8 / 9), abs=0.03)
