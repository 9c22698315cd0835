"""The settings' order, and J-Agg's choice."""

import torch

from common.aggregation import mean_hypothesis, nearest_reprojection, take_hypothesis
from common.protocols import mean_errors, setting_poses

B, K, H, F, J = 2, 3, 4, 5, 17
ALL = torch.ones(B, F, dtype=torch.bool)


def case():
    torch.manual_seed(0)
    return (
        torch.randn(B, K, H, F, J, 3),
        torch.randn(B, F, J, 3),
        torch.randn(B, K, H, F, J, 2),
        torch.randn(B, F, J, 2),
    )


def setting_errors(samples, target, nearest, align, valid=ALL):
    return mean_errors(setting_poses(samples, target, valid, nearest, align), target, valid)


def test_no_setting_beats_the_oracle_and_order_of_hypotheses_does_not_matter():
    samples, target, reprojected, x_2d = case()
    for align in (False, True):
        found = setting_errors(samples, target, nearest_reprojection(reprojected, x_2d), align)
        assert (found["J_Best"] <= found["P_Best"]).all()
        assert (found["J_Best"] <= found["J_Agg"]).all()
        order = torch.randperm(H)
        nearest = nearest_reprojection(reprojected[:, :, order], x_2d)
        again = setting_errors(samples[:, :, order], target, nearest, align)
        for name in found:
            torch.testing.assert_close(found[name], again[name])


def test_j_agg_takes_the_hypothesis_that_reprojects_exactly():
    samples, _, reprojected, x_2d = case()
    reprojected[:, :, 2, :, 7] = x_2d[:, None, :, 7]
    chosen = take_hypothesis(samples, nearest_reprojection(reprojected, x_2d))
    assert torch.equal(chosen[..., 7, :], samples[:, :, 2, :, 7])


def test_without_a_camera_j_agg_is_left_out():
    samples, target, _, _ = case()
    assert "J_Agg" not in setting_poses(samples, target, ALL, None, align=False)
    assert mean_hypothesis(samples).shape == (B, K, F, J, 3)
