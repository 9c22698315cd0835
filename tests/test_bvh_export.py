"""BVH files as another program reads them: bone lengths, joints, frames, and the rest pose."""

import numpy as np
import pytest

from common.bvh_export import CENTIMETRES, Y_UP, fit_bones, joints_from_root, write_bvh
from common.camera import camera_to_world
from common.datasets import load_dataset
from common.skeleton import H36M, HUMANEVA15, MPI_INF_3DHP, SKELETONS
from tests.conftest import ROOT
from tests.test_rendering import walk

pybvh = pytest.importorskip("pybvh", reason="pip install -r requirements-predict.txt")


@pytest.fixture(scope="module")
def clips():
    """Real motion in the world: metres, z up."""
    found = load_dataset("sample", ROOT / "data", "gt", training=False).test
    return [camera_to_world(clip.poses_3d + clip.root[:, None], clip.camera) for clip in found[::4]]


def read(path, skeleton):
    """The file's frames, (N, J, 3), by a reader's forward kinematics, and the file."""
    bvh = pybvh.read_bvh_file(path)
    bvh.world_up = "+y"
    assert sorted(bvh.joint_names) == sorted(skeleton.joint_names)
    order = [bvh.joint_names.index(name) for name in skeleton.joint_names]
    return bvh.joint_positions()[:, order] / CENTIMETRES, bvh


@pytest.mark.filterwarnings("ignore:Rest pose suggests")
def test_joints_are_where_the_poses_have_them(clips, tmp_path):
    """A person of fixed bones comes back whole, standing or head over heels."""
    for number, clip in enumerate(clips):
        path = tmp_path / f"{number}.bvh"
        stated = write_bvh(path, clip, H36M, 50)
        found, bvh = read(path, H36M)
        wanted = Y_UP.apply(clip.reshape(-1, 3)).reshape(clip.shape)
        error = np.linalg.norm(found - wanted, axis=-1)
        assert error.mean() < 0.005
        assert error.mean() == pytest.approx(stated, abs=1e-5)
        assert (len(bvh), bvh.fps) == (len(clip), pytest.approx(50))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
def test_bones_have_their_median_lengths(skeleton, tmp_path):
    """Of poses whose bones are never the same."""
    poses = walk(skeleton, 30) + np.random.default_rng(0).normal(0, 0.02, (30, skeleton.num_joints, 3))
    write_bvh(tmp_path / "a.bvh", poses, skeleton, 25)
    found, bvh = read(tmp_path / "a.bvh", skeleton)
    for joint, parent in skeleton.bones:
        length = np.linalg.norm(found[:, joint] - found[:, parent], axis=-1)
        wanted = np.median(np.linalg.norm(poses[:, joint] - poses[:, parent], axis=-1))
        np.testing.assert_allclose(length, wanted, atol=2e-5)
        node = bvh.nodes[bvh.node_index[skeleton.joint_names[joint]]]
        assert np.linalg.norm(node.offset) / CENTIMETRES == pytest.approx(wanted, abs=2e-5)
    np.testing.assert_allclose(found[:, skeleton.root], Y_UP.apply(poses[:, skeleton.root]), atol=1e-5)


@pytest.mark.parametrize("skeleton", [H36M, HUMANEVA15, MPI_INF_3DHP], ids=lambda skeleton: skeleton.name)
def test_the_rest_pose_is_a_t_that_looks_along_z(skeleton):
    offsets, _ = fit_bones(walk(skeleton, 3), skeleton)
    rest = np.zeros_like(offsets)
    for joint in joints_from_root(skeleton)[1:]:
        rest[joint] = rest[skeleton.parents[joint]] + offsets[joint]
    at = dict(zip(skeleton.joint_names, rest, strict=True))
    assert at["LWrist"][0] > at["LShoulder"][0] > 0 > at["RShoulder"][0] > at["RWrist"][0]
    assert at["LAnkle"][1] < at["LHip"][1]
    assert at["head"][1] > at["pelvis"][1]


def test_angles_go_no_long_way_round(tmp_path):
    """Somebody who turns on the spot, twice."""
    pose, turns = walk(H36M, 1)[0], np.linspace(0, 4 * np.pi, 120)
    x, y, z = np.moveaxis(pose, -1, 0)
    spin = np.stack([np.stack([x * np.cos(a) - y * np.sin(a), x * np.sin(a) + y * np.cos(a), z], -1) for a in turns])
    write_bvh(tmp_path / "a.bvh", spin, H36M, 30)
    _, bvh = read(tmp_path / "a.bvh", H36M)
    assert np.abs(np.diff(np.rad2deg(bvh.joint_angles), axis=0)).max() < 20


def test_one_frame_and_a_body_without_extent(tmp_path):
    for poses in (walk(H36M, 1), np.zeros((3, 17, 3))):
        write_bvh(tmp_path / "a.bvh", poses, H36M, 50)
        found, _ = read(tmp_path / "a.bvh", H36M)
        assert np.isfinite(found).all()
        assert len(found) == len(poses)
