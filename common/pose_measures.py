"""Measures of whole files of poses: how constant bone lengths are, and how well 2D fits the projection of the 3D."""

from dataclasses import dataclass

import numpy as np

from common.skeleton import Skeleton


@dataclass
class Bones:
    """How far bone lengths are from their mean over a clip."""

    largest_mm: float
    percent: float
    """The same, of that bone's mean length."""
    bone: str
    clip: str
    """Where the largest is."""
    typical_mm: float
    """The median over all bones and clips of the largest within a clip."""


@dataclass
class Projection:
    """How far 2D lies from the projection of the 3D, pixels."""

    mean_px: float
    max_px: float
    clip: str
    """Where the largest is."""
    camera: str = ""
    """Which calibration, where there is a choice."""


class BoneLengths:
    """Gathers how far bone lengths are from their mean over each clip."""

    def __init__(self, skeleton: Skeleton):
        self._skeleton = skeleton
        self._clips: list[str] = []
        self._changes: list[np.ndarray] = []
        self._means: list[np.ndarray] = []

    def add(self, clip: str, poses: np.ndarray) -> None:
        """Poses (N, J, 3), metres."""
        joints, parents = zip(*self._skeleton.bones, strict=True)
        lengths = np.linalg.norm(poses[:, joints, :] - poses[:, parents, :], axis=-1)
        mean = lengths.mean(axis=0)
        self._clips.append(clip)
        self._changes.append(np.abs(lengths - mean).max(axis=0))
        self._means.append(mean)

    def summary(self) -> Bones | None:
        """None where no clip was added."""
        if not self._clips:
            return None
        changes = np.stack(self._changes)
        clip, number = np.unravel_index(int(changes.argmax()), changes.shape)
        joint, parent = self._skeleton.bones[number]
        names = self._skeleton.joint_names
        return Bones(
            largest_mm=1000 * float(changes[clip, number]),
            percent=100 * float(changes[clip, number] / max(self._means[clip][number], 1e-9)),
            bone=f"{names[parent]}-{names[joint]}",
            clip=self._clips[clip],
            typical_mm=1000 * float(np.median(changes)),
        )


class ProjectionErrors:
    """Gathers distances between 2D and the projected 3D."""

    def __init__(self):
        self._sum, self._count = 0.0, 0
        self._max, self._clip = -1.0, ""

    def add(self, clip: str, pixels: np.ndarray, projected: np.ndarray) -> None:
        """Both (N, J, 2), pixels."""
        distances = np.linalg.norm(pixels - projected, axis=-1)
        self._sum += float(distances.sum())
        self._count += distances.size
        if distances.max() > self._max:
            self._max, self._clip = float(distances.max()), clip

    def summary(self, camera: str = "") -> Projection | None:
        """None where nothing was added."""
        if not self._count:
            return None
        return Projection(self._sum / self._count, self._max, self._clip, camera)
