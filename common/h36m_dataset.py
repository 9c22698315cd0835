"""Human3.6M's files (and HumanEva's and the sample's, in the same format) to clips.

data_3d_<dataset>.npz: positions_3d -> subject -> action -> (N, joints, 3), world, metres.
data_2d_<dataset>_<keypoints>.npz: positions_2d -> subject -> action -> a list over cameras of (>=N, J, 2), pixels;
confidences, which data/prepare_2d.py adds: the same of (>=N, J).
The format is VideoPose3D's (Pavllo et al. 2019).
"""

from pathlib import Path
from typing import Any

import numpy as np

from common.camera import Camera, load_cameras, normalize_screen_coordinates, world_to_camera
from common.clips import Clip
from common.dataset_description import Clips, DatasetDescription, Subjects
from common.errors import DataError
from common.pose_files import (
    check_array,
    check_layout,
    check_pixels,
    check_size,
    choose_subjects,
    is_list,
    read_pose_file,
    subject_tree,
)


def read_h36m_format(
    description: DatasetDescription, folder: Path, keypoints: str, train: Subjects | None, test: Subjects
) -> tuple[Clips, Clips]:
    """Training and test clips: subject -> action -> one clip a camera.

    Raises:
        UsageError: a subject is not there.
        DataError: a file is absent or damaged, or the two do not fit together.
    """
    path_3d = folder / f"data_3d_{description.name}.npz"
    path_2d = folder / f"data_2d_{description.name}_{keypoints}.npz"
    (tree_3d,) = read_pose_file(path_3d, ["positions_3d"])
    tree_2d, metadata, confidences = read_pose_file(path_2d, ["positions_2d", "metadata"], ("confidences",))
    tree_3d = subject_tree(tree_3d, path_3d, "positions_3d")
    tree_2d = subject_tree(tree_2d, path_2d, "positions_2d")
    check_layout(metadata, path_2d, description.skeleton)
    cameras = world_cameras(description)

    clips: Clips = {}
    for_training = [] if train is None else choose_subjects(tree_3d, train, path_3d)
    for_test = choose_subjects(tree_3d, test, path_3d)
    for subject in dict.fromkeys([*for_training, *for_test]):
        if subject not in tree_2d:
            raise DataError(f"{path_2d} has no subject '{subject}', which {path_3d.name} has; use files of one source")
        actions_3d, actions_2d = tree_3d[subject], tree_2d[subject]
        views = subject_cameras(cameras, subject, path_3d)
        for message in one_sided_actions(subject, actions_3d, actions_2d, path_3d, path_2d):
            raise DataError(message)
        clips[subject] = {}
        for action in list(actions_3d):  # what was read is let go as the clips are made: half the memory
            name = f"{subject} {action}"
            world = check_world(description, actions_3d.pop(action), f"{path_3d}: {name}")
            pixels = check_views(actions_2d.pop(action), len(views), f"{path_2d}: {name}")
            trust = check_confidences(confidences, subject, action, len(views), path_2d)
            clips[subject][action] = [
                view_clip(description, subject, action, camera, world, of_camera, its_trust, path_2d)
                for camera, of_camera, its_trust in zip(views, pixels, trust, strict=True)
            ]
    return {subject: clips[subject] for subject in for_training}, {subject: clips[subject] for subject in for_test}


def world_cameras(description: DatasetDescription) -> dict[str, list[Camera]]:
    """The cameras of each subject of a dataset whose 3D poses are in the world.

    Raises:
        ValueError: the description names no file of them.
    """
    if description.camera_file is None:
        raise ValueError(
            f"the dataset {description.name} has 3D poses in the world: its description needs a camera_file"
        )
    return load_cameras(description.camera_file)


def subject_cameras(cameras: dict[str, list[Camera]], subject: str, path: Path) -> list[Camera]:
    """The subject's cameras; HumanEva's subjects have a prefix, such as Train/S1."""
    views = cameras.get(subject.split("/")[-1])
    if views is None:
        raise DataError(f"{path}: no camera is known for subject '{subject}'; known: {', '.join(cameras)}")
    return views


def one_sided_actions(subject: str, actions_3d: dict, actions_2d: dict, path_3d: Path, path_2d: Path) -> list[str]:
    """A line for each action that one of the two files has and the other has not."""
    return [
        f"{path}: {subject} has no action '{action}', which {other.name} has; use files of one source"
        for absent, path, other in (
            (actions_3d.keys() - actions_2d.keys(), path_2d, path_3d),
            (actions_2d.keys() - actions_3d.keys(), path_3d, path_2d),
        )
        for action in sorted(absent)
    ]


def check_world(description: DatasetDescription, world: object, where: str) -> np.ndarray:
    """One action's 3D as the skeleton's joints, (N, J, 3) float64, world, metres."""
    world = check_array(world, where, (-1, description.num_file_joints, 3), "metres")
    world = world[:, description.kept_joints].astype(np.float64)
    check_size(world - world[:, None, description.skeleton.root], where)
    return world


def check_views(pixels: Any, num_views: int, where: str) -> list:
    """One action's 2D, a list over cameras."""
    if not is_list(pixels) or len(pixels) != num_views:
        found = f"{len(pixels)} cameras" if is_list(pixels) else f"a single {type(pixels).__name__}"
        raise DataError(f"{where} has {found}; expected a list over {num_views} cameras")
    return list(pixels)


def check_confidences(confidences: object, subject: str, action: str, num_views: int, path: Path) -> list:
    """One action's confidences, a list over cameras as its 2D is; of None if the file has none."""
    if confidences is None:
        return [None] * num_views
    actions = confidences.get(subject) if isinstance(confidences, dict) else None
    views = actions.get(action) if isinstance(actions, dict) else None
    return check_views(views, num_views, f"{path}: confidences of {subject} {action}")


def view_clip(
    description: DatasetDescription,
    subject: str,
    action: str,
    camera: Camera,
    world: np.ndarray,
    pixels: object,
    confidences: object,
    path_2d: Path,
) -> Clip:
    """One view: world (N, J, 3) metres, its pixels (>=N, J, 2), and their confidences (>=N, J) or None."""
    where = f"{path_2d}: {subject} {action} camera {camera.name}"
    skeleton = description.skeleton
    pixels = check_pixels(pixels, where, skeleton)
    if len(pixels) < len(world):
        raise DataError(f"{where} has {len(pixels)} frames of 2D for {len(world)} of 3D; expected at least as many")
    if confidences is not None:
        where += " confidences"
        confidences = check_array(confidences, where, (-1, skeleton.num_joints), "confidences")[: len(world)]
        if len(confidences) < len(world):
            raise DataError(f"{where}: {len(confidences)} frames for {len(world)} of 3D; expected at least as many")
        if confidences.min() < 0:
            raise DataError(f"{where}: the least is {confidences.min():.3g}; expected none below 0")
    poses = world_to_camera(world, camera)
    root = poses[:, skeleton.root]
    return Clip(
        subject=subject,
        action=action,
        camera=camera,
        poses_2d=normalize_screen_coordinates(pixels[: len(world)], camera.width, camera.height).astype(np.float32),
        poses_3d=(poses - root[:, None]).astype(np.float32),
        root=root.astype(np.float32),
        size=(camera.width, camera.height),
        fps=description.fps,
        confidences=confidences,
    )
