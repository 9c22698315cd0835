"""Checks of MPI-INF-3DHP's files (Mehta et al. 2017), in the field's format.

data_train_3dhp_ori.npz: data -> "S1 Seq1" -> [{camera: {data_2d, data_3d}}, fps], or the dict alone.
data_test_3dhp_ori.npz: data -> "TS1".."TS6", any of them -> {data_2d, data_3d, valid}.
data_2d is (N, 17, 2), pixels; data_3d (N, 17, 3), camera space, mm; valid (N,), not 0 where a frame counts.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.data_report import FileReport, Problems
from common.errors import DataError
from common.mpi_inf_3dhp_dataset import CALIBRATIONS, Calibration
from common.pose_files import check_array, check_size, read_pose_file
from common.pose_measures import BoneLengths, Projection, ProjectionErrors
from common.skeleton import MPI_INF_3DHP

LARGEST_MEAN_ERROR = 2.0
"""Pixels: the 2D of a test sequence lies closer to the projection of its 3D."""


def check_train_file(path: Path, report: FileReport) -> None:
    """Fill the report. Cameras of the training sequences are not in the file, so nothing is reprojected."""
    lengths = BoneLengths(MPI_INF_3DHP)
    for name, content in _sequences(path, report):
        with Problems(report, path):
            cameras = content[0] if isinstance(content, (list, tuple)) and content else content
            if not isinstance(cameras, dict) or not cameras:
                raise DataError(f"{name} is {type(content).__name__}; expected a list of {{camera: ..}} and the fps")
            counts = {}
            for camera, view in cameras.items():
                with Problems(report, path):
                    poses, _ = _check_view(view, f"{name} camera {camera}")
                    lengths.add(f"{name} camera {camera}", poses)
                    counts[camera] = len(poses)
            report.views += len(counts)
            if counts:
                report.count_frames(name.split(" ")[0], max(counts.values()))
            if len(set(counts.values())) > 1:
                shown = ", ".join(f"{count} of camera {camera}" for camera, count in counts.items())
                raise DataError(f"{name} has {shown} frames; expected as many of each")
    report.set_bones(lengths.summary())


def check_test_file(path: Path, report: FileReport) -> None:
    """Fill the report."""
    lengths = BoneLengths(MPI_INF_3DHP)
    for name, content in _sequences(path, report):
        report.views += 1
        with Problems(report, path):
            if name not in CALIBRATIONS:
                raise DataError(f"{name} is no test sequence; expected some of {', '.join(CALIBRATIONS)}")
            poses, pixels = _check_view(content, name)
            report.count_frames(name, len(poses))
            lengths.add(name, poses)
            valid = check_array(content.get("valid"), f"{name} valid", (-1,), "0 or 1")
            if len(valid) != len(poses):
                raise DataError(f"{name} has {len(valid)} values of valid for {len(poses)} frames; expected as many")
            report.valid_frames[name] = int(np.count_nonzero(valid))
            if not valid.any():
                raise DataError(f"{name} has no valid frame, so nothing of it can be measured; leave it out")
            found = _projections(name, poses, pixels, CALIBRATIONS[name])
            report.projections += found
            best = min(projection.mean_px for projection in found)
            if not best <= LARGEST_MEAN_ERROR:
                raise DataError(
                    f"{name}: 2D is {best:.1f} px from the projection of the 3D on average, expected at most "
                    f"{LARGEST_MEAN_ERROR:g}; use 2D and 3D of one source"
                )
    report.set_bones(lengths.summary())


def _projections(name: str, poses: np.ndarray, pixels: np.ndarray, calibration: Calibration) -> list[Projection]:
    """With the calibration and, where that differs, as the field's code has it."""
    choices = {"": calibration}
    if calibration.pixel_aspect != 1:
        choices = {"pixel aspect corrected": calibration, "square pixels": replace(calibration, pixel_aspect=1.0)}
    found = []
    for label, choice in choices.items():
        errors = ProjectionErrors()
        errors.add(name, pixels, choice.project(poses))
        found.append(errors.summary(label))
    return found


def _sequences(path: Path, report: FileReport) -> Iterable[tuple[str, object]]:
    (data,) = read_pose_file(path, ["data"])
    if not isinstance(data, dict) or not data or not all(isinstance(name, str) and name.isprintable() for name in data):
        raise DataError(f"data is {type(data).__name__}; expected a dict of sequences")
    report.clips = len(data)
    report.shape = "(N, 17, 2) pixels and (N, 17, 3) mm"
    return tqdm(data.items(), desc=path.name, unit="sequence", leave=False, disable=None)


def _check_view(view: object, where: str) -> tuple[np.ndarray, np.ndarray]:
    """One camera's poses (N, 17, 3), camera space, metres, and pixels (N, 17, 2)."""
    if not isinstance(view, dict):
        raise DataError(f"{where} is {type(view).__name__}; expected a dict of data_2d and data_3d")
    poses = check_array(view.get("data_3d"), f"{where} data_3d", (-1, 17, 3), "mm").astype(np.float64) / 1000
    pixels = check_array(view.get("data_2d"), f"{where} data_2d", (-1, 17, 2), "pixels").astype(np.float64)
    if len(poses) != len(pixels):
        raise DataError(f"{where} has {len(pixels)} frames of 2D for {len(poses)} of 3D; expected as many")
    check_size(poses - poses[:, None, MPI_INF_3DHP.root], where)
    return poses, pixels
