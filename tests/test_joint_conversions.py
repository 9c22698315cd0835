"""How Human3.6M's joints are made of detectors' joints."""

import numpy as np
import pytest

from common.datasets import DATASETS
from common.joint_conversions import CONVERSIONS, LAYOUTS, convert_joints, made_joints
from common.npz_files import read_npz
from common.skeleton import H36M
from tests.conftest import ROOT

# A person who stands, seen from the front, in pixels; left is on the image's right.
BODY = {
    "nose": (500, 185), "LEye": (510, 175), "REye": (490, 175), "LEar": (520, 180), "REar": (480, 180),
    "LShoulder": (560, 280), "RShoulder": (440, 280), "LElbow": (580, 380), "RElbow": (420, 380),
    "LWrist": (590, 470), "RWrist": (410, 470), "LHip": (535, 480), "RHip": (465, 480),
    "LKnee": (537, 640), "RKnee": (463, 640), "LAnkle": (540, 790), "RAnkle": (460, 790),
    "middle_hip": (500, 480),
    "LBigToe": (550, 800), "RBigToe": (450, 800), "LSmallToe": (555, 800), "RSmallToe": (445, 800),
    "LHeel": (540, 795), "RHeel": (460, 795),
}  # fmt: skip
# The mean of Human3.6M's training poses relative to the pelvis, metres, camera space. Source: target_mean in MMPose's
# configs of Human3.6M, made of joint3d_rel_stats.pkl.
MEAN_POSE = {
    "spine": (0.0029, -0.2114, -0.0474), "thorax": (0.0057, -0.4351, -0.0977), "neck": (0.0059, -0.4919, -0.1107),
    "head": (0.0074, -0.5839, -0.1312),
    "LShoulder": (0.0054, -0.3839, -0.0868), "RShoulder": (0.0047, -0.3836, -0.0855),
    "LHip": (0.0003, 0.0071, 0.0010), "RHip": (-0.0003, -0.0071, -0.0010),
}  # fmt: skip
OPENPOSE_NECK, HALPE_NECK, HALPE_HEAD = (500, 280), (500, 245), (500, 120)


def person(layout: str) -> np.ndarray:
    """(J, 2), in the layout's order."""
    neck = HALPE_NECK if layout.startswith("halpe") else OPENPOSE_NECK
    table = {**BODY, "neck": neck, "head": HALPE_HEAD}
    joints = [table[name] for name in LAYOUTS[layout].joint_names]
    return np.array(joints + [(0, 0)] * (LAYOUTS[layout].num_joints - len(joints)), dtype=float)


def named(joints, names) -> dict:
    return dict(zip(names, np.asarray(joints).tolist(), strict=True))


def test_every_layout_can_be_converted():
    assert CONVERSIONS.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("layout", CONVERSIONS)
def test_recipes_are_of_known_joints_and_sum_to_one(layout):
    conversion = CONVERSIONS[layout]
    assert tuple(conversion) == H36M.joint_names
    for recipes in conversion.values():
        for recipe in recipes:
            assert set(recipe) <= set(LAYOUTS[layout].joint_names)
            assert sum(recipe.values()) == pytest.approx(1)


@pytest.mark.parametrize("layout", ["coco17", "coco18", "body25", "coco133"])
def test_joints_without_a_head_top(layout):
    points = person(layout)
    made, _ = convert_joints(points, np.ones(len(points)), layout)
    joints = named(made, H36M.joint_names)
    assert joints["pelvis"] == pytest.approx([500, 480])
    assert joints["thorax"] == pytest.approx([500, 254])  # the shoulders are 200 px above the pelvis: 26 more
    assert joints["spine"] == pytest.approx([500, 367])
    assert joints["neck"] == pytest.approx([500, 280 - 0.75 * 95])  # the nose is 95 px above the shoulders
    assert joints["head"] == pytest.approx([500, 140])  # the ears are 100 px above the shoulders: 40 more
    for name in H36M.joint_names[1:7] + H36M.joint_names[11:]:
        assert joints[name] == pytest.approx(BODY[name]), name
    assert set(made_joints(layout)) >= {"spine", "thorax", "neck", "head"}


