"""The errors of a batch of windows under the four settings and a protocol, as the published tables have them.

Under Protocol #2 every hypothesis is aligned on its own; J-Best, P-Best and J-Agg choose among those errors, and P-Agg
aligns the mean pose.
"""

from torch import Tensor

from common.aggregation import mean_hypothesis
from common.metrics import joint_errors, procrustes_align
from common.oracles import best_hypothesis_error, best_joint_error


def setting_errors(samples: Tensor, target: Tensor, nearest: Tensor | None, align: bool) -> dict[str, Tensor]:
    """Mean joint error per sampling step.

    Args:
        samples: (B, K, H, F, J, 3), camera space, root-relative.
        target: (B, F, J, 3), the truth.
        nearest: (B, K, 1, F, J) from `nearest_reprojection`; None leaves J_Agg out.
        align: False for Protocol #1 (MPJPE), True for Protocol #2 (P-MPJPE).

    Returns:
        {"J_Best": (K,), "P_Best": (K,), "P_Agg": (K,), "J_Agg": (K,)} in the units of the input.
    """
    truth, mean = target[:, None], mean_hypothesis(samples)
    if align:
        samples, mean = procrustes_align(samples, truth[:, None]), procrustes_align(mean, truth)
    errors = joint_errors(samples, truth[:, None])
    found = {
        "J_Best": best_joint_error(errors),
        "P_Best": best_hypothesis_error(errors),
        "P_Agg": joint_errors(mean, truth).mean(dim=(0, 2, 3)),
    }
    if nearest is not None:
        found["J_Agg"] = errors.gather(2, nearest).mean(dim=(0, 2, 3, 4))
    return found
