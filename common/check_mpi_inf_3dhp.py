"""Checks of MPI-INF-3DHP's files (Mehta et al. 2017), in the field's format.

data_train_3dhp_<keypoints>.npz: data -> "S1 Seq1" -> [{camera: {data_2d, data_3d}}, fps], or the dict alone.
data_test_3dhp_<keypoints>.npz: data -> "TS1".."TS6", any of them -> {data_2d, data_3d, valid}.
data_2d is (N, 17, 2), pixels; data_3d (N, 17, 3), camera space, mm; valid (N,), not 0 where a frame counts.

`annotation` says which of the dataset's two truths data_3d is. annot3 lands on the 2D when projected. univ_annot3 is
annot3 scaled by one number a sequence about the pelvis, which stays where it is (in TS5's annot_data.mat by 0.9554, to
5e-13 mm); it lands on the 2D only when that scale is undone. So the projection tells the two apart in a file that does
not say, and finds 2D of another source in either.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from common.data_report import FileReport, Problems
from common.errors import DataError
from common.mpi_inf_3dhp_annotations import ANNOTATIONS
from common.mpi_inf_3dhp_dataset import CALIBRATIONS, Calibration, read_sequences
from common.pose_files import check_array, check_size
from common.pose_measures import BoneLengths, Projection, ProjectionErrors
from common.skeleton import MPI_INF_3DHP

LARGEST_MEAN_ERROR = 2.0
"""Pixels: the 2D of a test sequence lies closer to the projection of its 3D, or of that with its scale undone."""
UNKNOWN = "unknown"


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
    lengths, scales = BoneLengths(MPI_INF_3DHP), {}
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
            choices = _calibrations(name)
            found = [_projection(name, poses, pixels, choice, label) for label, choice in choices.items()]
            report.projections += found
            scales[name] = _scale(name, poses, pixels, found, report.annotation)
    report.set_bones(lengths.summary())
    _judge_annotation(report, scales)


def _calibrations(name: str) -> dict[str, Calibration]:
    """The sequence's calibration and, where that differs, as the field's code has it."""
    calibration = CALIBRATIONS[name]
    if calibration.pixel_aspect == 1:
        return {"": calibration}
    return {"pixel aspect corrected": calibration, "square pixels": replace(calibration, pixel_aspect=1.0)}


def _projection(
    name: str, poses: np.ndarray, pixels: np.ndarray, calibration: Calibration, label: str = ""
) -> Projection:
    errors = ProjectionErrors()
    errors.add(name, pixels, calibration.project(poses))
    found = errors.summary(label)
    assert found is not None  # one was added
    return found


def _scale(name: str, poses: np.ndarray, pixels: np.ndarray, found: list[Projection], annotation: str) -> float:
    """By how much the poses are scaled about the pelvis: 1 where they land on the 2D as they are.

    Raises:
        DataError: no scale brings them there, or one does and the file says that they are not scaled.
    """
    best = min(projection.mean_px for projection in found)
    if best <= LARGEST_MEAN_ERROR:
        return 1.0
    root = poses[:, [MPI_INF_3DHP.root]]
    for calibration in _calibrations(name).values():
        undo = _undoing_scale(poses, pixels, calibration)
        unscaled = _projection(name, root + undo * (poses - root), pixels, calibration)
        if undo > 0 and unscaled.mean_px <= LARGEST_MEAN_ERROR:
            if annotation == "annot3":
                raise DataError(
                    f"{name}: annotation is annot3, and 2D is {best:.1f} px from the projection; scaled by "
                    f"{undo:.3f} about the pelvis it fits, so the poses are univ_annot3; make the file anew"
                )
            return 1 / undo
    raise DataError(
        f"{name}: 2D is {best:.1f} px from the projection of the 3D on average, expected at most "
        f"{LARGEST_MEAN_ERROR:g}, and no scale of the poses (univ_annot3) mends it; use 2D and 3D of one source"
    )


def _undoing_scale(poses: np.ndarray, pixels: np.ndarray, calibration: Calibration) -> float:
    """The scale about the pelvis that brings the poses' projection nearest to pixels.

    A joint at root + s (x, y, z) lies on the ray (u, v, 1) of its pixel where root_xy + s xy = (u, v) (root_z + s z):
    linear in s, so least squares.
    """
    rays = (pixels - calibration.centre) / calibration.focal
    root = poses[:, [MPI_INF_3DHP.root]]
    relative = poses - root
    factors = relative[..., :2] - rays * relative[..., 2:]
    targets = rays * root[..., 2:] - root[..., :2]
    return float((factors * targets).sum() / max((factors**2).sum(), 1e-12))


def _judge_annotation(report: FileReport, scales: dict[str, float]) -> None:
    """What the sequences' scales say of the annotation; where the file says it, whether they agree."""
    scaled = ", ".join(f"{name} by {scale:.3f}" for name, scale in scales.items() if scale != 1)
    if report.annotation == "univ_annot3" and scaled:
        report.notes.append(f"scaled about the pelvis ({scaled}), as univ_annot3 is: reprojection is no fault of it")
    elif report.annotation == "univ_annot3" and scales:
        report.notes.append("it says univ_annot3 and lands on the 2D as annot3 does; was it labelled by mistake?")
    elif report.annotation == UNKNOWN and scales:
        report.annotation = "univ_annot3" if scaled else "annot3"
        report.annotation_source = "the file does not say, its reprojection does"
        if scaled:
            report.notes.append(
                f"scaled about the pelvis ({scaled}), as univ_annot3 is, and results will call it annot3; better make "
                "it with data/prepare_3dhp.py --annotation univ_annot3, which writes down what it is"
            )


def _sequences(path: Path, report: FileReport) -> Iterable[tuple[str, Any]]:
    report.annotation, report.annotation_source = UNKNOWN, "the file does not say"
    data, annotation = read_sequences(path)
    if annotation:
        report.annotation, report.annotation_source = annotation, f"the file says so: {ANNOTATIONS[annotation]}"
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
