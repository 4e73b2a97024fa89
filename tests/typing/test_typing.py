"""A type checker and the README agree, and what is wrong is seen where it is written."""

from __future__ import annotations

from pathlib import Path

import documents
import pytest

import xlens
from xlens.fitting.write_overloads import PLACE, overloads

HEAD = """from typing import Any
import torch
import xlens
import xlens_dif, xlens_flow, xlens_ilvm, xlens_infill, xlens_introvac, xlens_medxgan, xlens_svae
from xlens_dif import DIF
from xlens_flow import RectifiedFlow
from xlens_ilvm import ILVM
from xlens_ilvm.jlvm import JLVM
from xlens_infill import Infill
from xlens_introvac import IntroVAC
from xlens_medxgan import MedXGAN
from xlens_svae import SVAE
m: torch.nn.Module
x: torch.Tensor
name: str
e: xlens.LensExplainer
"""

#: What is right. One line is one statement.
RIGHT = {
    "by_name": 'xlens.fit(m, x, "medxgan", steps=3, seed=1, progress=False).explain(x).plot().savefig("why.png")',
    "by_keyword": 'xlens.fit(m, x, backend="dif", separation="none", mask=xlens.MaskOptions(steps=5))',
    "side_information": 'xlens.fit(m, x, "introvac", side_info=x, attributes=("bright",))',
    "object": "xlens.fit(m, x, MedXGAN(steps=3, linear=False), supervision='labels')",
    "every_object": "[ILVM(), Infill(), IntroVAC(), JLVM(), RectifiedFlow(), SVAE(), DIF.paper(steps=3)]",
    "a_name_that_is_not_known_here": 'xlens.fit(m, x, "latentshift", step=0.5).features',
    "a_variable": "options: dict[str, Any] = {}; xlens.fit(m, x, name, **options).features",
    "at_once": 'xlens.explain(m, x, backend="medxgan", steps=3, seed=1).save_html("why.html")',
    "at_once_by_default": "xlens.explain(m, x, data=x, target=1).plot()",
    "at_once_object": "xlens.explain(m, x, backend=MedXGAN(steps=3)).trustworthy.sum()",
    "load": 'xlens.load("lens/", m).edit(x, {"bright": 2.0})',
    "reassigned": 'e = xlens.fit(m, x, "dif"); e = xlens.fit(m, x, SVAE()); e = xlens.load("lens/", m)',
    "the_protocol": 'p: xlens.Explainer = xlens.fit(m, x, "dif"); xlens.fit(m, x, "ilvm", over=p, start_from=p)',
    "evaluated": "p: xlens.Explainer = e; xlens.evaluate(p, x, n=4).compare('IoU', 'a', 'b')",
    "several": "xlens.evaluate({'one': e, 'two': e}, x, methods=['lig'])",
    "one_feature": "e.traverse(x, 1, [0.0, 1.0]).flatten(0, 1)",
    "two_features": "e.traverse(x, (0, 1), [0.0, 1.0]).kept.float()",
    "drawn": "xlens.plot.traversal(e, x, 1, [0.0]).savefig('x.png'); xlens.evaluation.leakage(e, x)",
    "asked_of_any_lens": "with xlens.asking(e) as lens: lens.encode(x)",
    "asked": "with xlens.asking(e, xlens_dif.DIFLens) as lens: lens.health.problems",
}

