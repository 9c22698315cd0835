"""The sample data: the code that makes it, and the files that come with the repository."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from common.skeleton import H36M, mirror
from data import prepare_sample as sample

FOLDER = Path(sample.__file__).parent
DROPPED = [4, 5, 9, 10, 11, 16, 20, 21, 22, 23, 24, 28, 29, 30, 31]
KEPT = [slot for slot in range(32) if slot not in DROPPED]
IDENTITY = [1.0, 0.0, 0.0, 0.0]
JOINT = {name: index for index, name in enumerate(H36M.joint_names)}


@pytest.fixture(scope="module")
def positions_3d():
    return np.load(FOLDER / "data_3d_sample.npz", allow_pickle=True)["positions_3d"].item()


@pytest.fixture(scope="module")
def file_2d():
    return np.load(FOLDER / "data_2d_sample_gt.npz", allow_pickle=True)


@pytest.fixture(scope="module")
def positions_2d(file_2d):
    return file_2d["positions_2d"].item()


def sequences(positions):
    return [(subject, action, poses) for subject, actions in positions.items() for action, poses in actions.items()]


def write_clip(path, durations, **turned):
    """A clip of a person who stands at height 0.85 with all rotations zero, except those given (body -> numbers)."""
    frame = [0.0, 0.85, 0.0]
    for body, size in sample.FRAME_LAYOUT.items():
        frame += turned.get(body, IDENTITY if size == 4 else [0.0])
    path.write_text(json.dumps({"Loop": "none", "Frames": [[duration, *frame] for duration in durations]}))
    return path


def heading_free(poses):
    """(N, 17, 3) poses relative to the pelvis, turned about the vertical so that the hips lie along x."""
    relative = poses.astype(np.float64) - poses[:, :1]
    across = relative[:, JOINT["RHip"]] - relative[:, JOINT["LHip"]]
    turns = Rotation.from_euler("z", -np.arctan2(across[:, 1], across[:, 0])[:, None])
    return np.einsum("nab,njb->nja", turns.as_matrix(), relative)


def distances(a, b):
    """(N, M) mean joint distances between every pose of a and every pose of b."""
    return np.linalg.norm(a[:, None] - b[None], axis=-1).mean(axis=-1)


def test_forward_kinematics_standing(tmp_path):
    clip = sample.read_clip(write_clip(tmp_path / "clip.txt", [0.5, 0.0]))
    pose = sample.forward_kinematics(clip)[0]
    thigh, shin, hip = 1.686184 / 4, 1.639480 / 4, 0.339548 / 4
    np.testing.assert_allclose(pose[JOINT["RAnkle"]], [0, 0.85 - thigh - shin, hip], atol=1e-9)
    np.testing.assert_allclose(pose[JOINT["LAnkle"]], [0, 0.85 - thigh - shin, -hip], atol=1e-9)
    np.testing.assert_allclose(pose[JOINT["head"]], [0, 0.85 + (0.944604 + 0.895576 + 1.11) / 4, 0], atol=1e-9)


def test_forward_kinematics_bends_the_right_way(tmp_path):
    """Knee turned by -90 degrees: the shin points backwards. Elbow by +90: the forearm points ahead (x)."""
    path = write_clip(tmp_path / "clip.txt", [0.5, 0.0], right_knee=[-np.pi / 2], left_elbow=[np.pi / 2])
    pose = sample.forward_kinematics(sample.read_clip(path))[0]
    np.testing.assert_allclose(pose[JOINT["RAnkle"]] - pose[JOINT["RKnee"]], [-1.639480 / 4, 0, 0], atol=1e-9)
    np.testing.assert_allclose(pose[JOINT["LWrist"]] - pose[JOINT["LElbow"]], [1.035788 / 4, 0, 0], atol=1e-9)


def test_forward_kinematics_chains_rotations(tmp_path):
    """The root turned to the left, then the hip swung ahead: the leg points where the person now faces (-z)."""
    half = np.sqrt(0.5)
    path = write_clip(tmp_path / "clip.txt", [0.5, 0.0], root=[half, 0, half, 0], right_hip=[half, 0, 0, half])
    pose = sample.forward_kinematics(sample.read_clip(path))[0]
    thigh = (pose[JOINT["RKnee"]] - pose[JOINT["RHip"]]) / (1.686184 / 4)
    np.testing.assert_allclose(thigh, [0, 0, -1], atol=1e-9)


def test_resample_keeps_duration_and_uneven_times(tmp_path):
    clip = sample.read_clip(write_clip(tmp_path / "clip.txt", [0.1, 0.3, 0.0]))
    even = sample.resample(clip)
    np.testing.assert_allclose(even.times, np.arange(21) / 50, atol=1e-9)
    np.testing.assert_allclose(even.root, np.tile([0, 0.85, 0], (21, 1)), atol=1e-9)


def test_to_world_turns_y_up_to_z_up():
    world = sample.to_world(np.array([[[1.0, 2.0, 3.0]]]))
    np.testing.assert_allclose(world, [[[1.0 * 1.05, -3.0 * 1.05, 2.0 * 1.05]]])


def test_split_leaves_gaps():
    train, test = sample.split_frames(100, loops=True)
    assert (train, test) == (slice(0, 66), slice(71, 95))
    assert sample.split_frames(100, loops=False) == (slice(0, 70), slice(75, 100))
    assert sample.split_frames(20, loops=False) is None


def test_files_have_the_format(positions_3d, positions_2d, file_2d):
    metadata = file_2d["metadata"].item()
    assert metadata["layout_name"] == "h36m"
    assert metadata["num_joints"] == 17
    assert metadata["keypoints_symmetry"] == [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]
    assert set(positions_3d) == set(positions_2d) == {"S1", "S9"}
    assert set(positions_3d["S1"]) == set(positions_3d["S9"])
    for subject, action, poses in sequences(positions_3d):
        assert poses.dtype == np.float32
        assert poses.shape == (len(poses), 32, 3)
        assert np.isfinite(poses).all()
        cameras = positions_2d[subject][action]
        assert [(view.dtype, view.shape) for view in cameras] == [(np.dtype("float32"), (len(poses), 17, 2))] * 4


def test_files_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("data_*_sample*.npz")) < 2_000_000


def test_classes_are_words_and_none_begins_another(positions_3d):
    classes = {action.split(" ")[0] for action in positions_3d["S1"]}
    assert all(name.isalpha() for name in classes)
    assert not [(a, b) for a in classes for b in classes if a != b and b.startswith(a)]


def test_dropped_slots_repeat_kept_ones(positions_3d):
    for _, _, poses in sequences(positions_3d):
        for slot in DROPPED:
            assert (poses[:, [slot]] == poses[:, KEPT]).all(axis=(0, 2)).any()


def test_bones_are_constant_and_the_same_everywhere(positions_3d):
    joints, parents = np.array(H36M.bones).T
    poses = np.concatenate([poses[:, KEPT] for _, _, poses in sequences(positions_3d)])
    lengths = np.linalg.norm(poses[:, joints] - poses[:, parents], axis=-1)
    assert np.ptp(lengths, axis=0).max() < 1e-5
    left, right = ([list(joints).index(joint) for joint in side] for side in (H36M.joints_left, H36M.joints_right))
    np.testing.assert_allclose(lengths[0, left], lengths[0, right], atol=1e-5)


def test_people_stand_on_the_floor(positions_3d):
    for _, action, poses in sequences(positions_3d):
        assert poses[..., 2].min() > -1e-6, action
    for actions in positions_3d.values():
        head_height = actions["Walking"][:, 15, 2]
        assert ((head_height > 1.55) & (head_height < 1.75)).all()
        ankles = actions["Walking"][:, [3, 8], 2].min(axis=1)
        assert ((ankles > 0.03) & (ankles < 0.12)).all()


def test_walking_goes_where_it_faces(positions_3d):
    """Ahead is up x (left to right), with left and right as named: a swapped or mirrored body would walk backwards."""
    poses = positions_3d["S1"]["Walking"][:, KEPT]
    across = (poses[:, JOINT["RHip"]] - poses[:, JOINT["LHip"]]).mean(axis=0)
    ahead = np.cross([0, 0, 1], across)
    moved = poses[-1, 0] - poses[0, 0]
    assert moved @ ahead / np.linalg.norm(moved) / np.linalg.norm(ahead) > 0.9


def test_2d_is_the_projection(positions_3d, positions_2d):
    """Written out here once more, with the constants read anew."""
    constants = json.loads((FOLDER.parent / "common" / "cameras" / "h36m.json").read_text())
    for subject, action, poses in sequences(positions_3d):
        for index, (lens, stand) in enumerate(
            zip(constants["intrinsics"], constants["extrinsics"][subject], strict=True)
        ):
            w, x, y, z = stand["orientation"]
            world_from_camera = Rotation.from_quat([x, y, z, w]).as_matrix()
            moved = poses[:, KEPT].astype(np.float64) - np.array(stand["translation"]) / 1000
            in_camera = moved @ world_from_camera  # the transpose, applied from the left
            u, v = in_camera[..., 0] / in_camera[..., 2], in_camera[..., 1] / in_camera[..., 2]
            assert (in_camera[..., 2] > 1).all()
            (k1, k2, k3), (p1, p2) = lens["radial_distortion"], lens["tangential_distortion"]
            r2 = u * u + v * v
            factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * u + p2 * v
            pixels = np.stack([u * factor + p1 * r2, v * factor + p2 * r2], axis=-1)
            pixels = pixels * lens["focal_length"] + lens["center"]
            stored = positions_2d[subject][action][index]
            assert np.abs(pixels - stored).max() < 0.01
            assert ((stored > 0) & (stored < [lens["res_w"], lens["res_h"]])).all()


def test_no_test_pose_is_a_training_pose(positions_3d):
    """Neither as it is nor mirrored, since training mirrors: within a clip, 1 cm apart at the least."""
    for action in positions_3d["S9"]:
        train, test = (positions_3d[subject][action][:, KEPT] for subject in ("S1", "S9"))
        mirrored = mirror(train, H36M)
        for name, seen in (("as it is", train), ("mirrored", mirrored)):
            assert distances(heading_free(test), heading_free(seen)).min() > 0.01, f"{action}, {name}"


def test_clips_that_are_absent_or_odd(tmp_path, capsys):
    assert sample.main(["--clips", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "humanoid3d_" in capsys.readouterr().err
    (tmp_path / "humanoid3d_walk.txt").write_text('{"Frames": [[1, 2, 3], [1, 2, 3]]}')
    with pytest.raises(sample.DataError, match="expected two or more of 44 numbers"):
        sample.read_clip(tmp_path / "humanoid3d_walk.txt")


def test_no_pybullet_is_one_clear_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert sample.main(["--out", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "pip install pybullet" in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_rebuilding_gives_the_same_data(tmp_path, positions_3d, positions_2d):
    try:
        clips = sample.find_clips()
    except sample.DataError as error:
        pytest.skip(str(error))
    first, second = tmp_path / "first", tmp_path / "second"
    made_3d, made_2d = sample.write_sample(clips, first)
    sample.write_sample(clips, second)
    assert sorted(path.name for path in first.iterdir()) == ["data_2d_sample_gt.npz", "data_3d_sample.npz"]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
    # Another machine or library version may round the last digit otherwise, so against the stored files: a tolerance.
    for subject, action, poses in sequences(positions_3d):
        np.testing.assert_allclose(made_3d[subject][action], poses, atol=1e-5)
        np.testing.assert_allclose(made_2d[subject][action], positions_2d[subject][action], atol=1e-3)
    assert {s: set(a) for s, a in made_3d.items()} == {s: set(a) for s, a in positions_3d.items()}
