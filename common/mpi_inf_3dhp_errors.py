"""Per-joint errors on MPI-INF-3DHP's test set: from predictions and annotations, or as another scorer saved them.

Errors are (valid frames, 17) mm by sequence, poses of MPI_INF_3DHP's joints relative to the pelvis.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.errors import DataError
from common.mat_files import finite_array, read_mat
from common.metrics import joint_errors
from common.mpi_inf_3dhp_annotations import (
    ANNOTATIONS,
    SEQUENCES,
    TestSequence,
    find_test_sequences,
    meant_test_set,
    read_test_sequence,
)
from common.skeleton import MPI_INF_3DHP

_J, _ROOT = MPI_INF_3DHP.num_joints, MPI_INF_3DHP.root
_ROOT_TOLERANCE = 1.0  # mm
_SMALLEST_PERSON = 10.0  # mm: no joint of any frame is farther from the root where the unit is metres
_PER_JOINT, _LABELS = "sequencewise_per_joint_error", "sequencewise_activity_labels"
"""What the field's scorers call them."""


@dataclass(frozen=True)
class Annotation:
    """A sequence's truth: poses (N, 17, 3) mm relative to the root, valid (N,) bool, activity (N,) 1..7, 0 for none."""

    poses: np.ndarray
    valid: np.ndarray
    activity: np.ndarray


def read_annotations(test_set: Path, annotation: str = "annot3") -> dict[str, Annotation]:
    """The sequences TS1..TS6 that are there.

    Args:
        test_set: the folder that holds TS1/annot_data.mat, ..., or what get_testset.sh makes around them.
        annotation: a name of ANNOTATIONS.

    Raises:
        DataError: there is none, or a file is odd.
    """
    paths = find_test_sequences([test_set])
    if not paths:
        meant = meant_test_set(test_set)
        raise DataError(
            f"{test_set} has no TS1/annot_data.mat, ..., TS6/annot_data.mat; "
            + (f"{meant} has: give that" if meant else "give the test set's folder")
        )
    return {sequence: _relative(read_test_sequence(path, [annotation]), annotation) for sequence, path in paths.items()}


def _relative(sequence: TestSequence, annotation: str) -> Annotation:
    poses = sequence.arrays[annotation]
    return Annotation(poses - poses[:, _ROOT : _ROOT + 1], sequence.valid, sequence.activity)


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """A run's inference_data_<setting>.mat: sequence -> (K, N, 17, 3) mm, relative to the root.

    In the file each of TS1..TS6 is (3, 17, frames, K); for K = 1 the last axis may be missing.

    Raises:
        DataError: the file is absent or odd, or its poses are not of that shape, unit or origin.
    """
    found = {}
    for sequence, poses in read_mat(path, (), SEQUENCES).items():
        where = f"{path}: {sequence}"
        poses = finite_array(poses, where)
        if poses.ndim == 2:  # one frame and K = 1: MATLAB drops both
            poses = poses[:, :, None]
        if poses.ndim == 3:
            poses = poses[..., None]
        if poses.ndim != 4 or poses.shape[:2] != (3, _J) or poses.size == 0:
            raise DataError(f"{where} has shape {poses.shape}; expected (3, {_J}, frames, sampling steps)")
        root = float(np.abs(poses[:, _ROOT]).max())
        if root > _ROOT_TOLERANCE:
            raise DataError(f"{where}: joint {_ROOT} (pelvis) is {root:.0f} mm off 0; expected poses relative to it")
        if np.abs(poses).max() < _SMALLEST_PERSON:
            raise DataError(
                f"{where}: no joint is {_SMALLEST_PERSON:.0f} mm from the root; expected mm (is it metres?)"
            )
        found[sequence] = poses.transpose(3, 2, 1, 0)
    if not found:
        raise DataError(f"{path} has none of {', '.join(SEQUENCES)}; give a folder that main_3dhp.py --evaluate wrote")
    steps = {sequence: len(poses) for sequence, poses in found.items()}
    if len(set(steps.values())) > 1:
        raise DataError(f"{path}: sampling steps differ by sequence, {steps}; make the file anew")
    return dict(sorted(found.items()))


