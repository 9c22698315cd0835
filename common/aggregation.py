"""Many hypotheses -> one answer, without the truth: P-Agg, J-Agg, J-Agg-est and R-Agg.

J-Agg projects the hypotheses from the true position of the root, J-Agg-est and R-Agg from positions solved from the
2D input (common/root_position.py), so that all but J-Agg can be deployed.

Letters: B windows, K sampling steps, H hypotheses, F frames, J joints, N frames of a clip. The oracles are in
common/oracles.py.
"""

import numpy as np
from torch import Tensor

from common.camera import project_to_2d
from common.root_position import solve_root
from common.settings import DEPLOYABLE, SETTINGS

SIGMA = 0.014
"""R-Agg's standard deviation of a 2D coordinate, in screen units: 7 pixels in an image of 1000. The root mean square
error of simulated CPN detections on training subjects (docs/RESULTS.md), the Gaussian's maximum-likelihood estimate: a
hypothesis that reprojects this far away may well be right, and the detection wrong."""


def mean_hypothesis(samples: Tensor) -> Tensor:
    """P-Agg: the mean of the hypotheses, (B, K, H, F, J, 3) -> (B, K, F, J, 3). Needs nothing at test time."""
    return samples.mean(dim=2)


def nearest_reprojection(reprojected: Tensor, x_2d: Tensor) -> Tensor:
    """Which hypothesis each joint of each frame takes in J-Agg (JPMA; D3DP, Shan et al. 2023, section 3.4).

    Args:
        reprojected: (B, K, H, F, J, 2), the hypotheses projected with the camera and the root's position, the true one
            for J-Agg and the solved one for J-Agg-est.
        x_2d: (B, F, J, 2), the 2D input, in the same coordinates.

    Returns:
        (B, K, 1, F, J) long, an index into the hypotheses.
    """
    return (reprojected - x_2d[:, None, None]).norm(dim=-1).argmin(dim=2, keepdim=True)


def take_hypothesis(samples: Tensor, chosen: Tensor) -> Tensor:
    """Each joint of the hypothesis that `chosen` (B, K, 1, F, J) names, (B, K, H, F, J, 3) -> (B, K, F, J, 3)."""
    index = chosen[..., None].expand(*chosen.shape, samples.shape[-1])
    return samples.gather(2, index)[:, :, 0]


def reproject_solved(samples: Tensor, x_2d: Tensor, intrinsics: Tensor, confidences: Tensor | None = None) -> Tensor:
    """Every hypothesis of every frame projected from where its root must be to fit the 2D input.

    Args:
        samples: (B, K, H, F, J, 3), camera space, root-relative, metres.
        x_2d: (B, F, J, 2), the 2D input, screen coordinates.
        intrinsics: (B, 9), see `Camera.intrinsics`.
        confidences: (B, F, J), at least 0, how much each 2D joint counts when the root is solved; None: all the same.
            So do all of a frame in which none is above 0: its 2D, filled in from its neighbours, is all there is.

    Returns:
        (B, K, H, F, J, 2), screen coordinates.
    """
    if confidences is not None:
        seen = (confidences > 0).any(dim=-1, keepdim=True)
        confidences = confidences.where(seen, 1)[:, None, None]
    root = solve_root(samples, x_2d[:, None, None], intrinsics[:, None, None, None], confidences)
    return project_to_2d(samples + root[..., None, :], intrinsics)


def reprojection_mean(samples: Tensor, reprojected: Tensor, x_2d: Tensor) -> Tensor:
    """R-Agg: each joint's mean over the hypotheses, weighted with softmax(-|reprojection error|^2 / 2 SIGMA^2).

    These are the hypotheses' probabilities if one of them is right and 2D joints err as a Gaussian does. A SIGMA of 0
    would choose as J-Agg-est does, an endless one average as P-Agg does.

    Args:
        samples: (B, K, H, F, J, 3), camera space, root-relative.
        reprojected: (B, K, H, F, J, 2) from `reproject_solved`.
        x_2d: (B, F, J, 2), the 2D input.

    Returns:
        (B, K, F, J, 3), in the units of `samples`.
    """
    squares = (reprojected - x_2d[:, None, None]).square().sum(dim=-1, keepdim=True)
    return ((-squares / (2 * SIGMA**2)).softmax(dim=2) * samples).sum(dim=2)


DEPLOYED = tuple(name for name, setting in SETTINGS.items() if setting.kind == DEPLOYABLE)
"""The settings that a video of one's own allows."""


def aggregate(
    setting: str, hypotheses: Tensor, x_2d: Tensor, intrinsics: Tensor, confidences: Tensor | None = None
) -> Tensor:
    """One of DEPLOYED for a whole clip.

    Args:
        setting: its name.
        hypotheses: (H, N, J, 3), camera space, root-relative, metres.
        x_2d, confidences: (N, J, 2) and (N, J), see `reproject_solved`.
        intrinsics: (9,).

    Returns:
        (N, J, 3), metres.
    """
    if setting not in DEPLOYED:
        raise ValueError(f"the aggregation is '{setting}'; expected one of {', '.join(DEPLOYED)}")
    samples, x_2d = hypotheses[None, None], x_2d[None]
    if setting == "P_Agg":
        return mean_hypothesis(samples)[0, 0]
    confidences = None if confidences is None else confidences[None]
    reprojected = reproject_solved(samples, x_2d, intrinsics[None], confidences)
    if setting == "R_Agg":
        return reprojection_mean(samples, reprojected, x_2d)[0, 0]
    return take_hypothesis(samples, nearest_reprojection(reprojected, x_2d))[0, 0]


def hypothesis_spread(hypotheses: np.ndarray) -> np.ndarray:
    """Root mean square distance of the hypotheses from their mean, an uncertainty: (H, N, J, 3) -> (N, J)."""
    return (((hypotheses - hypotheses.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0)) ** 0.5
