"""The answers to a batch of windows under the four settings and a protocol, and their errors, as published.

Under Protocol #2 every hypothesis is aligned on its own; J-Best, P-Best and J-Agg choose among those, and P-Agg aligns
the mean pose.
"""

from torch import Tensor

from common.aggregation import mean_hypothesis, take_hypothesis
from common.metrics import joint_errors, procrustes_align
from common.oracles import best_hypothesis, best_joint


def setting_poses(
    samples: Tensor, target: Tensor, valid: Tensor, nearest: Tensor | None, align: bool
) -> dict[str, Tensor]:
    """One answer a setting.

    Args:
        samples: (B, K, H, F, J, 3), camera space, root-relative.
        target: (B, F, J, 3), the truth.
        valid: (B, F) bool, the frames by which P_Best is chosen.
        nearest: (B, K, 1, F, J) from `nearest_reprojection`; None leaves J_Agg out.
        align: False for Protocol #1 (MPJPE), True for Protocol #2 (P-MPJPE), in which the answers lie upon the truth.

    Returns:
        {"J_Best", "P_Best", "P_Agg", "J_Agg"} -> (B, K, F, J, 3), in the units of the input.
    """
    truth, mean = target[:, None], mean_hypothesis(samples)
    if align:
        samples, mean = procrustes_align(samples, truth[:, None]), procrustes_align(mean, truth)
    errors = joint_errors(samples, truth[:, None])
    found = {
        "J_Best": take_hypothesis(samples, best_joint(errors)),
        "P_Best": take_hypothesis(samples, best_hypothesis(errors, valid)),
        "P_Agg": mean,
    }
    if nearest is not None:
        found["J_Agg"] = take_hypothesis(samples, nearest)
    return found


def mean_errors(poses: dict[str, Tensor], target: Tensor, counted: Tensor) -> dict[str, Tensor]:
    """Mean joint error of every setting's answer, a number a sampling step.

    Args:
        poses: setting -> (B, K, F, J, 3).
        target: (B, F, J, 3), the truth.
        counted: (B, F) bool, the frames to average over: at least one.

    Returns:
        Setting -> (K,), in the units of the input.
    """
    return {
        setting: joint_errors(answer, target[:, None]).transpose(0, 1)[:, counted].mean(dim=(1, 2))
        for setting, answer in poses.items()
    }
