"""Warnings for keypoints that are upside down, in another order, or with left and right mixed up; none for people."""

import numpy as np
import pytest

from common.keypoint_checks import doubts, outside, side_swaps
from common.npz_files import read_npz
from common.skeleton import H36M, MPI_INF_3DHP
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def walking():
    """Real motion, seen by four cameras."""
    clips = read_npz(ROOT / "data" / "data_2d_sample_gt.npz")["positions_2d"]
    return [np.asarray(view, np.float64) for views in clips["S1"].values() for view in views if len(view) > 30]


def swapped(keypoints, names):
    order = list(range(17))
    for name in names:
        left, right = H36M.joint_names.index(f"L{name}"), H36M.joint_names.index(f"R{name}")
        order[left], order[right] = right, left
    return keypoints[:, order]


def test_people_as_they_are_raise_hardly_a_doubt(walking):
    doubtful = [found for clip in walking if (found := doubts(clip, H36M))]
    assert len(walking) > 10
    assert len(doubtful) <= 0.1 * len(walking), doubtful


def test_upside_down(walking):
    standing = [clip for clip in walking if not doubts(clip, H36M)]
    for clip in standing:
        (first, *_) = doubts(np.stack([clip[..., 0], 1000 - clip[..., 1]], axis=-1), H36M)
        assert first.startswith("the head is below the feet in ")


def test_arms_of_the_other_side(walking):
    seen = sum(
        any("exchanged between hips and shoulders" in doubt for doubt in doubts(crossed, H36M))
        for crossed in (swapped(clip, ("Shoulder", "Elbow", "Wrist")) for clip in walking)
    )
    assert seen > 0.7 * len(walking)


def test_another_order_of_joints(walking):
    """COCO's joints taken for Human3.6M's."""
    order = (
        "neck head head head head LShoulder RShoulder LElbow RElbow LWrist RWrist LHip RHip LKnee RKnee LAnkle RAnkle"
    )
    taken = [H36M.joint_names.index(name) for name in order.split()]
    assert all(doubts(clip[:, taken], H36M) for clip in walking)


def test_left_and_right_that_change_places_in_some_frame(walking):
    assert sum(len(side_swaps(clip, H36M)) for clip in walking) == 0
    found = 0
    for clip in walking:
        mixed = clip.copy()
        mixed[15:20] = clip[15:20][:, H36M.mirror_order]
        swaps = side_swaps(mixed, H36M)
        assert set(swaps) <= {15, 20}
        found += len(swaps)
        if len(swaps):
            assert any(f"change places {len(swaps)} times" in doubt for doubt in doubts(mixed, H36M))
    assert found > 1.2 * len(walking)  # from the side, left and right are one


def test_the_same_joints_by_mpi_inf_3dhp_s_names(walking):
    names = {"head_top": "head", "neck": "thorax", "head": "neck"}
    taken = [H36M.joint_names.index(names.get(name, name)) for name in MPI_INF_3DHP.joint_names]
    for clip in walking:
        assert doubts(clip[:, taken], MPI_INF_3DHP) == doubts(clip, H36M)


def test_joints_outside_the_image():
    keypoints = np.array([[10, 10], [90, 40], [150, 10], [20, -5], [30, 30]])
    assert outside(keypoints, 100, 50) == "40% of the joints lie outside 100x50 pixels; check --width and --height"
    assert outside(keypoints[[0, 1, 4]], 100, 50) is None
