"""How learning rates go over a fit."""

from __future__ import annotations

__all__ = ["warmed_and_decayed"]


def warmed_and_decayed(done: float) -> float:
    """Warm up over 2% of the steps, hold, and fall to a twentieth over the last 40%.

    Args:
        done: share of the steps done, 0 to 1.

    >>> [round(warmed_and_decayed(done), 2) for done in (0.0, 0.5, 1.0)]
    [0.05, 1.0, 0.05]
    """
    rise = min(1.0, (done + 1e-3) / 0.02)
    return rise * (1.0 if done < 0.6 else 0.05 + 0.95 * (1 - done) / 0.4)
