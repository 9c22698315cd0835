"""Pose errors. Letters: F frames, J joints; leading dimensions are free. Units are those of the input."""

import torch
from torch import Tensor

PCK_THRESHOLD = 150.0
"""mm: about half a head (Mehta et al. 2017)."""
AUC_THRESHOLDS = tuple(range(0, 151, 5))
"""mm."""


def joint_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Distance of every joint to the truth (Protocol #1 before averaging).

    Args:
        predicted: (..., J, 3), camera space, root-relative.
        target: broadcastable to predicted.

    Returns:
        (..., J).
    """
    return (predicted - target).norm(dim=-1)


def mpjpe(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean per-joint position error (Protocol #1): (..., F, J, 3) -> (...), averaged over frames and joints."""
    return joint_errors(predicted, target).mean(dim=(-2, -1))


def procrustes_align(predicted: Tensor, target: Tensor) -> Tensor:
    """Each pose moved, turned and scaled (never reflected) onto the truth, in the least-squares sense.

    Umeyama 1991, Eq. 40-43, in float64.

    Args:
        predicted: (..., J, 3).
        target: broadcastable to predicted.

    Returns:
        (..., J, 3), like predicted.
    """
    x, y = predicted.double(), target.double().expand(predicted.shape)
    x_mean, y_mean = x.mean(-2, keepdim=True), y.mean(-2, keepdim=True)
    x_centred, y_centred = x - x_mean, y - y_mean
    u, s, vh = torch.linalg.svd(y_centred.mT @ x_centred)
    sign = torch.ones_like(s)
    sign[..., -1] = torch.linalg.det(u @ vh).sign()
    rotation = (u * sign[..., None, :]) @ vh
    variance = x_centred.square().sum((-2, -1))
    scale = (s * sign).sum(-1) / variance.clamp(min=torch.finfo(x.dtype).tiny)
    return (scale[..., None, None] * x_centred @ rotation.mT + y_mean).to(predicted.dtype)


def p_mpjpe(predicted: Tensor, target: Tensor) -> Tensor:
    """MPJPE after Procrustes alignment of each pose (Protocol #2): (..., F, J, 3) -> (...)."""
    return mpjpe(procrustes_align(predicted, target), target)


def pck(errors: Tensor, threshold: float = PCK_THRESHOLD) -> Tensor:
    """Percentage of correct keypoints in 3D: how many joints are nearer to the truth than the threshold.

    Mehta et al. 2017 (Monocular 3D Human Pose Estimation In The Wild Using Improved CNN Supervision), Sec. 6.2.

    Args:
        errors: (..., F, J), mm, of the joints that count (see joint_errors).
        threshold: mm; an error of just that much is not correct.

    Returns:
        (...), percent, over frames and joints.
    """
    return 100 * (errors < threshold).double().mean(dim=(-2, -1))


def auc(errors: Tensor) -> Tensor:
    """Area under the PCK curve: the mean PCK over the thresholds 0, 5, ..., 150 mm, (..., F, J) mm -> (...) percent.

    Mehta et al. 2017, as pck. The threshold 0 counts, and nothing is below it: no answer reaches more than 30/31.
    """
    return torch.stack([pck(errors, threshold) for threshold in AUC_THRESHOLDS]).mean(dim=0)
