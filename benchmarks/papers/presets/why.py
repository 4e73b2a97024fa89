"""Why a claim came out as it did, by what was tried: one text for each claim of a paper, in their order."""

from __future__ import annotations

__all__ = ["WHY"]

WHY = {
    "medxgan": ("",) * 10,
    "ilvm": ("",) * 7,
    "svae": ("",) * 8,
    "dif": ("",) * 9,
    "introvac": ("",) * 7,
}
