"""Carrying: every formula against one written out, number by number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xlens.attr import Segment
from xlens.counterfactual import CarriedCurve
from xlens.counterfactual.carry import CARRIES, carried, clamped, default_carry
from xlens.errors import OptionError

#: The table of the docstring, once more, for one number each: x, G(z), G(z'), m, a.
WRITTEN = {
    "masked": lambda x, rec, dec, m, a: (
        x + m * (dec - x) if a is None else x + m * (dec - rec + (1 - a) * (rec - x))
    ),
    "residual": lambda x, rec, dec, m, a: x + dec - rec,
    "none": lambda x, rec, dec, m, a: dec,
}


@pytest.mark.parametrize("carry", CARRIES)
@given(
    numbers=st.lists(st.tuples(*[st.floats(-4, 4)] * 3, st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5),
    on_the_way=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_every_formula_is_as_written(carry, numbers, on_the_way):
    x, rec, dec, m, a = torch.tensor(numbers, dtype=torch.float64).T.reshape(5, -1, 1, 1)
    found = carried(carry, x, rec, dec, m, a if on_the_way else None)
    for i, row in enumerate(numbers):
        expected = WRITTEN[carry](*row[:4], row[4] if on_the_way else None)
        assert found[i].item() == pytest.approx(expected, abs=1e-9)


def test_on_the_way_it_begins_at_the_counterfactual_and_ends_at_the_input():
    x, rec, dec = torch.randn(3, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    m = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    begin, end = torch.zeros(4, 1, 1, 1).double(), torch.ones(4, 1, 1, 1).double()
    for carry in ("masked", "residual"):
        whole = carried(carry, x, rec, dec, m)
        torch.testing.assert_close(carried(carry, x, rec, dec, m, begin), whole)
        torch.testing.assert_close(carried(carry, x, rec, rec, m, end), x)
    # Open everywhere, what is masked is the decoding and nothing of the input; shut, it is the input.
    torch.testing.assert_close(carried("masked", x, rec, dec, torch.ones_like(m)), dec)
    assert torch.equal(carried("masked", x, rec, dec, torch.zeros_like(m)), x)


def test_by_the_mask_where_there_is_one():
    assert (default_carry(True), default_carry(False)) == ("masked", "residual")
    one = torch.ones(1, 1)
    with pytest.raises(OptionError, match="carry='masked' needs a mask"):
        carried("masked", one, one, one)


def test_clamped_to_the_data_or_to_an_input_that_goes_beyond():
    inputs = torch.tensor([[0.5, 3.0, -2.0]])
    edited = torch.tensor([[5.0, 5.0, -5.0]])
    assert clamped(edited, inputs, torch.tensor(-1.0), torch.tensor(1.0)).tolist() == [[1.0, 3.0, -2.0]]
    assert torch.equal(clamped(inputs, inputs, torch.tensor(-1.0), torch.tensor(1.0)), inputs)


def carried_curve(carry, masked=True):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    matrix = draw(3, 12)
    decode = lambda codes: (codes @ matrix).tanh().view(-1, 1, 3, 4) * 2  # noqa: E731
    codes, without = draw(5, 3), draw(5, 3)
    return CarriedCurve(
        inputs=draw(5, 1, 3, 4),
        codes=Segment(without, codes),
        reconstruction=decode(codes),
        decode=decode,
        carry=carry,
        mask=torch.rand(5, 1, 3, 4, generator=generator) if masked else None,
        minimum=torch.full((1, 1, 1, 1), -0.8),
        maximum=torch.full((1, 1, 1, 1), 0.9),
    )


def slowly(curve, row, alpha):
    """The three formulas of methods.md, pixel by pixel."""
    x, rec = curve.inputs[row], curve.reconstruction[row]
    z, z0 = curve.codes.end[row], curve.codes.start[row]
    at = curve.decode((z0 + alpha * (z - z0)).unsqueeze(0))[0]
    result = np.zeros((3, 4))
    for i in range(3):
        for j in range(4):
            p, g, r = (float(t[0, i, j]) for t in (x, at, rec))
            if curve.carry == "none":
                result[i, j] = g
                continue
            if curve.carry == "masked":
                value = p + float(curve.mask[row, 0, i, j]) * (g - r + (1 - alpha) * (r - p))
            else:
                value = p + g - r
            result[i, j] = min(max(value, min(-0.8, p)), max(0.9, p))
    return result


@pytest.mark.parametrize("carry", ["masked", "residual", "none"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_curves_are_as_written(carry, alpha):
    curve = carried_curve(carry, masked=carry == "masked")
    rows = torch.tensor([4, 0, 2])
    found = curve(rows, torch.full((3,), alpha))
    for k, row in enumerate(rows.tolist()):
        assert np.allclose(found[k, 0], slowly(curve, row, alpha), atol=1e-5)


@pytest.mark.parametrize("carry", ["masked", "residual"])
def test_curves_end_at_the_input_exactly(carry):
    curve = carried_curve(carry, masked=carry == "masked")
    assert (curve.inputs.abs() > 0.9).any()  # inputs outside the range of the data stay what they are
    assert torch.equal(curve(torch.arange(5), torch.ones(5)), curve.inputs)
    # Also where a decoder rounds differently in another batch.
    rounding = replace(curve, decode=lambda codes: curve.decode(codes) * (1 + 1e-4 * len(codes)))
    assert torch.equal(rounding(torch.arange(3), torch.ones(3)), curve.inputs[:3])
    assert not torch.equal(rounding(torch.arange(3), torch.zeros(3)), curve(torch.arange(3), torch.zeros(3)))


def test_a_mask_of_ones_begins_at_the_decoding():
    curve = replace(carried_curve("masked"), mask=torch.ones(5, 1, 3, 4))
    low, high = curve.inputs.clamp(max=-0.8), curve.inputs.clamp(min=0.9)
    expected = torch.minimum(torch.maximum(curve.decode(curve.codes.start), low), high)
    assert torch.allclose(curve(torch.arange(5), torch.zeros(5)), expected, atol=1e-6)
    nothing = replace(curve, mask=torch.zeros(5, 1, 3, 4))
    assert torch.equal(nothing(torch.arange(5), torch.zeros(5)), curve.inputs)
