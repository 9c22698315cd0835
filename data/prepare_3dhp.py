"""Make data_{train,test}_3dhp_ori.npz, or .._univ.npz, from MPI-INF-3DHP as downloaded.

    python data/prepare_3dhp.py DOWNLOAD [DOWNLOAD ...] [--annotation annot3|univ_annot3] [--out DIR] [--overwrite]

A DOWNLOAD is a folder that holds S1 ... S8 (of get_dataset.sh) or TS1 ... TS6 (of get_testset.sh; the folders
mpi_inf_3dhp_test_set around them are looked into). Only S*/Seq*/annot.mat, S*/Seq*/camera.calibration and
TS*/annot_data.mat are read, no images. Whatever part of the data set is there is converted, and a line says what is
not. A run that was interrupted goes on where it was. A file that is there is not replaced by one that lacks sequences
of it, unless --overwrite is given.

annot3 is the pose as it was, in millimetres in the camera's space, and lands on the 2D annotations when projected.
univ_annot3 is that pose scaled to a skeleton of one height for all; it does not. Each file says which one it holds, and
they have names of their own, for numbers on the one and the other cannot be compared: annot3 goes to .._ori.npz (read
with -k ori, the default), univ_annot3 to .._univ.npz (read with -k univ).

How far annot3 lands from annot2 is printed for every sequence: hundredths of a pixel mean that joints, cameras and
units are what this script takes them for.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks for modules beside the script only

from common.downloads import find_files, folder_meant  # noqa: E402
from common.errors import DataError, OneLineParser, UsageError, exit_code  # noqa: E402
from common.mat_files import read_mat  # noqa: E402
from common.mpi_inf_3dhp_annotations import (  # noqa: E402
    ANNOTATIONS,
    PIXELS,
    check_activity,
    find_test_sequences,
    read_test_sequence,
)
from common.mpi_inf_3dhp_dataset import CALIBRATIONS, KEYPOINTS, Calibration, file_names  # noqa: E402
from common.npz_files import write_npz  # noqa: E402
from common.pose_files import check_array  # noqa: E402
from common.preparation import GOES_ON, SequenceCache, check_nothing_is_lost  # noqa: E402

CONVERSION = 2
"""One more whenever convert_training or convert_test makes something else of the same files."""

# The cameras that published training sets use, VNect's: numbers in the data set, 0 to 13. Source: mpii_get_camera_set.m
# of the data set's tools.
CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
# Training annotations have 28 joints; these are our 17, in our order. Source: mpii_get_joint_set.m ('relevant').
NUM_FILE_JOINTS = 28
JOINTS = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)

# Sequence -> frames of video, and frames a second. Source: mpii_get_sequence_info.m. For S3 and S5 it assigns 50 before
# the first `case`; their sequences last the same four minutes as all others only at that rate.
SEQUENCES = {
    "S1/Seq1": (6416, 25),
    "S1/Seq2": (12430, 50),
    "S2/Seq1": (6502, 25),
    "S2/Seq2": (6081, 25),
    "S3/Seq1": (12488, 50),
    "S3/Seq2": (12283, 50),
    "S4/Seq1": (6171, 25),
    "S4/Seq2": (6675, 25),
    "S5/Seq1": (12820, 50),
    "S5/Seq2": (12312, 50),
    "S6/Seq1": (6188, 25),
    "S6/Seq2": (6145, 25),
    "S7/Seq1": (6239, 25),
    "S7/Seq2": (6320, 25),
    "S8/Seq1": (6468, 25),
    "S8/Seq2": (6054, 25),
}

GOOD_RESIDUAL = 5.0
"""Pixels: where annot3 lands farther than that from annot2, on average, something is not as it should be."""


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion: pixel = focal * (x, y) / z + centre."""

    focal: np.ndarray
    """(2,) pixels."""
    centre: np.ndarray
    """(2,) pixels."""

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) camera space -> (..., 2) pixels."""
        return points[..., :2] / points[..., 2:] * self.focal + self.centre


def fit_camera(points: np.ndarray, pixels: np.ndarray) -> Pinhole:
    """The camera that projects points (N, 3) to pixels (N, 2) best, by least squares; N at least 2, all ahead of it."""
    slopes = points[:, :2] / points[:, 2:]
    lines = [
        np.linalg.lstsq(np.stack([slopes[:, axis], np.ones(len(slopes))], axis=1), pixels[:, axis], rcond=None)[0]
        for axis in (0, 1)
    ]
    return Pinhole(focal=np.array([line[0] for line in lines]), centre=np.array([line[1] for line in lines]))


def read_calibration(path: Path) -> dict[int, Pinhole]:
    """The cameras of a sequence's camera.calibration: number -> camera.

    A line "name", then lines of which "intrinsic" has 16 numbers, a 4x4 matrix row by row, in pixels.

    Raises:
        DataError: the file is not of that form.
    """
    cameras, name = {}, None
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            key, *values = line.split() or [""]
            if key == "name":
                (name,) = map(int, values)
            elif key == "intrinsic":
                matrix = np.array(values, dtype=np.float64).reshape(4, 4)
                cameras[name] = Pinhole(focal=matrix[[0, 1], [0, 1]], centre=matrix[:2, 2])
        if not cameras or None in cameras:
            raise ValueError("no camera in it")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no camera calibration ({error}); get it again, or move it away") from None
    return cameras


def landing_errors(points: np.ndarray, pixels: np.ndarray, camera: Pinhole | Calibration) -> np.ndarray:
    """Distances in pixels between the projected points (N, 17, 3) and pixels (N, 17, 2): (N, 17), NaN behind it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distances = np.linalg.norm(camera.project(points) - pixels, axis=-1)
    return np.where(points[..., 2] > 0, distances, np.nan)


