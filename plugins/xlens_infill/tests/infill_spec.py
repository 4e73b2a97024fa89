"""What is known of square grey images from 0 to 1, of two classes."""

from xlens import Spec

__all__ = ["grey"]


def grey(side):
    zero, one = (0.0,), (1.0,)
    return Spec(
        shape=(1, side, side),
        num_classes=2,
        minimum=zero,
        maximum=one,
        mean=zero,
        std=one,
        class_margins=((1.0, 1.0),) * 2,
    )
