"""Many hypotheses -> one answer, without the truth: P-Agg and J-Agg.

Letters: B windows, K sampling steps, H hypotheses, F frames, J joints. The oracles are in common/oracles.py.
"""

from torch import Tensor


def mean_hypothesis(samples: Tensor) -> Tensor:
    """P-Agg: the mean of the hypotheses, (B, K, H, F, J, 3) -> (B, K, F, J, 3). Needs nothing at test time."""
    return samples.mean(dim=2)


def nearest_reprojection(reprojected: Tensor, x_2d: Tensor) -> Tensor:
    """Which hypothesis each joint of each frame takes in J-Agg (JPMA; D3DP, Shan et al. 2023, section 3.4).

    Args:
        reprojected: (B, K, H, F, J, 2), the hypotheses projected with the camera and the root's position.
        x_2d: (B, F, J, 2), the 2D input, in the same coordinates.

    Returns:
        (B, K, 1, F, J) long, an index into the hypotheses.
    """
    return (reprojected - x_2d[:, None, None]).norm(dim=-1).argmin(dim=2, keepdim=True)


def take_hypothesis(samples: Tensor, chosen: Tensor) -> Tensor:
    """Each joint of the hypothesis that `chosen` (B, K, 1, F, J) names, (B, K, H, F, J, 3) -> (B, K, F, J, 3)."""
    index = chosen[..., None].expand(*chosen.shape, samples.shape[-1])
    return samples.gather(2, index)[:, :, 0]
