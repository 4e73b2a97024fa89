"""Fits of SVAE lenses whose mask does not matter."""

from guard import unchanged

import xlens

__all__ = ["quick"]


def quick(model, data, backend, **arguments):
    """Fit with a mask of three steps on few inputs, where the mask does not matter."""
    mask = xlens.MaskOptions(steps=3, batch_size=16, pool=64)
    with unchanged(model):
        return xlens.fit(model, data, backend, mask=mask, progress=False, **arguments)
