"""MPI-INF-3DHP's files to clips.

data_train_3dhp_<keypoints>.npz: data -> "S1 Seq1" -> [{camera: {data_2d, data_3d}}, fps]; the fps may be absent.
data_test_3dhp_<keypoints>.npz: data -> "TS1" -> {data_2d, data_3d, valid} and, perhaps, activity.
data_2d (N, 17, 2) pixels, data_3d (N, 17, 3) camera space, mm. Both may say which truth data_3d is: `annotation`.
Dataset and calibration: Mehta et al. 2017. The format is that of P-STMO (Shan et al. 2022), whose own files do not say
their annotation and hold univ_annot3; D3DP (Shan et al. 2023) has the same format with annot3 (both by D3DP's README).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.camera import Camera, normalize_screen_coordinates
from common.clips import MM, Clip
from common.dataset_description import Clips, DatasetDescription, Subjects
from common.errors import DataError
from common.mpi_inf_3dhp_annotations import ANNOTATIONS, DATASET_NAME
from common.mpi_inf_3dhp_scores import ACTIVITIES
from common.pose_files import check_array, check_pixels, check_size, choose_subjects, read_pose_file

KEYPOINTS = {"annot3": "ori", "univ_annot3": "univ"}
"""Annotation -> `-k` of the files that data/prepare_3dhp.py makes of it: both have the dataset's own 2D."""
TRAINING_SIZE = 2048
"""Width and height of the training images, pixels."""


