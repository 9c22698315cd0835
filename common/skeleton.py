"""Skeletons as data: joint names, parents, the root, and which joints swap when a pose is mirrored."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Skeleton:
    """A kinematic tree. `parents[j]` is the parent joint of j, -1 for the root."""

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    joints_left: tuple[int, ...]
    joints_right: tuple[int, ...]

    def __post_init__(self):
        if not len(self.joint_names) == len(self.parents):
            raise ValueError(f"{self.name}: {len(self.joint_names)} names for {len(self.parents)} parents")
        if len(self.joints_left) != len(self.joints_right):
            raise ValueError(f"{self.name}: {len(self.joints_left)} left joints, {len(self.joints_right)} right ones")
        if self.parents.count(-1) != 1:
            raise ValueError(f"{self.name}: expected one root (parent -1), found {self.parents.count(-1)}")

    @property
    def num_joints(self) -> int:
        return len(self.parents)

    @property
    def root(self) -> int:
        """The joint that poses are relative to."""
        return self.parents.index(-1)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(joint, parent) of every bone."""
        return tuple((joint, parent) for joint, parent in enumerate(self.parents) if parent >= 0)

    @property
    def mirror_order(self) -> list[int]:
        """`pose[..., mirror_order, :]` swaps the left and right joints (and does so again when applied twice)."""
        order = list(range(self.num_joints))
        for left, right in zip(self.joints_left, self.joints_right, strict=True):
            order[left], order[right] = right, left
        return order


def mirror(poses, skeleton: Skeleton):
    """Mirror poses left to right: x is negated, left and right joints change places.

    Args:
        poses: (..., J, C) array or tensor; coordinate 0 is x, 0 in the image's (or the root's) middle.
        skeleton: whose joints these are.

    Returns:
        A new array or tensor of the same shape; mirroring it again gives `poses`.
    """
    order = skeleton.mirror_order
    mirrored = poses[..., order, :]
    if isinstance(mirrored, np.ndarray):
        mirrored = mirrored.copy()
    mirrored[..., 0] *= -1
    return mirrored


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


H36M = Skeleton(
    name="h36m",
    joint_names=_names(
        "pelvis RHip RKnee RAnkle LHip LKnee LAnkle spine thorax neck head "
        "LShoulder LElbow LWrist RShoulder RElbow RWrist"
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    joints_left=(4, 5, 6, 11, 12, 13),
    joints_right=(1, 2, 3, 14, 15, 16),
)

HUMANEVA15 = Skeleton(
    name="humaneva15",
    joint_names=_names(
        "pelvis thorax LShoulder LElbow LWrist RShoulder RElbow RWrist LHip LKnee LAnkle RHip RKnee RAnkle head"
    ),
    parents=(-1, 0, 1, 2, 3, 1, 5, 6, 0, 8, 9, 0, 11, 12, 1),
    joints_left=(2, 3, 4, 8, 9, 10),
    joints_right=(5, 6, 7, 11, 12, 13),
)

MPI_INF_3DHP = Skeleton(
    name="3dhp",
    joint_names=_names(
        "head_top neck RShoulder RElbow RWrist LShoulder LElbow LWrist RHip RKnee RAnkle LHip LKnee LAnkle "
        "pelvis spine head"
    ),
    parents=(1, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, -1, 14, 1),
    joints_left=(5, 6, 7, 11, 12, 13),
    joints_right=(2, 3, 4, 8, 9, 10),
)

SKELETONS = {skeleton.name: skeleton for skeleton in (H36M, HUMANEVA15, MPI_INF_3DHP)}
