"""Anyone's 2D poses to clips without truth.

data_2d_custom_<keypoints>.npz: positions_2d -> video -> action -> a list of (N, J, 2), pixels; metadata.video_metadata
-> video -> {w, h, fps}; fps may be left out. The format is VideoPose3D's (Pavllo et al. 2019).
"""

from pathlib import Path
from typing import Any

import numpy as np

from common.camera import normalize_screen_coordinates
from common.clips import Clip
from common.dataset_description import Clips, DatasetDescription, Subjects
from common.errors import DataError
from common.pose_files import check_layout, check_pixels, choose_subjects, is_list, read_pose_file, subject_tree


def read_custom(
    description: DatasetDescription, folder: Path, keypoints: str, train: Subjects | None, test: Subjects
) -> tuple[Clips, Clips]:
    """No training clips, and video -> action -> its clips.

    Raises:
        UsageError: a video is not there.
        DataError: the file is absent, damaged or odd.
    """
    path = folder / f"data_2d_{description.name}_{keypoints}.npz"
    tree, metadata = read_pose_file(path, ["positions_2d", "metadata"])
    tree = subject_tree(tree, path, "positions_2d")
    check_layout(metadata, path, description.skeleton)
    sizes = metadata.get("video_metadata")
    clips = {}
    for video in choose_subjects(tree, test, path):
        try:
            size = int(sizes[video]["w"]), int(sizes[video]["h"])
        except (TypeError, KeyError, ValueError, OverflowError):
            raise DataError(f"{path}: metadata.video_metadata has no w and h for the video '{video}'") from None
        if min(size) < 1:
            raise DataError(f"{path}: the video '{video}' is {size[0]}x{size[1]} pixels; expected at least 1x1")
        fps = sizes[video].get("fps", description.fps)
        if not isinstance(fps, (int, float, np.number)) or not 0 < fps < np.inf:
            raise DataError(f"{path}: the video '{video}' has {fps!r} frames a second; expected a number above 0")
        clips[video] = {
            action: [
                _clip(description, video, action, size, float(fps), pixels, f"{path}: {video} {action} view {number}")
                for number, pixels in enumerate(_views(views, f"{path}: {video} {action}"))
            ]
            for action, views in tree[video].items()
        }
    return {}, clips


def _views(views: Any, where: str) -> list:
    if not is_list(views) or len(views) == 0:
        found = "an empty list" if is_list(views) else f"a single {type(views).__name__}"
        raise DataError(f"{where} is {found}; expected a list of (N, J, 2) pixels")
    return list(views)


def _clip(
    description: DatasetDescription,
    video: str,
    action: str,
    size: tuple[int, int],
    fps: float,
    pixels: object,
    where: str,
) -> Clip:
    pixels = check_pixels(pixels, where, description.skeleton)
    screen = normalize_screen_coordinates(pixels, *size).astype(np.float32)
    return Clip(video, action, camera=None, poses_2d=screen, poses_3d=None, root=None, size=size, fps=fps)
