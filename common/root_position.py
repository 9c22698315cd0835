"""Where the root is: its 3D position from a root-relative pose, the 2D input and the camera alone.

A pose fits its 2D input from one place only: moved aside, its projection moves; moved away, it shrinks. From that place
J-Agg-est and R-Agg (common/aggregation.py) reproject.

Letters: N poses, J joints.
"""

import math

import torch
from torch import Tensor

from common.camera import project_to_2d, projection_jacobian, rays_of

NEAREST = 0.1
"""Metres: no joint that counts is put nearer to the camera than this, or behind it."""
FARTHEST = 1000.0
"""Metres: at this mean distance a person is some two pixels high; what comes out farther is not known."""
ASSUMED_DEPTH = 5.0
"""Metres: the mean depth of the joints that count where it cannot be known; people in a room are filmed from there."""
_COINCIDENT = 1e-6
"""Of x/z and y/z, root mean square: 2D joints no farther apart than this are one point."""
_GAUSS_NEWTON_STEPS = 2


def solve_root(poses: Tensor, keypoints: Tensor, intrinsics: Tensor, weights: Tensor | None = None) -> Tensor:
    """The root's position that brings each pose's projection nearest to its 2D joints; every pose on its own.

    It has the least weighted sum of squared distances on the screen, sum_j w_j |project(pose_j + root) - keypoint_j|^2:
    first by linear least squares on the pinhole model, for which the distortion is undone, then by two Gauss-Newton
    steps on the whole camera, each taken only where it brings the sum down.

    A joint of weight 0 does not count, whatever it holds, nor does one without a finite keypoint. What the joints that
    count cannot tell:

    - The depth is not known if they are fewer than two or one point in 2D, or if their mean depth comes out nearer than
      NEAREST (behind the camera; all joints of the pose at one point) or beyond FARTHEST. Their mean depth is then
      ASSUMED_DEPTH, and only x and y are solved for.
    - Where one of them would be nearer than NEAREST, or behind the camera, the root is moved back until none is.
    - If none counts, the root is ahead of the camera, at ASSUMED_DEPTH.

    So whatever the keypoints are, a finite pose's root is finite and the joints that count are in front of the camera.

    Args:
        poses: (..., J, 3), camera space, root-relative, metres.
        keypoints: (..., J, 2), screen coordinates, as `project_to_2d` gives them.
        intrinsics: (..., 9), see `Camera.intrinsics`.
        weights: (..., J), at least 0, how much each joint counts, such as a detector's confidence; None: all the same.

    The leading dimensions broadcast against each other, so that hypotheses can share their keypoints and a camera.

    Returns:
        (..., 3), camera space, metres, of the poses' type.
    """
    if weights is None:
        weights = poses.new_ones(poses.shape[-2])
    leading = torch.broadcast_shapes(poses.shape[:-2], keypoints.shape[:-2], intrinsics.shape[:-1], weights.shape[:-1])

    def rows(values: Tensor, tail: int) -> Tensor:
        """(..., *tail) -> (N, *tail)."""
        own = values.shape[values.ndim - tail :]
        return values.to(poses).expand(*leading, *own).reshape(math.prod(leading), *own)

    weights, intrinsics = rows(weights, 1)[..., None], rows(intrinsics, 1)
    poses, keypoints = rows(poses, 2), rows(keypoints, 2)
    counts = (weights > 0) & keypoints.isfinite().all(dim=-1, keepdim=True)
    weights = weights.where(counts, 0)
    share = weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    poses, keypoints = poses.where(counts, 0), keypoints.where(counts, 0)
    least_depth = NEAREST - poses[..., 2:].where(counts, math.inf).amin(dim=1)  # (N, 1), -inf where no joint counts

    root, depth_is_known = _linear_root(poses, rays_of(keypoints, intrinsics), share, least_depth)
    root = _refined_root(root, depth_is_known, poses, keypoints, intrinsics, share, least_depth)
    return root.reshape(*leading, 3)


def _linear_root(poses: Tensor, rays: Tensor, share: Tensor, least_depth: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares on x + root_x = ray_x (z + root_z), and the same for y: linear in the root.

    For a given depth the best x and y are means, so that the three unknowns come apart.

    Args:
        poses: (N, J, 3).
        rays: (N, J, 2), x/z and y/z of the keypoints.
        share: (N, J, 1), the weights, with the sum 1 or, where no joint counts, 0.
        least_depth: (N, 1), of the root.

    Returns:
        root (N, 3), and (N, 1) bool, whether its depth is known.
    """
    xy, z = poses.split([2, 1], dim=-1)
    offsets = rays * z - xy  # the root's x and y are ray * depth + offset, of every joint
    mean_ray, mean_offset = (share * rays).sum(1), (share * offsets).sum(1)  # (N, 2)
    rays, offsets = rays - mean_ray[:, None], offsets - mean_offset[:, None]
    spread = (share * rays.square()).sum((1, 2))[:, None]
    depth = -(share * rays * offsets).sum((1, 2))[:, None] / spread
    body = (share * z).sum(1)  # (N, 1), how far the body's mean is behind the root
    known = (spread > _COINCIDENT**2) & (depth + body > NEAREST) & (depth + body < FARTHEST)
    depth = depth.where(known, ASSUMED_DEPTH - body).maximum(least_depth)
    return torch.cat([mean_ray * depth + mean_offset, depth], dim=1), known


def _refined_root(
    root: Tensor,
    depth_is_known: Tensor,
    poses: Tensor,
    keypoints: Tensor,
    intrinsics: Tensor,
    share: Tensor,
    least_depth: Tensor,
) -> Tensor:
    """Gauss-Newton steps from `root` (N, 3) on the whole camera; no step that makes the reprojection worse."""

    def reprojection(root: Tensor) -> tuple[Tensor, Tensor]:
        """Errors (N, J, 2), and the weighted mean of their squares (N, 1)."""
        errors = project_to_2d(poses + root[:, None], intrinsics) - keypoints
        return errors, (share * errors.square()).sum((1, 2))[:, None]

    errors, cost = reprojection(root)
    for _ in range(_GAUSS_NEWTON_STEPS):
        jacobian = projection_jacobian(poses + root[:, None], intrinsics)  # (N, J, 2, 3)
        jacobian[..., 2] *= depth_is_known[:, None]
        weighted = share[..., None] * jacobian
        normal = torch.einsum("njcd,njce->nde", weighted, jacobian)
        normal[:, 2, 2] += ~depth_is_known[:, 0]  # a depth that is not known stays
        slope = torch.einsum("njcd,njc->nd", weighted, errors)
        moved = root - torch.linalg.solve_ex(normal, slope).result
        moved[:, 2:] = moved[:, 2:].maximum(least_depth)
        moved_errors, moved_cost = reprojection(moved)
        better = moved_cost < cost  # never where the equations have no solution
        root = moved.where(better, root)
        errors, cost = moved_errors.where(better[..., None], errors), moved_cost.where(better, cost)
    return root
