"""3D poses as BVH, for Blender and its kin: fixed bones, and the rotations that bring them nearest to the joints.

Needs pybvh, an optional package that is imported only when it is used. Letters: N frames, J joints.
"""

import os

import numpy as np
from scipy.spatial.transform import Rotation

from common.errors import UsageError
from common.files import replacing
from common.skeleton import Skeleton

CENTIMETRES = 100
"""In a metre. BVH states no unit; centimetres are what most programs take it for."""
Y_UP = Rotation.from_matrix([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
"""From a world with z up to BVH's, with y up: x stays."""
_SIDEWAYS, _DOWN = ("Hip", "Shoulder", "Elbow", "Wrist"), ("Knee", "Ankle")
_FITS = 5
"""Rounds in which the bones that leave one joint together, and its rotations, are fitted to each other."""


def check_bvh() -> None:
    """Whether BVH can be written: worth asking before the long work, not after it.

    Raises:
        UsageError: pybvh is not installed.
    """
    try:
        import pybvh  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--bvh needs pybvh, which is not here ({error}); pip install -r requirements-predict.txt, or leave it out"
        ) from None


def write_bvh(path: str | os.PathLike, positions: np.ndarray, skeleton: Skeleton, fps: float) -> float:
    """Write a .bvh: y up, centimetres, the rest pose a T that looks along z.

    A bone has its median length over the clip throughout. Where several leave one joint (pelvis, thorax) the angles
    between them are fixed too, so that joints are not where the poses have them, but near.

    Args:
        path: the file to write.
        positions: (N, J, 3), world, metres, z up.
        skeleton: whose joints these are.
        fps: frames a second.

    Returns:
        The mean distance of the file's joints from the poses', metres.

    Raises:
        UsageError: pybvh is not installed.
        DataError: the file cannot be written.
    """
    check_bvh()
    from pybvh import Bvh
    from pybvh.bvhnode import BvhEndSite, BvhJoint, BvhRoot

    wanted = Y_UP.apply(positions.reshape(-1, 3)).reshape(positions.shape)
    order = joints_from_root(skeleton)
    offsets, turned = fit_bones(wanted, skeleton)
    nodes, local = [], []
    of_joint: dict[int, BvhJoint] = {}
    for joint in order:
        parent = skeleton.parents[joint]
        if parent < 0:
            node = BvhRoot(skeleton.joint_names[joint], rot_channels="ZXY")
            local.append(turned[joint])
        else:
            above = of_joint[parent]
            node = BvhJoint(skeleton.joint_names[joint], CENTIMETRES * offsets[joint], "ZXY", parent=above)
            above.children = [*above.children, node]
            local.append(turned[parent].inv() * turned[joint])
        of_joint[joint] = node
        nodes.append(node)
        if joint not in skeleton.parents:  # BVH has joints end somewhere
            end = BvhEndSite(f"End{skeleton.joint_names[joint]}", parent=node)
            node.children = [end]
            nodes.append(end)
    empty = np.zeros((1, len(order), 3))
    bvh = Bvh(nodes, np.zeros((1, 3)), empty, frame_time=1 / fps, world_up="+y")
    matrices = np.stack([rotation.as_matrix() for rotation in local], axis=1)
    bvh = bvh.from_rotmat(CENTIMETRES * wanted[:, skeleton.root], matrices)
    bvh.joint_angles = np.unwrap(bvh.joint_angles, axis=0)  # between frames, no long way round
    with replacing(path) as part:
        bvh.write(part)
    return float(np.linalg.norm(bone_positions(wanted, skeleton, offsets, turned) - wanted, axis=-1).mean())


def joints_from_root(skeleton: Skeleton) -> list[int]:
    """All joints, each after its parent and before its parent's next child."""

    def below(joint: int) -> list[int]:
        children = [child for child, parent in enumerate(skeleton.parents) if parent == joint]
        return [joint, *(further for child in children for further in below(child))]

    return below(skeleton.root)


def fit_bones(positions: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, dict[int, Rotation]]:
    """Bones at rest, and how each joint turns them.

    Args:
        positions: (N, J, 3), y up.
        skeleton: whose joints these are.

    Returns:
        (J, 3), every joint relative to its parent at rest, 0 for the root; and of every joint its N rotations from rest
        to the world.
    """
    offsets = np.zeros((skeleton.num_joints, 3))
    for joint, parent in skeleton.bones:
        length = np.median(np.linalg.norm(positions[:, joint] - positions[:, parent], axis=-1))
        offsets[joint] = length * _rest_direction(joint, skeleton)
    turned: dict[int, Rotation] = {}
    for joint in joints_from_root(skeleton):
        children = [child for child, parent in enumerate(skeleton.parents) if parent == joint]
        bones = positions[:, children] - positions[:, [joint]]
        before = turned.get(skeleton.parents[joint], Rotation.identity(len(positions)))
        if len(children) > 1:
            turned[joint], offsets[children] = _fit_several(bones, offsets[children])
        elif children:
            turned[joint] = _shortest_turn(before.apply(offsets[children[0]]), bones[:, 0]) * before
        else:
            turned[joint] = before
    return offsets, turned


def bone_positions(
    positions: np.ndarray, skeleton: Skeleton, offsets: np.ndarray, turned: dict[int, Rotation]
) -> np.ndarray:
    """Where the bones of `fit_bones` have the joints, (N, J, 3); the root is where it was."""
    found = positions.copy()
    for joint in joints_from_root(skeleton)[1:]:
        parent = skeleton.parents[joint]
        found[:, joint] = found[:, parent] + turned[parent].apply(offsets[joint])
    return found


def _rest_direction(joint: int, skeleton: Skeleton) -> np.ndarray:
    """A T-pose that looks along z, so that left is x."""
    name = skeleton.joint_names[joint]
    if name.endswith(_SIDEWAYS):
        return np.array([1.0 if joint in skeleton.joints_left else -1.0, 0, 0])
    return np.array([0, -1.0 if name.endswith(_DOWN) else 1.0, 0])


def _fit_several(bones: np.ndarray, offsets: np.ndarray) -> tuple[Rotation, np.ndarray]:
    """One rotation a frame for all bones of a joint, (N, children, 3) (Kabsch 1976), and a rest that suits them."""
    lengths = np.linalg.norm(offsets, axis=-1, keepdims=True)
    for _ in range(_FITS):
        u, _, vt = np.linalg.svd(np.einsum("nci,cj->nij", bones, offsets))
        upright = np.ones((len(bones), 3))
        upright[:, 2] = np.linalg.det(u @ vt)
        rotation = Rotation.from_matrix(np.einsum("nij,nj,njk->nik", u, upright, vt))
        at_rest = np.stack([rotation.inv().apply(bone) for bone in bones.swapaxes(0, 1)]).mean(axis=1)
        found = np.linalg.norm(at_rest, axis=-1, keepdims=True)
        offsets = np.where(found > 0, lengths * at_rest / np.maximum(found, 1e-9), offsets)
    return rotation, offsets


def _shortest_turn(start: np.ndarray, end: np.ndarray) -> Rotation:
    """The shortest rotations that point `start` (N, 3) along `end` (N, 3): no twist."""
    start, end = (
        vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9) for vectors in (start, end)
    )
    axis = np.cross(start, end)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, (start * end).sum(axis=-1, keepdims=True))
    aside = np.cross(start, np.eye(3)[np.abs(start).argmin(axis=-1)])  # half a turn may go any way round
    axis = np.where(sine > 1e-9, axis, aside)
    axis = axis / np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-9)
    return Rotation.from_rotvec(angle * axis)