def find_training(downloads: list[Path]) -> dict[str, Path]:
    """Sequence -> its annot.mat, for those that are there."""
    return find_files(downloads, {sequence: f"{sequence}/annot.mat" for sequence in SEQUENCES})


def folders_meant(downloads: list[Path], find: Callable[[list[Path]], dict[str, Path]]) -> list[Path]:
    """The folders above or below the downloads in which `find` finds what it does not find in them."""
    if find(downloads):
        return []
    meant = [folder_meant(download, lambda folder: bool(find([folder]))) for download in downloads]
    return [folder for folder in meant if folder]


def convert_training(path: Path, sequence: str, annotation: str) -> dict:
    """A training sequence.

    Returns:
        views: camera, as text -> {data_2d (N, 17, 2) pixels, data_3d (N, 17, 3) mm, camera space}, both float32;
        fps; notes: what there is to say of it.

    Raises:
        DataError: the file is damaged or odd.
    """
    num_frames, fps = SEQUENCES[sequence]
    content = read_mat(path, list(dict.fromkeys(["annot2", "annot3", annotation])), optional=["cameras", "frames"])
    cells = _cells_of_cameras(content, path)
    _check_consecutive(content.get("frames"), path)
    calibration = path.with_name("camera.calibration")
    calibrated = read_calibration(calibration) if calibration.is_file() else {}

    views, errors, lengths = {}, {}, set()
    for camera in CAMERAS:
        where = f"{path}: camera {camera}"
        pixels, points, poses = (
            _joints(content[name], cells[camera], num_frames, size, f"{where} {name}", unit)
            for name, size, unit in (("annot2", 2, "pixels"), ("annot3", 3, "mm"), (annotation, 3, "mm"))
        )
        if not len(pixels) == len(points) == len(poses):
            raise DataError(f"{where} has {len(pixels)} frames of 2D and {len(points)} of 3D; expected as many")
        lengths.add(len(pixels))
        ahead = points[..., 2] > 0
        if ahead.sum() < 2:
            raise DataError(f"{where} annot3 has no joint ahead of the camera; expected camera space, z forward")
        lens = calibrated.get(camera) or fit_camera(points[ahead].astype(np.float64), pixels[ahead].astype(np.float64))
        errors[camera] = landing_errors(points.astype(np.float64), pixels.astype(np.float64), lens)
        views[str(camera)] = {"data_2d": pixels, "data_3d": poses}
    if len(lengths) > 1:
        raise DataError(f"{path}: its cameras have {', '.join(map(str, sorted(lengths)))} frames; expected one number")
    (length,) = lengths

    worst = max(errors, key=lambda camera: np.nanmean(errors[camera]))
    mean = float(np.nanmean([np.nanmean(of_camera) for of_camera in errors.values()]))
    largest = max(float(np.nanmax(of_camera)) for of_camera in errors.values())
    source = "camera.calibration" if calibrated else "cameras fitted"
    notes = [
        f"{sequence}: {length} frames, {len(views)} cameras; annot3 lands {mean:.2f} px from annot2 on average "
        f"({np.nanmean(errors[worst]):.2f} in camera {worst}), {largest:.2f} at most ({source})"
    ]
    if length < num_frames:
        notes.append(f"{sequence}: {num_frames - length} of {num_frames} frames have no annotation; all there are kept")
    if mean > GOOD_RESIDUAL:
        notes.append(_poor(sequence))
    return {"views": views, "fps": fps, "notes": notes}


