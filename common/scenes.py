"""A clip and its predicted hypotheses as a scene to draw."""

import numpy as np

from common.camera import LEVEL, image_coordinates
from common.clips import Clip
from common.rendering import Scene
from common.skeleton import Skeleton


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
        error = 1000 * np.linalg.norm(prediction - clip.poses_3d, axis=-1).mean(axis=-1)
    return Scene(
        skeleton=skeleton,
        keypoints_2d=image_coordinates(clip.poses_2d, *clip.size),
        image_size=clip.size,
        prediction=drawn - floor,
        ground_truth=truth,
        hypotheses=upright(hypotheses) - floor if len(hypotheses) > 1 else None,
        fps=clip.fps,
        azimuth=70.0 if clip.camera is None else float(clip.camera.azimuth),
        title=clip.name,
        error_mm=error,
    )
