"""The page of the papers' tables says what was run, and puts each figure where it belongs."""

import importlib
import json
import math

import pytest
import torch


@pytest.fixture
def papers(monkeypatch, tmp_path):
    module = importlib.import_module("benchmarks.papers.page")
    monkeypatch.setattr("benchmarks.papers.cells.CACHE", tmp_path)
    return module


def test_an_empty_page_says_that_nothing_was_run(papers):
    page = papers.page()
    assert page.count("**Not run.**") == len(papers.PAPERS)
    for name in papers.PAPERS:
        assert f"- {name}: seeds 0, 1, 2" in page
    assert "0.965 ± .008" in page  # the papers' own numbers stand there all the same


def test_a_figure_stands_in_the_row_that_it_belongs_to(papers, tmp_path):
    cell = {
        f"f: {label}: Frechet distance, reconstructions": value
        for label, value in {"VAC": 9.0, "IntroVAC": 4.0}.items()
    }
    (tmp_path / "papers-introvac-0.json").write_text(json.dumps(cell))
    page = papers.page()
    assert "| VAC, equal steps |  | 9.00 | not run | not run |" in page
    assert "| IntroVAC | 25.5 | 4.00 | not run | not run |" in page
    assert "- introvac: seeds 1, 2" in page


def test_what_is_there_is_not_measured_again(papers, tmp_path):
    (tmp_path / "papers-svae-3.json").write_text('{"a": 1.0}')
    papers.cells.keep("svae", 3, lambda seed: pytest.fail("measured again"))
    papers.cells.keep("svae", 4, lambda seed: {"a": float(seed)})
    assert papers.cells.kept("papers-svae") == {3: {"a": 1.0}, 4: {"a": 4.0}}


def test_a_figure_of_one_seed_and_of_several(papers):
    shown = papers.cells.shown
    cells = [{"a": 3.0, "a, spread": 0.5}, {"a": 1.0, "a, spread": 0.5}, {"a": 2.0}]
    assert shown(cells[:1], "a", 1, "a, spread") == "3.0 ± 0.5"
    assert shown(cells, "a", 1, "a, spread") == "2.0 (1.0 to 3.0)"
    assert shown(cells, "b") == "not run"


def test_importance_weights_are_exact_where_the_posterior_is(papers):
    """With a linear decoder and the true posterior each weight is log p(x) itself."""
    generator = torch.Generator().manual_seed(0)
    width, size, variance = 2, 5, 0.3
    # Perpendicular columns, so that the posterior is diagonal as the encoder's is.
    basis, _ = torch.linalg.qr(torch.randn(size, width, generator=generator))
    basis = 1.5 * basis
    spread = 1 / (1 + 1.5**2 / variance)

    class Networks(torch.nn.Module):
        def encoder(self, x):
            mean = spread * x @ basis / variance
            return mean, torch.full_like(mean, math.log(spread))

        def decoder(self, codes):
            return codes @ basis.T

    x = torch.randn(4, size, generator=generator)
    weights = papers.ilvm.log_weights(Networks(), x, variance, generator)
    covariance = basis @ basis.T + variance * torch.eye(size)
    exact = torch.distributions.MultivariateNormal(torch.zeros(size), covariance).log_prob(x)
    assert weights.shape == (4, papers.ilvm.DRAWN)
    assert torch.allclose(weights, exact[:, None].double().expand_as(weights), atol=1e-4)


def test_pixels_are_counted_above_a_threshold(papers):
    counted = papers.medxgan.counted
    maps = torch.tensor([[0.0, -1.0, 0.05, 1e-3], [0.0, 0.0, 0.0, 1e-7]])
    assert counted(maps, 1e-6, False).tolist() == [3, 0]
    assert counted(maps, 0.1, True).tolist() == [1, 1]


@pytest.fixture
def presets(papers):
    return importlib.import_module("benchmarks.papers.presets.page")


def test_the_page_of_digits_says_what_was_not_measured(presets):
    page = presets.page()
    claims = sum(len(claims) for _, claims in presets.PAPERS.values())
    assert page.count("| not measured |") == claims + 1  # and the head of the tally
    assert "98.23 against 97.35" in page


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([{"paper: a": 2.0}] * 3 + [{"defaults: a": 0.0}], "**reproduced** (paper 3 of 3, defaults 0 of 1)"),
        ([{"paper: a": 2.0}] * 2, "**reproduced so far** (paper 2 of 2)"),
        ([{"paper: a": 0.0}, {"paper: a": 3.0}], "**not reproduced** (paper 1 of 2)"),
        ([{"paper: a": 0.0}], "**not reproduced** (paper 0 of 1)"),
        ([{"paper: a": 0.0, "further: a": 0.0}], "**refuted here so far** (paper 0 of 1, further 0 of 1)"),
        ([{"paper: a": 0.0, "further: a": 2.0}], "**not reproduced** (paper 0 of 1, further 1 of 1)"),
        ([{"defaults: a": 2.0}], "not measured with `paper()` as it is (defaults 1 of 1)"),
        ([{}], "not measured"),
    ],
)
def test_the_verdict_counts_seeds(presets, cells, said):
    claims = importlib.import_module("benchmarks.papers.presets.claims")
    claim = claims.Claim("A table 1", "a is above 1", [claims.Shown("a", "a")], claims.at_least("a", 1.0))
    assert claims.verdict(claim, cells) == said


def test_a_figure_of_a_preset_stands_in_its_column(presets, tmp_path):
    for seed, value in enumerate((0.5, 0.7, 0.6)):
        cell = {"paper: own area": value, "defaults: own area": 0.25}
        (tmp_path / f"papers-digits-medxgan-{seed}.json").write_text(json.dumps(cell))
    page = presets.page()
    assert "share of pixels 0.60 (0.50 to 0.70) | share of pixels 0.25 (0.25 to 0.25) | - | 0, 1, 2 |" in page
