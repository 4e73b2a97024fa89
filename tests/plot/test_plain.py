"""The sentence that needs no glossary: what, where, how it looks, and what the model says then."""

import dataclasses

import pytest
import torch
from drawings import made, reshaped

from xlens.plot.plain import change_in_kind, finding, percent, reasons, standing
from xlens.plot.verdicts import verdict_lines
from xlens.report.overall import overall

GREEN, BROWN, RED, GREY = (0.25, 0.6, 0.2), (0.45, 0.25, 0.1), (0.85, 0.1, 0.1), (0.5, 0.5, 0.5)
PLACES = {
    "at the top left": (6, 6),
    "at the top": (6, 24),
    "near the centre": (24, 24),
    "at the right": (24, 42),
    "at the bottom right": (42, 42),
}


def edited(spots, ground=GREEN, spot=BROWN, radius=3, side=48, **others):
    """Return the explanation that takes round spots off an even ground, or puts them on with `added`."""
    added = others.pop("added", False)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    mask = torch.zeros(side, side, dtype=torch.bool)
    for row, column in spots:
        mask |= (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    plain = torch.tensor(ground)[:, None, None].expand(3, side, side)
    spotted = torch.where(mask, torch.tensor(spot)[:, None, None], plain)
    before, after = (plain, spotted) if added else (spotted, plain)
    one = made(3, n=1, size=side)
    return dataclasses.replace(
        one,
        inputs=before[None],
        counterfactual=after[None],
        edit=(after - before)[None],
        mask=mask[None, None].float(),
        scores=torch.tensor([4.0]),
        counterfactual_scores=torch.tensor([-4.7]),
        **others,
    )


def said(one):
    return finding(one, [(0.0, 1.0)] * 3)


@pytest.mark.parametrize("place", PLACES)
def test_where_a_spot_is(place):
    found = said(edited([PLACES[place]]))
    assert found == f"Without the dark brown spot {place} the model says 'healthy': ill 98% → <1%."


@pytest.mark.parametrize(
    ("ground", "spot", "look"),
    [
        (GREEN, BROWN, "dark brown spot"),
        (GREEN, RED, "red spot"),
        (GREY, (0.9, 0.9, 0.9), "bright spot"),
        (GREY, (0.1, 0.1, 0.1), "dark spot"),
        (GREY, (0.2, 0.4, 0.9), "blue spot"),
        (GREEN, (0.1, 0.25, 0.08), "dark spot"),
    ],
)
def test_how_it_looks(ground, spot, look):
    assert f"Without the {look} near the centre" in said(edited([(24, 24)], ground, spot))


def test_several_and_larger_ones():
    assert said(edited([(6, 6), (24, 24), (42, 42)])).startswith("Without the 3 dark brown spots, the largest ")
    assert "dark brown patch near the centre" in said(edited([(24, 24)], radius=7))
    assert "dark brown region near the centre" in said(edited([(24, 24)], radius=13))
    assert said(edited([(24, 24)], radius=22)).startswith("With the whole input changed as shown the model says")


def test_what_is_put_in_is_not_said_to_go():
    assert said(edited([(24, 24)], added=True)).startswith("With a dark brown spot near the centre the model says")


def test_a_decision_that_stays_and_an_edit_that_is_none():
    one = edited([(24, 24)])
    stays = dataclasses.replace(one, fidelity=made(3, trustworthy=False, n=1).fidelity)
    assert "the model's decision stays as it is: ill 98% → <1%." in said(stays)
    nothing = dataclasses.replace(one, edit=torch.zeros_like(one.edit))
    assert said(nothing) == "No change was found with which the model says 'healthy'; it says 'ill', 98%."
    assert (
        standing(dataclasses.replace(nothing, trustworthy=torch.tensor([False])))[0] == "No explanation was found."
    )


def test_what_it_goes_by_is_counted_over_what_holds():
    ranges = [(0.0, 1.0)] * 3
    spots = [edited([(6, 6)]), edited([(24, 24), (6, 42)]), edited([(42, 6)], GREY, (0.2, 0.4, 0.9))]
    assert [change_in_kind(one, ranges) for one in spots] == ["without brown spots"] * 2 + ["without blue spots"]
    names = ("inputs", "counterfactual", "edit", "mask", "scores", "counterfactual_scores")
    four = made(3, n=4, size=48)
    parts = {name: torch.cat([getattr(one, name) for one in [*spots, spots[0]]]) for name in names}
    one = dataclasses.replace(four, **parts, trustworthy=torch.tensor([True, True, True, False]))
    turned = "it says 'healthy' without brown spots in 2, without blue spots in 1"
    assert overall(one, ranges) == [("'ill' (4 of 4)", f"{turned}; for 1 no change was found that holds.")]


def test_signals_layers_and_more_classes():
    assert said(reshaped(made(n=1), (64,))).startswith("With the whole input changed as shown")
    layer = dataclasses.replace(edited([(24, 24)]), reconstruction=None)
    assert said(layer).startswith("For the other real case shown the model says")
    three = dataclasses.replace(edited([(24, 24)]), class_names=("healthy", "ill", "other"))
    assert said(three).endswith("ill 98% → <1% (against healthy).")


def test_percent_never_says_certain():
    assert [percent(p) for p in (0.0, 0.009, 0.5, 0.991, 1.0)] == ["<1%", "<1%", "50%", ">99%", ">99%"]


def test_one_verdict_with_what_it_certifies():
    assert standing(made(n=1))[0] == "This explanation holds."
    assert "true of the world is for you to see" in standing(made(n=1))[1]
    assert standing(made(n=1, trustworthy=False))[0] == "Do not trust this explanation."


def of_three(before, after):
    """Return an explanation of 'ill' against 'healthy' by a model that knows a third class, and says these."""
    one = dataclasses.replace(edited([(24, 24)]), class_names=("healthy", "ill", "other"))
    flips = dataclasses.replace(one.fidelity, flips=torch.tensor([after == 0]))
    return dataclasses.replace(one, fidelity=flips, decisions=torch.tensor([[before, after]]))


def test_a_model_of_three_classes_is_quoted_and_not_guessed_at():
    spot, figures = "Without the dark brown spot near the centre the model", "ill 98% → <1% (against healthy)."
    assert said(of_three(1, 0)) == f"{spot} says 'healthy': {figures}"
    assert said(of_three(1, 2)) == f"{spot} says 'other' and not 'healthy': {figures}"
    assert said(of_three(2, 0)) == f"The model says 'other' here. {spot} says 'healthy': {figures}"
    assert said(of_three(2, 2)) == f"The model says 'other' here. {spot}'s decision stays as it is: {figures}"
    assert "does not say 'ill' here" in said(of_three(0, 0))
    lines = [verdict_lines(of_three(*pair))[0][2] for pair in ((1, 0), (2, 0))]
    assert ["from 'ill' to 'healthy'" in lines[0], "from 'other' to 'healthy'" in lines[1]] == [True, True]


def test_why_it_does_not_hold_needs_no_glossary():
    one = edited([(24, 24)], trustworthy=torch.tensor([False]), problems=(("the edit lets 80% through",),))
    names = [name for name, held in one.verdicts.items() if held is not None]
    told = []
    for name in names:
        fails = dataclasses.replace(one, verdicts={**one.verdicts, name: torch.tensor([False])})
        told += reasons(fails)
    assert len(set(told)) == len(names)
    assert not any(word in " ".join(told) for word in ("mask", "lens", "reconstruction", "edit", "classifier"))
    # A check of somebody else's speaks for itself.
    assert reasons(one) == ["the edit lets 80% through"]
    assert reasons(edited([(24, 24)])) == []
    already = dataclasses.replace(one, scores=torch.tensor([-3.0]))
    assert (standing(already)[0], reasons(already)) == ("There is nothing to explain here.", [])
