"""P-Best and J-Best: which hypotheses the best choice would take. They look at the truth: no method can.

Letters: B windows, K sampling steps, H hypotheses, F frames, J joints.
"""

from einops import rearrange
from torch import Tensor


def best_hypothesis(errors: Tensor, valid: Tensor) -> Tensor:
    """P-Best: the hypothesis with the least mean error, chosen once for the whole batch of windows, as published.

    Args:
        errors: (B, K, H, F, J), every joint's error in every hypothesis.
        valid: (B, F) bool, the frames that choose; if there is none, the first hypothesis is taken.

    Returns:
        (B, K, 1, F, J) long, an index into the hypotheses: the same everywhere in a step.
    """
    B, _, _, F, J = errors.shape
    totals = (errors.sum(dim=-1) * valid[:, None, None]).sum(dim=(0, 3))  # (K, H)
    return rearrange(totals.argmin(dim=1), "k -> 1 k 1 1 1").expand(B, -1, 1, F, J)


def best_joint(errors: Tensor) -> Tensor:
    """J-Best: the hypothesis closest to the truth in each joint of each frame, (B, K, H, F, J) -> (B, K, 1, F, J)."""
    return errors.argmin(dim=2, keepdim=True)
