"""The solved root: exact where the pose is, the least-squares root where it is not, and finite whatever comes in."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from common.camera import load_cameras, project_to_2d
from common.root_position import ASSUMED_DEPTH, NEAREST, solve_root

J = 17
H36M_CAMERA = load_cameras("h36m.json")["S9"][0].intrinsics.astype(np.float64)
CAMERAS = {
    "no distortion": [2.29, 2.28, 0.02, -0.03, 0, 0, 0, 0, 0],
    "Human3.6M": H36M_CAMERA,
    "barrel": [1.4, 1.4, 0.1, 0.05, -0.3, 0.1, -0.02, 0.003, -0.004],
}


@pytest.fixture(params=CAMERAS)
def intrinsics(request):
    return torch.tensor(CAMERAS[request.param], dtype=torch.float64)


def people(num_poses=200, seed=0):
    """Poses (N, J, 3) of a person's size, root-relative, and roots (N, 3) in view of all cameras, float64."""
    random = np.random.default_rng(seed)
    poses = random.normal(scale=[0.3, 0.5, 0.3], size=(num_poses, J, 3)).clip(-0.9, 0.9)
    poses[:, 0] = 0
    ahead = random.uniform(2.5, 9, size=(num_poses, 1))
    roots = np.concatenate([ahead * random.uniform(-0.25, 0.25, size=(num_poses, 2)), ahead], axis=1)
    return torch.from_numpy(poses), torch.from_numpy(roots)


def project(points, intrinsics):
    return project_to_2d(points, intrinsics.expand(len(points), 9))


def test_an_exact_pose_gives_the_exact_root(intrinsics):
    poses, roots = people()
    keypoints = project(poses + roots[:, None], intrinsics)
    torch.testing.assert_close(solve_root(poses, keypoints, intrinsics), roots, rtol=0, atol=1e-9)
    confidences = torch.rand(len(poses), J, dtype=torch.float64)
    torch.testing.assert_close(solve_root(poses, keypoints, intrinsics, confidences), roots, rtol=0, atol=1e-9)
    single = solve_root(poses.float(), keypoints.float(), intrinsics.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), roots, rtol=0, atol=1e-4)


def test_noise_moves_the_root_as_the_first_order_predicts(intrinsics):
    poses, roots = people(50)
    confidences = torch.rand(len(poses), J, dtype=torch.float64)
    noise = 1e-6 * torch.from_numpy(np.random.default_rng(1).normal(size=(len(poses), J, 2)))
    keypoints = project(poses + roots[:, None], intrinsics)
    moved = solve_root(poses, keypoints + noise, intrinsics, confidences) - roots
    for pose, root, weights, error, found in zip(poses, roots, confidences, noise, moved, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda root, pose=pose: project((pose + root)[None], intrinsics)[0].reshape(-1), root
        )
        of_row = weights.repeat_interleave(2)[:, None]
        predicted = torch.linalg.solve(
            jacobian.T @ (of_row * jacobian), jacobian.T @ (of_row[:, 0] * error.reshape(-1))
        )
        torch.testing.assert_close(found, predicted, rtol=1e-3, atol=1e-9)


def test_large_noise_gives_scipys_least_squares_root(intrinsics):
    """Some 7 pixels in an image of 1000 off, and poses some 8 cm wrong, as a network's are."""
    poses, roots = people(50)
    random = np.random.default_rng(2)
    keypoints = project(poses + roots[:, None], intrinsics)
    keypoints = keypoints + torch.from_numpy(random.normal(scale=0.012, size=keypoints.shape))
    poses = poses + torch.from_numpy(random.normal(scale=0.05, size=poses.shape))
    confidences = torch.from_numpy(random.uniform(size=(len(poses), J)))
    found = solve_root(poses, keypoints, intrinsics, confidences)
    for pose, keypoint, weights, root, start in zip(poses, keypoints, confidences, found, roots, strict=True):

        def residuals(root, pose=pose, keypoint=keypoint, weights=weights):
            errors = project((pose + torch.from_numpy(root))[None], intrinsics)[0] - keypoint
            return (weights.sqrt()[:, None] * errors).numpy().reshape(-1)

        reference = least_squares(residuals, start.numpy(), xtol=1e-12, ftol=1e-12, gtol=1e-12)
        np.testing.assert_allclose(root.numpy(), reference.x, rtol=0, atol=3e-3)
        assert (residuals(root.numpy()) ** 2).sum() <= 2 * reference.cost * (1 + 1e-4)


def test_poses_do_not_see_each_other(intrinsics):
    """In any order, alone, and as hypotheses that share their keypoints and camera."""
    B, H, F = 3, 4, 5
    poses, roots = people(B * F)
    keypoints = project(poses + roots[:, None], intrinsics).reshape(B, 1, F, J, 2)
    poses = poses.reshape(B, 1, F, J, 3) + 0.05 * torch.randn(B, H, F, J, 3, dtype=torch.float64)
    confidences = torch.rand(B, 1, F, J, dtype=torch.float64)
    cameras = intrinsics + torch.arange(B)[:, None, None, None] * torch.tensor([0.1] * 4 + [0] * 5)
    found = solve_root(poses, keypoints, cameras, confidences)
    assert found.shape == (B, H, F, 3)
    order = torch.tensor([2, 0, 1])
    again = solve_root(poses[order], keypoints[order], cameras[order], confidences[order])
    torch.testing.assert_close(again, found[order], rtol=0, atol=1e-12)
    for b, h, f in ((0, 0, 0), (1, 3, 2), (2, 1, 4)):
        alone = solve_root(poses[b, h, f], keypoints[b, 0, f], cameras[b, 0, 0], confidences[b, 0, f])
        torch.testing.assert_close(alone, found[b, h, f], rtol=0, atol=1e-12)
    assert solve_root(poses[:0], keypoints[:0], cameras[:0]).shape == (0, H, F, 3)


