"""MPI-INF-3DHP's test annotations as they are downloaded, TS1/annot_data.mat, ...: where they lie and what they say."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.downloads import find_files, folder_meant
from common.errors import DataError
from common.mat_files import finite_array, read_mat
from common.mpi_inf_3dhp_scores import ACTIVITIES
from common.skeleton import MPI_INF_3DHP

DATASET_NAME = "3dhp"
"""What -d and the files call the dataset."""
SEQUENCES = ("TS1", "TS2", "TS3", "TS4", "TS5", "TS6")
ANNOTATIONS = {
    "annot3": "the true size of each performer",
    "univ_annot3": "every performer scaled to one height (the universal skeleton)",
}
"""Two truths in one file: errors against the one and the other are not comparable."""
PIXELS = "annot2"

FOLDERS = (".", "mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set")
"""Where TS1, ... lie in what was downloaded: as the archive has them, and in the folders that get_testset.sh makes."""


@dataclass(frozen=True)
class TestSequence:
    """What an annot_data.mat says of its N frames.

    Attributes:
        arrays: name -> (N, 17, 2) pixels of annot2, (N, 17, 3) mm, camera space, of annot3 and univ_annot3; float64.
        valid: (N,) bool, where a frame counts.
        activity: (N,) int64, a key of ACTIVITIES, or 0 where the file has another number.
    """

    __test__ = False  # pytest takes the name for a test's

    arrays: dict[str, np.ndarray]
    valid: np.ndarray
    activity: np.ndarray


def find_test_sequences(folders: Iterable[Path]) -> dict[str, Path]:
    """Sequence -> its annot_data.mat, for those that lie in one of the folders, or in FOLDERS there."""
    return find_files(folders, {sequence: f"{sequence}/annot_data.mat" for sequence in SEQUENCES}, FOLDERS)


def meant_test_set(given: Path) -> Path | None:
    """The folder above or below `given` that holds the test set, where that can be told."""
    return folder_meant(given, lambda folder: bool(find_test_sequences([folder])))


def read_test_sequence(path: Path, names: Iterable[str]) -> TestSequence:
    """Read an annot_data.mat.

    In the file an annotation is (C, 17, 1, N); where the axes of size 1 are missing, it will do. Numbers are finite,
    and valid_frame is 0 or 1. An activity that is none is left to the caller, for it matters in valid frames alone,
    and not to every use: see `check_activity`.

    Args:
        path: the file.
        names: which of annot2, annot3, univ_annot3 to read.

    Raises:
        DataError: the file is absent, damaged or odd.
    """
    names = list(dict.fromkeys(names))
    members = read_mat(path, [*names, "valid_frame", "activity_annotation"])
    arrays = {name: _frames_first(members[name], f"{path}: {name}", 2 if name == PIXELS else 3) for name in names}
    labels = {}
    for name in ("valid_frame", "activity_annotation"):
        values = members[name]
        if not isinstance(values, np.ndarray):
            raise DataError(f"{path}: {name} is no array of numbers; get the file again")
        labels[name] = values
    counts = {name: len(array) for name, array in arrays.items()} | {name: labels[name].size for name in labels}
    num_frames = counts[names[-1]]
    for name, count in counts.items():
        if count != num_frames:
            raise DataError(f"{path}: {name} has {count} frames; expected {num_frames}, as {names[-1]} has")
    valid, activity = (labels[name].ravel() for name in labels)
    if not np.isin(valid, (0, 1)).all():
        raise DataError(f"{path}: valid_frame has values other than 0 and 1; get the file again")
    known = np.isin(activity, list(ACTIVITIES))
    return TestSequence(arrays, valid.astype(bool), np.where(known, activity, 0).astype(np.int64))


def check_activity(sequence: TestSequence, path: Path) -> None:
    """Every valid frame has an activity. What a frame that does not count has does not matter.

    Raises:
        DataError: one has none.
    """
    without = np.flatnonzero(sequence.valid & (sequence.activity == 0))
    if len(without):
        raise DataError(
            f"{path}: activity_annotation has values other than 1 to {len(ACTIVITIES)} in {len(without)} valid frames, "
            f"{without[0]} the first; get the file again"
        )


def _frames_first(value: object, where: str, size: int) -> np.ndarray:
    """MATLAB's (C, 17, 1, N) as (N, 17, C)."""
    array, num_joints = finite_array(value, where), MPI_INF_3DHP.num_joints
    each = size * num_joints
    if array.shape[:2] != (size, num_joints) or max(array.shape[2:], default=1) * each != array.size:
        raise DataError(f"{where} has shape {array.shape}; expected ({size}, {num_joints}, 1, frames)")
    return array.reshape((size, num_joints, -1), order="F").transpose(2, 1, 0)
