"""Known answers, and an independent Procrustes by scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from common import metrics
from common.metrics import AUC_THRESHOLDS, auc, best_rotation, mpjpe, p_mpjpe, pck, procrustes_align


def test_mpjpe_of_a_known_offset():
    target = torch.randn(2, 5, 17, 3)
    torch.testing.assert_close(mpjpe(target + torch.tensor([3.0, 0.0, 4.0]), target), torch.full((2,), 5.0))


def test_p_mpjpe_ignores_similarity_transforms():
    target = torch.randn(4, 17, 3, dtype=torch.float64)
    rotation = torch.from_numpy(Rotation.random(random_state=0).as_matrix())
    assert p_mpjpe(2.5 * target @ rotation.T + 7, target).item() == pytest.approx(0, abs=1e-9)


def test_p_mpjpe_does_not_reflect():
    target = torch.randn(1, 17, 3, dtype=torch.float64)
    assert p_mpjpe(target * torch.tensor([-1.0, 1.0, 1.0]), target) > 0.1


def test_alignment_agrees_with_scipys_where_no_reflection_is_wanted():
    torch.manual_seed(0)
    target = torch.randn(17, 3, dtype=torch.float64)
    predicted = target + 0.1 * torch.randn(17, 3, dtype=torch.float64)
    residual = (procrustes_align(predicted, target) - target).square().sum().item()
    size = (target - target.mean(0)).square().sum().item()
    assert residual / size == pytest.approx(procrustes(target.numpy(), predicted.numpy())[2], rel=1e-9)


def test_pck_counts_what_is_less_than_the_threshold_and_not_what_is_equal():
    below = torch.tensor(150.0, dtype=torch.float64).nextafter(torch.tensor(0.0, dtype=torch.float64)).item()
    errors = torch.tensor([[below, 150.0], [0.0, 151.0]], dtype=torch.float64)
    assert pck(errors).item() == 50
    assert pck(errors, threshold=0).item() == 0
    assert pck(errors, threshold=150.5).item() == 75


def test_auc_is_the_mean_over_31_thresholds_of_which_0_is_one():
    assert AUC_THRESHOLDS[:2] == (0, 5)
    assert AUC_THRESHOLDS[-1] == 150
    errors = torch.tensor([[[0.0]], [[5.0]], [[147.0]], [[150.0]]])  # (4, F, J): right from 5, from 10, at 150, never
    torch.testing.assert_close(auc(errors), 100 * torch.tensor([30, 29, 1, 0], dtype=torch.float64) / 31)
    torch.testing.assert_close(auc(errors[:, :, 0]), auc(errors).mean())


def umeyama_residual(x, y):
    """The least sum of squares that a similarity transform without reflection leaves, by numpy, for one pose."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    u, s, vh = np.linalg.svd(y.T @ x)
    s[2] *= np.sign(np.linalg.det(u) * np.linalg.det(vh))
    size = (x**2).sum()
    return (y**2).sum() - (s.sum() ** 2 / size if size else 0)


@pytest.mark.parametrize("kind", ["any", "near", "mirrored", "in a plane", "on a line", "in a point", "small", "large"])
def test_alignment_is_the_least_squares_one_whatever_the_pose(kind):
    random = torch.Generator().manual_seed(0)
    target, other = 0.3 * torch.randn(2, 200, 17, 3, generator=random, dtype=torch.float64)
    predicted = {
        "any": other,
        "near": target + 1e-3 * other,
        "mirrored": target * torch.tensor([-1.0, 1.0, 1.0]),
        "in a plane": other * torch.tensor([1.0, 1.0, 0.0]),
        "on a line": other * torch.tensor([1.0, 0.0, 0.0]),
        "in a point": torch.zeros_like(other),
        "small": 1e-9 * other,
        "large": 1e9 * other,
    }[kind]
    found = (procrustes_align(predicted, target) - target).square().sum((1, 2))
    expected = [umeyama_residual(x, y) for x, y in zip(predicted.numpy(), target.numpy(), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_the_rotation_is_one():
    m = torch.randn(50, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rotation, overlap = best_rotation(m)
    eye = torch.eye(3, dtype=torch.float64).expand(50, 3, 3)
    torch.testing.assert_close(rotation @ rotation.mT, eye)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close((rotation * m).sum((1, 2)), overlap)
    others = torch.from_numpy(Rotation.random(1000, random_state=0).as_matrix())
    assert (torch.einsum("nij,kij->nk", m, others) <= overlap[:, None]).all()


def test_poses_are_aligned_alike_however_many_at_once(monkeypatch):
    torch.manual_seed(0)
    predicted, target = torch.randn(3, 4, 17, 3), torch.randn(4, 17, 3)
    expected = procrustes_align(predicted, target)
    monkeypatch.setattr(metrics, "_POSES_AT_ONCE", 5)
    torch.testing.assert_close(procrustes_align(predicted, target), expected)
    assert procrustes_align(predicted[:0], target).shape == (0, 4, 17, 3)