def _cells_of_cameras(content: dict, path: Path) -> dict[int, int]:
    """Camera -> its place in the cell arrays. The file's own list `cameras` says so; without one they are in order."""
    for name, cells in content.items():
        if name not in ("cameras", "frames") and not isinstance(cells, list):
            raise DataError(f"{path}: {name} is an array {cells.shape}; expected a cell for each camera")
    numbers = content.get("cameras")
    if numbers is None:
        numbers = np.arange(len(content["annot2"]))
    elif isinstance(numbers, list):  # cells of one number each
        numbers = np.concatenate([np.ravel(number) for number in numbers])
    places = {int(number): place for place, number in enumerate(np.ravel(numbers))}
    count = min(len(cells) for cells in content.values() if isinstance(cells, list))
    absent = [camera for camera in CAMERAS if places.get(camera, count) >= count]
    if absent:
        raise DataError(f"{path} has no camera {', '.join(map(str, absent))}; expected {', '.join(map(str, CAMERAS))}")
    return places


def _check_consecutive(frames, path: Path) -> None:
    """The rows of the annotations are frames one after the other."""
    if isinstance(frames, np.ndarray) and frames.size and (np.diff(np.ravel(frames).astype(np.float64)) != 1).any():
        raise DataError(f"{path}: its frames are not one after the other; expected an annotation of every frame")


def _joints(cells: list, place: int, num_frames: int, size: int, where: str, unit: str) -> np.ndarray:
    """(N, 17, size) float32 of a cell of (N, 28 * size), no more than num_frames of it."""
    rows = check_array(np.asarray(cells[place])[:num_frames], where, (-1, NUM_FILE_JOINTS * size), unit)
    return np.ascontiguousarray(rows.reshape(-1, NUM_FILE_JOINTS, size)[:, JOINTS])


def convert_test(path: Path, sequence: str, annotation: str) -> dict:
    """A test sequence.

    Returns:
        data_2d (N, 17, 2) float32 pixels, data_3d (N, 17, 3) float64 mm, camera space, as exact as the annotation, so
        that an evaluation scores as the dataset's own scorer does; valid (N,) float64, 1 where the frame counts,
        activity (N,) int64, 1 to 7 where it counts; notes: what there is to say of it.

    Raises:
        DataError: the file is damaged or odd.
    """
    content = read_test_sequence(path, [PIXELS, "annot3", annotation])
    check_activity(content, path)
    pixels, points, poses = (
        _checked(content.arrays[name], f"{path}: {name}", unit, dtype)
        for name, unit, dtype in (
            (PIXELS, "pixels", np.float32), ("annot3", "mm", np.float32), (annotation, "mm", np.float64)
        )
    )  # fmt: skip
    errors = landing_errors(points.astype(np.float64), pixels.astype(np.float64), CALIBRATIONS[sequence])
    if np.isnan(errors).all():
        raise DataError(f"{path}: annot3 has no joint ahead of the camera; expected camera space, z forward")
    counts = content.valid
    of_valid = f", {np.nanmean(errors[counts]):.2f} in valid frames" if counts.any() else ""
    notes = [
        f"{sequence}: {len(counts)} frames, {counts.sum()} valid; annot3 lands {np.nanmean(errors):.2f} px from annot2 "
        f"on average{of_valid}, {np.nanmax(errors):.2f} at most"
    ]
    if np.nanmean(errors[counts] if counts.any() else errors) > GOOD_RESIDUAL:
        notes.append(_poor(sequence))
    return {
        "data_2d": pixels,
        "data_3d": poses,
        "valid": counts.astype(np.float64),
        "activity": content.activity,
        "notes": notes,
    }


def _checked(array: np.ndarray, where: str, unit: str, dtype: type) -> np.ndarray:
    """(N, 17, C) as dtype, which it fits, of at least a frame."""
    return np.ascontiguousarray(check_array(array, where, (-1, *array.shape[1:]), unit, dtype))


