"""The settings' order, what J-Agg chooses, and what J-Agg-est and R-Agg know of the root."""

import pytest
import torch

from common.aggregation import (
    SIGMA,
    mean_hypothesis,
    nearest_reprojection,
    reproject_solved,
    reprojection_mean,
    take_hypothesis,
)
from common.camera import load_cameras, project_to_2d
from common.protocols import mean_errors, setting_poses
from common.settings import SETTINGS

B, K, H, F, J = 2, 3, 4, 5, 17
ALL = torch.ones(B, F, dtype=torch.bool)
INTRINSICS = torch.stack([torch.from_numpy(camera.intrinsics) for camera in load_cameras("h36m.json")["S9"][:B]])


def case():
    torch.manual_seed(0)
    return (
        torch.randn(B, K, H, F, J, 3),
        torch.randn(B, F, J, 3),
        torch.randn(B, K, H, F, J, 2),
        torch.randn(B, F, J, 2),
    )


def seen_case(error_3d=0.05, error_2d=0.0, num_frames=F):
    """Hypotheses around a pose that is seen from the two cameras: samples, target, x_2d, root (B, F, 3)."""
    torch.manual_seed(1)
    target = torch.randn(B, num_frames, J, 3) * torch.tensor([0.3, 0.5, 0.3])
    target[:, :, 0] = 0
    root = torch.tensor([0.3, -0.2, 5.0]) + torch.randn(B, num_frames, 3) / 2
    x_2d = project_to_2d(target + root[:, :, None], INTRINSICS) + error_2d * torch.randn(B, num_frames, J, 2)
    return target[:, None, None] + error_3d * torch.randn(B, K, H, num_frames, J, 3), target, x_2d, root


def setting_errors(poses, target, counted):
    """Setting -> (K,), the mean over joints."""
    return {setting: errors.mean(dim=-1) for setting, errors in mean_errors(poses, target, counted).items()}


def all_answers(samples, target, x_2d, root, intrinsics=INTRINSICS, align=False, confidences=None):
    reprojected = reproject_solved(samples, x_2d, intrinsics, confidences)
    from_root = project_to_2d(samples + root[:, None, None, :, None], intrinsics)
    means = {"P_Agg": mean_hypothesis(samples), "R_Agg": reprojection_mean(samples, reprojected, x_2d)}
    chosen = {
        "J_Agg": nearest_reprojection(from_root, x_2d),
        "J_Agg_est": nearest_reprojection(reprojected, x_2d),
    }
    return setting_poses(samples, target, torch.ones(target.shape[:2], dtype=torch.bool), means, chosen, align)


@pytest.mark.parametrize("align", [False, True])
def test_no_setting_that_chooses_beats_the_oracle_and_order_of_hypotheses_does_not_matter(align):
    samples, target, x_2d, root = seen_case(error_2d=SIGMA)
    found = setting_errors(all_answers(samples, target, x_2d, root, align=align), target, ALL)
    assert list(found) == list(SETTINGS)
    for setting in ("P_Best", "J_Agg", "J_Agg_est"):
        assert (found["J_Best"] <= found[setting]).all()
    order = torch.randperm(H)
    again = setting_errors(all_answers(samples[:, :, order], target, x_2d, root, align=align), target, ALL)
    for name in found:
        torch.testing.assert_close(found[name], again[name])


def test_windows_and_frames_do_not_see_each_other():
    samples, target, x_2d, root = seen_case(error_2d=SIGMA)
    found = all_answers(samples, target, x_2d, root)
    turned = all_answers(samples.flip(0), target.flip(0), x_2d.flip(0), root.flip(0), INTRINSICS.flip(0))
    frames = torch.tensor([3, 1, 4, 0, 2])
    shuffled = all_answers(samples[:, :, :, frames], target[:, frames], x_2d[:, frames], root[:, frames])
    for setting in ("P_Agg", "J_Agg", "J_Agg_est", "R_Agg", "J_Best"):  # P-Best is chosen once for them all
        torch.testing.assert_close(turned[setting].flip(0), found[setting])
        torch.testing.assert_close(shuffled[setting], found[setting][:, :, frames])


