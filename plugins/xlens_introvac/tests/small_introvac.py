"""A small IntroVAC lens that was never trained, for what does not depend on what it learned."""

import torch
from toys import linear_classifier, spec
from xlens_introvac import IntroVAC


def built(k=3, attributes=0, code=7, **options):
    torch.manual_seed(1)
    lens = IntroVAC(code=code, hidden=16, **options).build(linear_classifier((6,), k), spec((6,), k))
    lens.head.add_attributes(attributes)
    return lens.eval().requires_grad_(False)