@pytest.mark.parametrize("anything", [math.nan, math.inf, 1e30, -7.0])
def test_joints_of_weight_0_do_not_matter(intrinsics, anything):
    poses, roots = people()
    keypoints = project(poses + roots[:, None], intrinsics) + 0.01 * torch.randn(len(poses), J, 2, dtype=torch.float64)
    left_out = [0, 3, 11]
    kept = [joint for joint in range(J) if joint not in left_out]
    expected = solve_root(poses[:, kept], keypoints[:, kept], intrinsics)
    confidences = torch.full((J,), 0.3, dtype=torch.float64)
    confidences[left_out] = 0
    poses[:, left_out], keypoints[:, left_out] = anything, anything
    torch.testing.assert_close(solve_root(poses, keypoints, intrinsics, confidences), expected, rtol=0, atol=1e-9)


def weighted(*joints):
    """Weights (J,) that leave these joints alone."""
    weights = torch.zeros(J, dtype=torch.float64)
    weights[list(joints)] = 1
    return weights


def test_no_joint_that_counts(intrinsics):
    poses, _ = people(3)
    root = solve_root(poses, torch.full((3, J, 2), 0.1, dtype=torch.float64), intrinsics, weighted())
    torch.testing.assert_close(root, torch.tensor([[0, 0, ASSUMED_DEPTH]] * 3, dtype=torch.float64))


def test_one_joint_that_counts_is_on_its_ray_at_the_assumed_depth(intrinsics):
    poses, roots = people()
    keypoints = project(poses + roots[:, None], intrinsics)
    joints = poses + solve_root(poses, keypoints, intrinsics, weighted(5))[:, None]
    torch.testing.assert_close(joints[:, 5, 2], torch.full((len(poses),), ASSUMED_DEPTH, dtype=torch.float64))
    torch.testing.assert_close(project(joints, intrinsics)[:, 5], keypoints[:, 5], rtol=0, atol=1e-9)


def test_two_joints_that_count_are_enough(intrinsics):
    poses, roots = people()
    keypoints = project(poses + roots[:, None], intrinsics)
    torch.testing.assert_close(solve_root(poses, keypoints, intrinsics, weighted(5, 9)), roots, rtol=0, atol=1e-4)


def test_coincident_joints_tell_no_depth(intrinsics):
    poses, roots = people()
    keypoints = project(poses + roots[:, None], intrinsics)
    in_3d = poses[:, 5:6].expand(-1, J, 3)
    joints = in_3d + solve_root(in_3d, keypoints, intrinsics)[:, None]
    torch.testing.assert_close(joints[..., 2], torch.full_like(joints[..., 2], ASSUMED_DEPTH))
    centre = keypoints.mean(dim=1)
    torch.testing.assert_close(project(joints, intrinsics)[:, 0], centre, rtol=0, atol=1e-6)

    in_2d = keypoints[:, 5:6].expand(-1, J, 2)
    joints = poses + solve_root(poses, in_2d, intrinsics)[:, None]
    torch.testing.assert_close(joints[..., 2].mean(dim=1), torch.full((len(poses),), ASSUMED_DEPTH).double())


def test_nothing_is_put_behind_the_camera(intrinsics):
    poses, roots = people()
    keypoints = project(poses + roots[:, None], intrinsics)
    turned = poses * torch.tensor([-1, -1, 1])  # upside down and mirrored: it fits best from behind
    joints = turned + solve_root(turned, keypoints, intrinsics)[:, None]
    torch.testing.assert_close(joints[..., 2].mean(dim=1), torch.full((len(poses),), ASSUMED_DEPTH).double())

    deep = poses * torch.tensor([1, 1, 30])
    joints = deep + solve_root(deep, keypoints, intrinsics)[:, None]
    assert joints[..., 2].min().item() == pytest.approx(NEAREST)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size_3d", [0, 1e-6, 1, 1e6])
@pytest.mark.parametrize("size_2d", [0, 1e-6, 1, 1e6])
def test_whatever_comes_in_the_root_is_finite_and_ahead(intrinsics, dtype, size_3d, size_2d):
    torch.manual_seed(0)
    poses, keypoints = size_3d * torch.randn(300, J, 3, dtype=dtype), size_2d * torch.randn(300, J, 2, dtype=dtype)
    confidences = torch.rand(300, J, dtype=dtype) * (torch.rand(300, J) < 0.3)
    for weights in (None, confidences):
        root = solve_root(poses, keypoints, intrinsics, weights)
        assert root.isfinite().all()
        depths = poses[..., 2] + root[..., 2:]
        counts = torch.ones_like(depths) if weights is None else weights
        assert (depths[counts > 0] >= NEAREST - 1e-6 * max(1, size_3d)).all()
