"""P-Best and J-Best: what the best choice among the hypotheses would score. They look at the truth: no method can.

Letters: B windows, K sampling steps, H hypotheses, F frames, J joints.
"""

from torch import Tensor


def best_hypothesis_error(errors: Tensor) -> Tensor:
    """P-Best: the least mean error of a hypothesis, chosen once for the whole batch of windows, as published.

    Args:
        errors: (B, K, H, F, J), every joint's error in every hypothesis.

    Returns:
        (K,).
    """
    return errors.mean(dim=(0, 3, 4)).amin(dim=1)


def best_joint_error(errors: Tensor) -> Tensor:
    """J-Best: each joint of each frame from the hypothesis closest to the truth, (B, K, H, F, J) -> (K,)."""
    return errors.amin(dim=2).mean(dim=(0, 2, 3))