#: What is wrong, and a part of what the type checker has to say.
WRONG = {
    "option_by_name": ('xlens.fit(m, x, "medxgan", setps=3)', "no such option"),
    "option_of_another_backend": ('xlens.fit(m, x, "medxgan", separation="none")', "no such option"),
    "type_of_an_option": ('xlens.fit(m, x, "medxgan", steps="many")', "value of another type"),
    "value_of_an_option": ('xlens.fit(m, x, "dif", separation="mee")', "value of another type"),
    "it_gives_no_explainer": ('xlens.fit(m, x, "svae", setps=3).explain(x)', '"NoSuchOption" has no attribute'),
    "option_of_dif": ("DIF(setps=3)", 'Unexpected keyword argument "setps" for "DIF"'),
    "option_of_flow": ("RectifiedFlow(setps=3)", 'Unexpected keyword argument "setps" for "RectifiedFlow"'),
    "option_of_ilvm": ("ILVM(setps=3)", 'Unexpected keyword argument "setps" for "ILVM"'),
    "option_of_infill": ("Infill(fil='harmonic')", 'Unexpected keyword argument "fil" for "Infill"'),
    "option_of_introvac": ("IntroVAC(setps=3)", 'Unexpected keyword argument "setps" for "IntroVAC"'),
    "option_of_jlvm": ("JLVM(setps=3)", 'Unexpected keyword argument "setps" for "JLVM"'),
    "option_of_medxgan": ("MedXGAN(setps=3)", 'Unexpected keyword argument "setps" for "MedXGAN"'),
    "option_of_svae": ("SVAE(setps=3)", 'Unexpected keyword argument "setps" for "SVAE"'),
    "option_of_the_mask": ("xlens.MaskOptions(stps=3)", 'Unexpected keyword argument "stps" for "MaskOptions"'),
    "type_of_an_objects_option": ("MedXGAN(steps='many')", 'incompatible type "str"; expected "int"'),
    "options_beside_an_object": ("xlens.fit(m, x, MedXGAN(), steps=3)", "No overload variant"),
    "argument": ('xlens.fit(m, x, "medxgan", seed="0")', "No overload variant"),
    "supervision": ('xlens.fit(m, x, MedXGAN(), supervision="label")', "No overload variant"),
    "option_at_once": ('xlens.explain(m, x, backend="medxgan", setps=3)', "no such option"),
    "type_at_once": (
        'xlens.explain(m, x, backend="dif", separation="mee").plot()',
        '"NoSuchOption" has no attribute',
    ),
    "argument_at_once": ('xlens.explain(m, x, backend="dif", seed="0")', "No overload variant"),
    "argument_of_explain": ('e.explain(x, carry="maskd")', "incompatible type \"Literal['maskd']\""),
    "method": ("e.explian(x)", 'has no attribute "explian"; maybe "explain"?'),
    "attribute": ("e.features.first", 'has no attribute "first"'),
    "attribute_of_an_explanation": ("e.explain(x).counterfactuals", 'maybe "counterfactual'),
    "earlier_name": ("e.grid(x, (0, 1), [0.0])", 'has no attribute "grid"'),
    "name": ("xlens.fitt(m, x, 'dif')", 'Module has no attribute "fitt"'),
    "asked_of_no_explainer": ("with xlens.asking(m) as lens: lens.encode(x)", "No overload variant"),
    "call_of_a_plugin": ("xlens_dif.traversal(m, x, 0)", "incompatible type Module"),
    "no_explainer": ("xlens.evaluate(m, x)", "incompatible type Module"),
    "over_no_explainer": ('xlens.fit(m, x, MedXGAN(), over="a")', "No overload variant"),
    "not_both_features": ("e.traverse(x, (0, 1), [0.0]).flatten()", '"Invariances" has no attribute "flatten"'),
}


@pytest.fixture(scope="module")
def judged() -> dict[str, list[str]]:
    lines = {**RIGHT, **{name: line for name, (line, _) in WRONG.items()}}
    faults, said = documents.judge({name: HEAD + line + "\n" for name, line in lines.items()})
    found: dict[str, list[str]] = {name: [] for name in lines}
    for fault in faults:
        assert fault.partition(":")[0] in found, said
        found[fault.partition(":")[0]].append(fault)
    return found


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(judged, name):
    assert not judged[name]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_seen(judged, name):
    assert WRONG[name][1] in "\n".join(judged[name])


def test_the_overloads_are_those_of_the_installed_backends():
    said = f"run python -m xlens.fitting.write_overloads: {PLACE.name} is not what the backends' options are now"
    assert PLACE.read_text(encoding="utf-8") == overloads(), said


def test_every_backend_that_ships_with_xlens_has_options_there():
    text = PLACE.read_text(encoding="utf-8")
    own = {point.name for point in Path(documents.ROOT, "plugins").iterdir() if point.name.startswith("xlens_")}
    assert all((Path(documents.ROOT) / "plugins" / package / "py.typed").exists() for package in own)
    assert {"medxgan", "svae"} <= set(xlens.backends())
    assert all(
        f'Literal["{name}"]' in text
        for name in ("dif", "flow", "ilvm", "infill", "introvac", "jlvm", "medxgan", "svae")
    )


def test_a_pages_module_has_the_pages_lines():
    page = "# Title\n\n```python\nx = 1\n```\nwords\n```python\ny = x\n```\n"
    (source,) = documents.modules_of(page, "page").values()
    assert [source.splitlines()[at - 1] for at in (4, 8)] == ["x = 1", "y = x"]
    named = "# Title\n\n`mine.py`:\n\n```python\nx = 1\n```\n\n```python\nfrom mine import x\n```\n"
    found = documents.modules_of(named, "page")
    assert list(found) == ["mine", "page_9"]
    assert found["page_9"].splitlines()[9] == "from mine import x"