def test_with_one_hypothesis_every_setting_is_that_one():
    samples, target, x_2d, root = seen_case(error_2d=SIGMA)
    for poses in all_answers(samples[:, :, :1], target, x_2d, root).values():
        torch.testing.assert_close(poses, samples[:, :, 0])


def test_exact_hypotheses_reproject_onto_their_2d():
    """From the solved root as from the true one: then J-Agg-est is J-Agg."""
    samples, _, x_2d, _ = seen_case(error_3d=0)
    torch.testing.assert_close(
        reproject_solved(samples, x_2d, INTRINSICS), x_2d[:, None, None].expand(B, K, H, F, J, 2)
    )


def test_j_agg_est_is_near_j_agg():
    samples, target, x_2d, root = seen_case(error_2d=SIGMA, num_frames=300)
    every = torch.ones(target.shape[:2], dtype=torch.bool)
    found = setting_errors(all_answers(samples, target, x_2d, root), target, every)
    torch.testing.assert_close(found["J_Agg_est"], found["J_Agg"], rtol=0.05, atol=0)


def test_j_agg_takes_the_hypothesis_that_reprojects_exactly():
    samples, _, reprojected, x_2d = case()
    reprojected[:, :, 2, :, 7] = x_2d[:, None, :, 7]
    chosen = take_hypothesis(samples, nearest_reprojection(reprojected, x_2d))
    assert torch.equal(chosen[..., 7, :], samples[:, :, 2, :, 7])


def test_r_agg_weighs_as_a_gaussian_does():
    """Two hypotheses, reprojected 0 and two standard deviations away: exp(0) : exp(-2)."""
    samples, _, _, x_2d = case()
    offsets = torch.tensor([[0.0, 0.0], [2 * SIGMA * 0.6, 2 * SIGMA * 0.8]])
    reprojected = (x_2d[:, None, None] + offsets[:, None, None]).expand(B, K, 2, F, J, 2)
    weight = 1 / (1 + torch.e**-2)
    expected = weight * samples[:, :, 0] + (1 - weight) * samples[:, :, 1]
    torch.testing.assert_close(reprojection_mean(samples[:, :, :2], reprojected, x_2d), expected, rtol=1e-3, atol=1e-3)


def test_r_agg_lies_between_the_mean_and_the_choice():
    samples, _, _, x_2d = case()
    same = x_2d[:, None, None].expand(B, K, H, F, J, 2)
    torch.testing.assert_close(reprojection_mean(samples, same + 0.1, x_2d), mean_hypothesis(samples))
    far = same + torch.arange(H)[:, None, None, None]  # hundreds of standard deviations, and the softmax is finite
    torch.testing.assert_close(reprojection_mean(samples, far, x_2d), samples[:, :, 0])


def test_confidences_decide_where_the_root_is():
    """Joints that are seen wrong, of no confidence: the root is where the others say, the true one."""
    samples, _, x_2d, root = seen_case(error_3d=0)
    x_2d[:, :, 3:6] += 0.2
    confidences = torch.ones(B, F, J)
    confidences[:, :, 3:6] = 0
    expected = project_to_2d(samples + root[:, None, None, :, None], INTRINSICS)
    torch.testing.assert_close(reproject_solved(samples, x_2d, INTRINSICS, confidences), expected)
    none = torch.zeros(B, F, J)
    torch.testing.assert_close(
        reproject_solved(samples, x_2d, INTRINSICS, none), reproject_solved(samples, x_2d, INTRINSICS)
    )


def test_without_a_camera_what_reprojects_is_left_out():
    samples, target, _, _ = case()
    found = setting_poses(samples, target, ALL, {"P_Agg": mean_hypothesis(samples)}, {}, align=False)
    assert list(found) == ["P_Agg", "P_Best", "J_Best"]
    assert mean_hypothesis(samples).shape == (B, K, F, J, 3)