def _poor(sequence: str) -> str:
    return f"{sequence}: that is far off: are these annotations, camera and calibration of one download? Kept as it is"


def prepare(downloads: list[Path], out: Path, annotation: str, overwrite: bool = False) -> None:
    """Convert what the downloads hold and write the two files into `out`; prints what was done and what is missing.

    Raises:
        UsageError: a download is no folder.
        DataError: there is nothing in them, a file is damaged or odd, or sequences of an old file would be lost.
    """
    for download in downloads:
        if not download.is_dir():
            raise UsageError(f"{download} is no folder; give the one that holds S1 ... S8 or TS1 ... TS6")
    training, test = find_training(downloads), find_test_sequences(downloads)
    meant = [folder for find in (find_training, find_test_sequences) for folder in folders_meant(downloads, find)]
    hint = f"{' and '.join(map(str, dict.fromkeys(meant)))} would have some: give that" if meant else ""
    if not training and not test:
        raise DataError(
            f"no S*/Seq*/annot.mat and no TS*/annot_data.mat in {', '.join(map(str, downloads))}; "
            + (hint or "data/README.md says what to download")
        )
    if not overwrite:
        found = [_name(sequence) for sequence in training], list(test)
        for file, names in zip(file_names(KEYPOINTS[annotation]), found, strict=True):
            if names:
                check_nothing_is_lost(out / file, "data", 1, names)
    missing = [f"{name}/annot.mat" for name in SEQUENCES if name not in training]
    missing += [f"{name}/annot_data.mat" for name in CALIBRATIONS if name not in test]
    for file in missing:
        print(f"missing, left out: {file}")
    if hint:
        print(f"{hint}, too")

    made_of = {"annotation": annotation, "joints": JOINTS, "cameras": CAMERAS}
    cache = SequenceCache(out / "prepare_3dhp.cache", CONVERSION, made_of)
    train_data, test_data = {}, {}
    with tqdm(total=len(training) + len(test), unit="sequence", desc="MPI-INF-3DHP", disable=None) as bar:
        for name, path in training.items():
            calibration = path.with_name("camera.calibration")
            sources = [path, calibration] if calibration.is_file() else [path]
            done = cache.get(name, sources, lambda path=path, name=name: convert_training(path, name, annotation))
            train_data[_name(name)] = [done["views"], done["fps"]]
            _tell(bar, done["notes"])
        for name, path in test.items():
            done = cache.get(name, [path], lambda path=path, name=name: convert_test(path, name, annotation))
            _tell(bar, done.pop("notes"))
            test_data[name] = done
    for file, data in zip(file_names(KEYPOINTS[annotation]), (train_data, test_data), strict=True):
        if data:
            write_npz(out / file, data=data, annotation=annotation)
            print(f"wrote {out / file}: {', '.join(data)}; data_3d is {annotation}")
        elif (out / file).exists():
            print(f"kept as it was, for there is nothing to put into it: {out / file}")
        else:
            print(f"not written, for there is nothing to put into it: {out / file}")
    cache.remove()


def _name(sequence: str) -> str:
    """A training sequence's name in the file: "S1/Seq1" is "S1 Seq1"."""
    return sequence.replace("/", " ")


def _tell(bar: tqdm, notes: list[str]) -> None:
    for note in notes:
        bar.write(note)
    bar.update()


def run(argv) -> None:
    parser = OneLineParser(description="Make the MPI-INF-3DHP files from the data set as downloaded.")
    parser.add_argument("downloads", metavar="DOWNLOAD", nargs="+", help="folder that holds S1 ... S8 or TS1 ... TS6")
    parser.add_argument("--out", metavar="DIR", default=str(ROOT / "data"), help="where to write (default: data)")
    parser.add_argument(
        "--annotation",
        choices=ANNOTATIONS,
        default="annot3",
        help="which poses: annot3, which agree with the 2D (for -k ori), or univ_annot3, scaled to one skeleton, as "
        "P-STMO uses (for -k univ)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file even if sequences of it are lost")
    options = parser.parse_args(argv)
    prepare(list(map(Path, options.downloads)), Path(options.out), options.annotation, options.overwrite)


def main(argv=None) -> int:
    return exit_code(lambda: run(argv), after_interrupt=GOES_ON)


if __name__ == "__main__":
    sys.exit(main())
