"""What is drawn: one clip, what was predicted for it, and which of its frames; the pictures are others' work.

Letters: H hypotheses, F frames, J joints.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from common.aggregation import hypothesis_spread
from common.camera import LEVEL, image_coordinates
from common.clips import MM, Clip
from common.errors import UsageError
from common.skeleton import Skeleton

SIDES = ("right", "left", "middle")
# From the colour-blind-safe set of Okabe & Ito (2008); the grey is ours.
SIDE_COLOURS = {"right": "#D55E00", "left": "#0072B2", "middle": "#4D4D4D"}

ELEVATION = 15  # degrees above the horizon
GRID_SPACING = 0.25  # metres
FROM_THE_FRONT = -65.0
"""Degrees around z: near where an input camera stood whose orientation is not known (`LEVEL` looks along y)."""
MIN_RADIUS = 0.95  # metres: a standing adult fills the panel


@dataclass(frozen=True)
class Scene:
    """One clip and what was predicted for it. World coordinates: metres, z up. Finite numbers only.

    A pose stands where its root is, or around the origin with its feet put on the floor: the caller decides, the
    same way for `prediction`, `hypotheses` and `ground_truth`. A wrong shape raises ValueError.
    """

    skeleton: Skeleton
    """Whose J joints these are."""
    keypoints_2d: np.ndarray
    """(F, J, 2), pixels of the input image, y down."""
    image_size: tuple[int, int]
    """Width and height of the input image, pixels."""
    prediction: np.ndarray
    """(F, J, 3), world, metres: the one answer."""
    ground_truth: np.ndarray | None = None
    """(F, J, 3), world, metres."""
    hypotheses: np.ndarray | None = None
    """(H, F, J, 3), world, metres: drawn as thin lines around the prediction."""
    fps: float = 50.0
    """Frames a second of the clip."""
    azimuth: float = 70.0
    """Where the viewer stands, in degrees around z from the x axis."""
    title: str = ""
    error_mm: np.ndarray | None = None
    """(F,), mean joint error of each frame, millimetres; written beside the prediction if there is ground truth."""
    frame_numbers: np.ndarray | None = None
    """(F,), which frames of a longer clip these are, from 0; None: the frames are the clip."""

    def __post_init__(self):
        F, J = len(self.keypoints_2d), self.skeleton.num_joints
        if F == 0:
            raise ValueError("keypoints_2d has no frames; expected at least one")
        _check_shape("keypoints_2d", self.keypoints_2d, (F, J, 2))
        _check_shape("prediction", self.prediction, (F, J, 3))
        if self.ground_truth is not None:
            _check_shape("ground_truth", self.ground_truth, (F, J, 3))
        if self.hypotheses is not None:
            _check_shape("hypotheses", self.hypotheses, (len(self.hypotheses), F, J, 3))
        if self.error_mm is not None:
            _check_shape("error_mm", self.error_mm, (F,))
        if self.frame_numbers is not None:
            _check_shape("frame_numbers", self.frame_numbers, (F,))
        if self.fps <= 0:
            raise ValueError(f"fps is {self.fps}; expected a positive number")

    @property
    def num_frames(self) -> int:
        return len(self.keypoints_2d)

    def number_and_time(self, frame: int) -> tuple[int, float]:
        """What a viewer is told of a frame: its number in the clip, from 1, and when it is, in seconds."""
        in_clip = frame if self.frame_numbers is None else int(self.frame_numbers[frame])
        return in_clip + 1, in_clip / self.fps

    @cached_property
    def joint_errors_mm(self) -> np.ndarray | None:
        """(F, J), millimetres: how far each joint of the prediction is from the truth, both relative to their roots."""
        if self.ground_truth is None:
            return None
        root = [self.skeleton.root]
        difference = (self.prediction - self.prediction[:, root]) - (self.ground_truth - self.ground_truth[:, root])
        return MM * np.linalg.norm(difference, axis=-1)

    @cached_property
    def joint_spread_mm(self) -> np.ndarray | None:
        """(F, J), millimetres: `hypothesis_spread`, how far the hypotheses are from their mean."""
        return None if self.hypotheses is None else MM * hypothesis_spread(self.hypotheses)


def _check_shape(name: str, array, expected: tuple[int, ...]) -> None:
    if np.shape(array) != expected:
        raise ValueError(f"{name} has shape {np.shape(array)}; expected {expected}")


def clip_scene(
    clip: Clip,
    hypotheses: np.ndarray,
    skeleton: Skeleton,
    prediction: np.ndarray | None = None,
    with_truth: bool = True,
) -> Scene:
    """Turn camera-space poses upright. Nothing knows where the root is, so poses stand at the origin, feet down.

    Args:
        clip: N frames.
        hypotheses: (H, N, J, 3), camera space, root-relative, metres.
        skeleton: whose joints these are.
        prediction: (N, J, 3), the one answer; None is the mean of the hypotheses.
        with_truth: draw the clip's 3D poses beside it, if it has them.
    """
    prediction = hypotheses.mean(axis=0) if prediction is None else prediction
    rotation = LEVEL if clip.camera is None else clip.camera.rotation

    def upright(poses: np.ndarray) -> np.ndarray:
        return rotation.apply(poses.reshape(-1, 3)).reshape(poses.shape)

    drawn = upright(prediction)
    floor = np.array([0, 0, drawn[..., 2].min()])
    truth = error = None
    if with_truth and clip.poses_3d is not None:
        truth = upright(clip.poses_3d)
        truth = truth - np.array([0, 0, truth[..., 2].min()])
        error = MM * np.linalg.norm(prediction - clip.poses_3d, axis=-1).mean(axis=-1)
    return Scene(
        skeleton=skeleton,
        keypoints_2d=image_coordinates(clip.poses_2d, *clip.size),
        image_size=clip.size,
        prediction=drawn - floor,
        ground_truth=truth,
        hypotheses=upright(hypotheses) - floor if len(hypotheses) > 1 else None,
        fps=clip.fps,
        azimuth=FROM_THE_FRONT if clip.camera is None or clip.camera.orientation is None else clip.camera.azimuth,
        title=clip.name,
        error_mm=error,
    )


def joint_sides(skeleton: Skeleton) -> list[str]:
    """The side of every joint; a bone has the side of its outer joint."""
    right, left = set(skeleton.joints_right), set(skeleton.joints_left)
    return ["right" if j in right else "left" if j in left else "middle" for j in range(skeleton.num_joints)]


def floor_and_radius(scene: Scene, frames: list[int]) -> tuple[float, float]:
    """Height of the floor and half the side of the cube that a person is drawn in: metres, fixed over the clip."""
    drawn = [np.asarray(scene.prediction, float)[frames]]
    if scene.ground_truth is not None:
        drawn.append(np.asarray(scene.ground_truth, float)[frames])
    # At the lowest foot, so that people stand on it wherever a data set has its zero; the truth's foot, if known.
    floor = drawn[-1][..., 2].min()
    height = max(poses[..., 2].max() for poses in drawn) - floor
    root = scene.skeleton.root
    reach = max(np.linalg.norm((poses - poses[:, root, None])[..., :2], axis=-1).max() for poses in drawn)
    return float(floor), float(max(MIN_RADIUS, 0.52 * height, reach))


def keypoint_box(scene: Scene, frames: list[int]) -> tuple[float, float, float, float]:
    """The square (left, right, top, bottom) that holds the keypoints of these frames, pixels."""
    points = np.asarray(scene.keypoints_2d, float)[frames].reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    (x, y), half = (low + high) / 2, max(0.56 * (high - low).max(), 1.0)
    return x - half, x + half, y - half, y + half


def choose_frames(scene: Scene, limit: int, downsample: int, skip: int) -> list[int]:
    if limit < 0 or downsample < 1 or skip < 0:
        raise UsageError(f"limit is {limit}, downsample is {downsample}, skip is {skip}; expected at least 0, 1 and 0")
    if skip >= scene.num_frames:
        raise UsageError(f"skip is {skip}, but the clip has {scene.num_frames} frames; nothing is left to draw")
    stop = scene.num_frames if limit == 0 else min(scene.num_frames, skip + limit)
    return list(range(skip, stop, downsample))