@dataclass(frozen=True)
class Calibration:
    """A test camera as the dataset has it: lengths on its sensor, in mm."""

    width: int
    height: int
    focal_length: float
    centre_offset: tuple[float, float]
    """Of the principal point from the middle of the sensor."""
    sensor: tuple[float, float]
    pixel_aspect: float = 1.0

    @property
    def focal(self) -> np.ndarray:
        """(2,) pixels."""
        return self.focal_length * np.array([1, self.pixel_aspect]) * [self.width, self.height] / np.array(self.sensor)

    @property
    def centre(self) -> np.ndarray:
        """(2,) pixels."""
        size = np.array([self.width, self.height])
        return size / 2 + self.centre_offset * size / np.array(self.sensor)

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) camera space -> (..., 2) pixels."""
        return points[..., :2] / points[..., 2:] * self.focal + self.centre

    def camera(self, name: str) -> Camera:
        """Without orientation and place, which are not known."""
        screen = [*(self.focal / self.width * 2), *normalize_screen_coordinates(self.centre, self.width, self.height)]
        intrinsics = np.array([*screen, 0, 0, 0, 0, 0], np.float32)
        return Camera(name, self.width, self.height, intrinsics=intrinsics, pixel_aspect=self.pixel_aspect)


_STUDIO = Calibration(2048, 2048, 7.32506, (-0.0322884, 0.0929296), (10, 10))
_OUTDOORS = Calibration(1920, 1080, 8.770747185, (-0.104908645, 0.104899704), (10, 5.625), pixel_aspect=0.993236)
CALIBRATIONS = {**dict.fromkeys(("TS1", "TS2", "TS3", "TS4"), _STUDIO), **dict.fromkeys(("TS5", "TS6"), _OUTDOORS)}


def file_names(keypoints: str) -> tuple[str, str]:
    """The training and the test file that `-k keypoints` reads."""
    train, test = (f"data_{part}_{DATASET_NAME}_{keypoints}.npz" for part in ("train", "test"))
    return train, test


def read_mpi_inf_3dhp(
    description: DatasetDescription, folder: Path, keypoints: str, train: Subjects | None, test: Subjects
) -> tuple[Clips, Clips]:
    """Training clips, "S1" -> "Seq1" -> one clip a camera, and test clips, "TS1" -> "" -> the one clip.

    Raises:
        UsageError: a subject or test sequence is not there.
        DataError: a file is absent, damaged or odd.
    """
    train_file, test_file = file_names(keypoints)
    path = folder / test_file
    tree, annotation = _read(path)
    for_test = {
        name: {"": [_test_clip(description, name, tree[name], path, annotation)]}
        for name in choose_subjects(tree, test, path)
    }
    if train is None:
        return {}, for_test
    path = folder / train_file
    tree, annotation = _read(path)
    subjects: dict[str, dict[str, Any]] = {}
    for name, content in tree.items():
        subject, _, sequence = name.partition(" ")
        if not sequence:
            raise DataError(f"{path}: data has '{name}'; expected a subject and a sequence, such as 'S1 Seq1'")
        subjects.setdefault(subject, {})[sequence] = content
    for_training = {
        subject: {
            sequence: _training_clips(description, subject, sequence, content, path, annotation)
            for sequence, content in subjects[subject].items()
        }
        for subject in choose_subjects(subjects, train, path)
    }
    return for_training, for_test


def read_sequences(path: Path) -> tuple[dict[str, Any], str | None]:
    """The file's `data`, and which truth it says its 3D poses are; None where it does not say.

    Raises:
        DataError: the file is absent, damaged or odd; what the sequences hold is not looked at.
    """
    tree, annotation = read_pose_file(path, ["data"], ("annotation",))
    if not isinstance(tree, dict) or not tree or not all(isinstance(name, str) and name.isprintable() for name in tree):
        raise DataError(f"{path}: data is no dict of named sequences; expected names such as 'S1 Seq1' or 'TS1'")
    if annotation is None:
        return tree, None
    annotation = str(annotation)
    if annotation not in ANNOTATIONS:
        raise DataError(f"{path}: annotation is {annotation[:40]!r}; expected {' or '.join(ANNOTATIONS)}")
    return tree, annotation


def _read(path: Path) -> tuple[dict[str, Any], str]:
    tree, annotation = read_sequences(path)
    return tree, annotation or f"{next(iter(ANNOTATIONS))}, presumably (the file does not say)"


def _test_clip(description: DatasetDescription, name: str, content: Any, path: Path, annotation: str) -> Clip:
    where = f"{path}: {name}"
    if name not in CALIBRATIONS:
        raise DataError(f"{where} is no test sequence whose camera is known; known: {', '.join(CALIBRATIONS)}")
    _check_members(content, where, ("data_2d", "data_3d", "valid"))
    camera = CALIBRATIONS[name].camera("0")
    num_frames = (
        len(content["data_2d"]) if isinstance(content["data_2d"], np.ndarray) and content["data_2d"].ndim else 0
    )
    valid = _one_a_frame(content["valid"], f"{where} valid", num_frames, "0 or 1", np.ones(num_frames, bool), (0, 1))
    valid = valid.astype(bool)
    activity = content.get("activity")
    if activity is not None:
        activity = _one_a_frame(
            activity, f"{where} activity", num_frames, f"1 to {len(ACTIVITIES)}", valid, tuple(ACTIVITIES)
        )
    clip = _clip(description, name, "", camera, content, where, annotation, valid=valid, activity=activity)
    truth, root = content["data_3d"].astype(np.float64), description.skeleton.root
    clip = replace(clip, truth_mm=truth - truth[:, root : root + 1])
    assert clip.root is not None  # of data_3d
    if (clip.root[valid, 2] <= 0).any():
        frame = int(np.flatnonzero(valid & (clip.root[:, 2] <= 0))[0])
        raise DataError(
            f"{where} data_3d has its root behind the camera in frame {frame}; expected camera space, not root-relative"
        )
    return clip


def _training_clips(
    description: DatasetDescription, subject: str, sequence: str, content: Any, path: Path, annotation: str
) -> list[Clip]:
    where = f"{path}: {subject} {sequence}"
    is_list = isinstance(content, (list, tuple)) or (isinstance(content, np.ndarray) and content.ndim > 0)
    views = content[0] if is_list and len(content) else None
    if not isinstance(views, dict) or not views:
        raise DataError(f"{where} is {type(content).__name__}; expected a list that begins with a dict of cameras")
    clips = []
    for camera, of_camera in views.items():
        of_view = f"{where} camera {camera}"
        _check_members(of_camera, of_view, ("data_2d", "data_3d"))
        view = Camera(str(camera), TRAINING_SIZE, TRAINING_SIZE)
        clips.append(_clip(description, subject, sequence, view, of_camera, of_view, annotation))
    return clips


def _check_members(content: object, where: str, expected: tuple[str, ...]) -> None:
    if not isinstance(content, dict):
        raise DataError(f"{where} is {type(content).__name__}; expected a dict of {', '.join(expected)}")
    for name in expected:
        if name not in content:
            there = ", ".join(str(key)[:40] for key in list(content)[:5]) or "nothing"
            raise DataError(f"{where} has no {name}, only {there}; expected {', '.join(expected)}")


def _one_a_frame(
    values: object, where: str, num_frames: int, expected: str, checked: np.ndarray, allowed: tuple[int, ...]
) -> np.ndarray:
    """(N,) int64 of the allowed numbers in the frames `checked`; MATLAB's (N, 1) will do."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "bfiu":
        raise DataError(f"{where} is {type(values).__name__}; expected an array ({num_frames},) of {expected}")
    if values.size != num_frames or num_frames not in values.shape:
        raise DataError(f"{where} has shape {values.shape} for {num_frames} frames of 2D; expected ({num_frames},)")
    values = values.reshape(-1)
    wrong = np.flatnonzero(checked & ~np.isin(values, allowed))
    if len(wrong):
        raise DataError(f"{where} is {values[wrong[0]]} in frame {wrong[0]}; expected {expected}")
    return np.where(np.isin(values, allowed), values, 0).astype(np.int64)


def _clip(
    description: DatasetDescription,
    subject: str,
    sequence: str,
    camera: Camera,
    content: dict,
    where: str,
    annotation: str,
    **per_frame: np.ndarray | None,
) -> Clip:
    J, root = description.skeleton.num_joints, description.skeleton.root
    pixels = check_pixels(content["data_2d"], f"{where} data_2d", description.skeleton)
    poses = check_array(content["data_3d"], f"{where} data_3d", (-1, J, 3), "mm")
    if len(pixels) != len(poses):
        raise DataError(f"{where} has {len(pixels)} frames of 2D for {len(poses)} of 3D; expected as many")
    relative = poses - poses[:, root : root + 1]
    measured = relative if per_frame.get("valid") is None else relative[per_frame["valid"]]
    if len(measured):
        check_size(measured, f"{where} data_3d", "mm", per_metre=MM)
    return Clip(
        subject=subject,
        action=sequence,
        camera=camera,
        poses_2d=normalize_screen_coordinates(pixels, camera.width, camera.height).astype(np.float32),
        poses_3d=relative / MM,
        root=poses[:, root] / MM,
        size=(camera.width, camera.height),
        fps=description.fps,
        annotation=annotation,
        is_sequence=True,
        **per_frame,
    )