def prediction_errors(
    predictions: Mapping[str, np.ndarray], annotations: Mapping[str, Annotation], path: Path
) -> list[dict[str, np.ndarray]]:
    """Errors on the valid frames of the sequences that both have, a dict for each sampling step.

    Args:
        predictions: as read_predictions gives them; frame j is frame j of the annotation.
        annotations: as read_annotations gives them.
        path: of the predictions, for messages.

    Raises:
        DataError: no sequence is in both, or numbers of frames differ.
    """
    common = [sequence for sequence in predictions if sequence in annotations]
    if not common:
        raise DataError(
            f"{path} has {', '.join(predictions)} and the test set {', '.join(annotations)}: no sequence in common; "
            "give both of the same sequences"
        )
    errors: list[dict[str, np.ndarray]] = [{} for _ in predictions[common[0]]]
    for sequence in common:
        poses, truth = predictions[sequence], annotations[sequence]
        if poses.shape[1] != len(truth.poses):
            raise DataError(
                f"{path}: {sequence} has {poses.shape[1]} frames; expected the {len(truth.poses)} of its annot_data.mat"
            )
        valid = joint_errors(torch.from_numpy(poses[:, truth.valid]), torch.from_numpy(truth.poses[truth.valid]))
        for step, found in enumerate(valid.numpy()):
            errors[step][sequence] = found
    return errors


@dataclass(frozen=True)
class SavedErrors:
    """What a scorer saved: errors and, perhaps, activities (frames,) by sequence; the annotation, where it says."""

    errors: dict[str, np.ndarray]
    activities: dict[str, np.ndarray] | None
    annotation: str | None


def read_saved_errors(path: Path) -> SavedErrors:
    """A file with sequencewise_per_joint_error: a cell for each of TS1..TS6, (17, frames) or (17, 1, frames) mm.

    MATLAB's v5 to v7.3 or Octave's text format. An empty cell is a sequence that was not scored. All frames count. If
    sequencewise_activity_labels is there too, as the field's scorers save it, it has a number for each of these frames.

    Raises:
        DataError: the file is absent or odd.
    """
    members = read_mat(path, [_PER_JOINT], [_LABELS, "annotation"])
    errors = _error_cells(members[_PER_JOINT], f"{path}: {_PER_JOINT}")
    activities = None
    if (cells := members.get(_LABELS)) is not None:
        activities = _label_cells(cells, f"{path}: {_LABELS}", errors)
    annotation = members.get("annotation")
    if not isinstance(annotation, str) or annotation not in ANNOTATIONS:
        annotation = None
    return SavedErrors(errors, activities, annotation)


def _error_cells(cells: object, where: str) -> dict[str, np.ndarray]:
    if not isinstance(cells, list) or not 1 <= len(cells) <= len(SEQUENCES):
        raise DataError(
            f"{where} is no cell array of 1 to {len(SEQUENCES)} cells; expected one of (17, frames) mm each"
        )
    found = {}
    for index, cell in enumerate(cells):
        errors = finite_array(cell, f"{where}, cell {index + 1}")
        if errors.size == 0:
            continue
        if errors.shape[0] != _J or max(errors.shape[1:]) * _J != errors.size:
            raise DataError(f"{where}, cell {index + 1} has shape {errors.shape}; expected ({_J}, frames) mm")
        if errors.min() < 0:
            raise DataError(f"{where}, cell {index + 1} has a negative error; expected distances in mm")
        found[SEQUENCES[index]] = errors.reshape((_J, -1), order="F").T
    return found


def _label_cells(cells: object, where: str, errors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(frames,) whole numbers of each sequence that has errors, from a row or a column of them."""
    if not isinstance(cells, list):
        raise DataError(f"{where} is no cell array; expected a cell of labels for each sequence")
    found = {}
    for sequence, of_sequence in errors.items():
        index = SEQUENCES.index(sequence)
        labels = finite_array(cells[index] if index < len(cells) else np.zeros(0), f"{where}, cell {index + 1}")
        if labels.size != len(of_sequence) or labels.size != max(labels.shape, default=0):
            raise DataError(
                f"{where}, cell {index + 1} has shape {labels.shape}; expected {len(of_sequence)} numbers, one a frame "
                f"of {_PER_JOINT}"
            )
        if (labels != np.round(labels)).any():
            raise DataError(f"{where}, cell {index + 1} has labels that are no whole numbers; expected 1 to 7")
        found[sequence] = labels.ravel().astype(int)
    return found
