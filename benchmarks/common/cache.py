"""Where benchmarks keep trained networks, fitted lenses and figures."""

from __future__ import annotations

from pathlib import Path

CACHE = Path(__file__).parents[1] / "cache"