def test_made_joints_lie_where_human36m_has_them_on_average():
    """Nose and ears are not Human3.6M's: they are put where the neck says that the nose is."""
    pose = {name: np.array(point) for name, point in MEAN_POSE.items()}
    shoulders = (pose["LShoulder"] + pose["RShoulder"]) / 2
    nose = shoulders + (pose["neck"] - shoulders) / 0.75
    pose.update(nose=nose, LEar=nose, REar=nose)
    points = np.array([pose.get(name, np.zeros(3)) for name in LAYOUTS["coco17"].joint_names])
    for axes in ([0, 1], [2, 1]):  # seen from the front and from the side
        made, _ = convert_joints(points[:, axes], np.ones(17), "coco17")
        joints = named(made, H36M.joint_names)
        for name in ("spine", "thorax", "neck", "head"):
            assert joints[name] == pytest.approx(pose[name][axes], abs=0.007), name


def test_cmu_motion_has_another_thorax():
    kept = DATASETS["sample"].kept_joints
    tree = read_npz(ROOT / "data" / "data_3d_sample.npz")["positions_3d"]
    poses = np.concatenate([poses[:, kept] for actions in tree.values() for poses in actions.values()])
    pelvis, thorax, left, right = (
        poses[:, H36M.joint_names.index(name)] for name in ("pelvis", "thorax", "LShoulder", "RShoulder")
    )
    trunk = (left + right) / 2 - pelvis
    assert len(poses) == 1492
    assert (trunk * (thorax - pelvis)).sum() / (trunk**2).sum() == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize("layout", ["halpe26", "halpe136"])
def test_halpe_has_nearly_all(layout):
    points = person(layout)
    made, _ = convert_joints(points, np.ones(len(points)), layout)
    joints = named(made, H36M.joint_names)
    assert joints["head"] == pytest.approx(HALPE_HEAD)
    assert joints["thorax"] == pytest.approx(HALPE_NECK)
    assert joints["spine"] == pytest.approx([500, 362.5])
    assert joints["neck"] == pytest.approx(BODY["nose"])
    assert joints["LWrist"] == pytest.approx(BODY["LWrist"])
    assert made_joints(layout) == ["spine"]


def test_a_made_joint_is_as_sure_as_its_weakest_source():
    names = LAYOUTS["coco17"].joint_names
    confidences = np.ones(17)
    confidences[names.index("RHip")] = 0.25
    confidences[names.index("LEar")] = 0.5
    _, found = convert_joints(person("coco17"), confidences, "coco17")
    found = named(found, H36M.joint_names)
    assert {name: value for name, value in found.items() if value != 1} == {
        "pelvis": 0.25, "RHip": 0.25, "spine": 0.25, "thorax": 0.25, "head": 0.5,
    }  # fmt: skip


def hide(points, layout, *joints):
    for joint in joints:
        points[LAYOUTS[layout].joint_names.index(joint)] = np.nan


def test_hidden_joints_take_the_next_recipe_frame_by_frame():
    points = np.stack([person("body25")] * 4)
    hide(points[1], "body25", "LEar")
    hide(points[2], "body25", "nose")
    hide(points[3], "body25", "nose", "LEar", "REar")
    made, confidences = convert_joints(points, np.ones((4, 25)), "body25")
    neck, head = H36M.joint_names.index("neck"), H36M.joint_names.index("head")
    np.testing.assert_allclose(made[:3, neck], [[500, 280 - 0.75 * 95]] * 2 + [[500, 280 - 0.75 * 100]])
    np.testing.assert_allclose(made[:3, head], [[500, 140], [472, 140], [500, 140]])
    assert np.isnan(made[3, [neck, head]]).all()
    assert confidences[3, [neck, head]].tolist() == [0, 0]
    assert np.isfinite(np.delete(made[3], [neck, head], axis=0)).all()


def test_h36m_stays_as_it_is():
    points = np.random.default_rng(0).normal(size=(3, 17, 2))
    made, confidences = convert_joints(points, np.full((3, 17), 0.5), "h36m17")
    np.testing.assert_array_equal(made, points)
    assert (confidences == 0.5).all()


def test_left_and_right_mirror():
    """A mirrored detection with left and right swapped makes the mirrored pose."""
    for layout in ("coco17", "coco18", "body25", "halpe26"):
        names = LAYOUTS[layout].joint_names
        swap = [
            names.index({"L": "R", "R": "L"}.get(name[0], name[0]) + name[1:]) if name[1].isupper() else index
            for index, name in enumerate(names)
        ]
        points = np.random.default_rng(1).normal(size=(len(names), 2))
        made, _ = convert_joints(points, np.ones(len(names)), layout)
        mirrored, _ = convert_joints(points[swap] * [-1, 1], np.ones(len(names)), layout)
        np.testing.assert_allclose(mirrored[H36M.mirror_order] * [-1, 1], made, atol=1e-12)
