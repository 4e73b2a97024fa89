"""Teaching a lens: what a person should be asked about next, and learning from the answers."""

from xlens.teaching.teaching import STRATEGIES, Strategy, Teaching

__all__ = ["STRATEGIES", "Strategy", "Teaching"]
