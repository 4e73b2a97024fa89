"""How a surrogate is distilled from the classifier, and how often the classifier is asked while it answers."""

from __future__ import annotations

from xlens.contracts.options import options, param

__all__ = ["SurrogateOptions"]


@options
class SurrogateOptions:
    """How a surrogate is distilled: ``xlens.fit(..., codec="auto", surrogate=SurrogateOptions(asked=16))``.

    >>> from xlens.surrogate import SurrogateOptions
    >>> SurrogateOptions(asked=16).ask_every
    10
    """

    width: int = param(32, ge=4, help="channels of its first convolution")
    steps: int = param(400, ge=1, help="training steps before the lens is trained")
    batch_size: int = param(32, ge=2, help="latents a step")
    learning_rate: float = param(1e-3, gt=0, help="AdamW's")
    mixtures: int = param(
        256,
        ge=0,
        help="mixtures of two inputs' latents that the classifier is asked about before the lens learns",
    )
    ask_every: int = param(10, ge=1, help="steps of the lens between two times that the classifier is asked")
    asked: int = param(8, ge=1, help="of what the lens has just asked, what the classifier is asked about then")
    follow_steps: int = param(4, ge=1, help="training steps on its answers each time")
    memory: int = param(1024, ge=1, help="answers that are kept to learn from, the latest")
    agreement: float = param(
        0.9, ge=0, le=1, help="share on which it is to say what the classifier says; below, the fit warns"
    )
