"""The answers to a batch of windows under every setting and a protocol, and their errors, as published.

Under Protocol #2 every hypothesis is aligned on its own; the settings that choose do so among those. Those that average
align their mean pose.
"""

from collections.abc import Mapping

from torch import Tensor

from common.aggregation import take_hypothesis
from common.metrics import joint_errors, procrustes_align
from common.oracles import best_hypothesis, best_joint
from common.settings import SETTINGS


def setting_poses(
    samples: Tensor,
    target: Tensor,
    valid: Tensor,
    means: Mapping[str, Tensor],
    chosen: Mapping[str, Tensor],
    align: bool,
) -> dict[str, Tensor]:
    """One answer a setting.

    Args:
        samples: (B, K, H, F, J, 3), camera space, root-relative.
        target: (B, F, J, 3), the truth.
        valid: (B, F) bool, the frames by which P_Best is chosen.
        means: the settings that average, P_Agg and R_Agg -> (B, K, F, J, 3), not aligned.
        chosen: the settings that choose without the truth, J_Agg and J_Agg_est -> (B, K, 1, F, J) from
            `nearest_reprojection`.
        align: False for Protocol #1 (MPJPE), True for Protocol #2 (P-MPJPE), in which the answers lie upon the truth.

    Returns:
        The oracles and all of `means` and `chosen`, in the order of SETTINGS -> (B, K, F, J, 3), in the units of the
        input.
    """
    truth = target[:, None]
    if align:
        samples = procrustes_align(samples, truth[:, None])
        means = {setting: procrustes_align(mean, truth) for setting, mean in means.items()}
    errors = joint_errors(samples, truth[:, None])
    chosen = {"J_Best": best_joint(errors), "P_Best": best_hypothesis(errors, valid), **chosen}
    found = {**means, **{setting: take_hypothesis(samples, index) for setting, index in chosen.items()}}
    return {setting: found[setting] for setting in SETTINGS if setting in found}


def mean_errors(poses: dict[str, Tensor], target: Tensor, counted: Tensor) -> dict[str, Tensor]:
    """Mean error of each joint of every setting's answer; the mean over joints is MPJPE or P-MPJPE.

    Args:
        poses: setting -> (B, K, F, J, 3).
        target: (B, F, J, 3), the truth.
        counted: (B, F) bool, the frames to average over: at least one.

    Returns:
        Setting -> (K, J), in the units of the input.
    """
    return {
        setting: joint_errors(answer, target[:, None]).transpose(0, 1)[:, counted].mean(dim=1)
        for setting, answer in poses.items()
    }
