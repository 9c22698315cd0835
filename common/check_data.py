"""Check the data files: what is there, whether it fits together, and what can be run with it.

    python -m common.check_data --data-dir data [--json report.json]

Exit code 0 where all is well, 1 where anything is wrong, 2 for a wrong command line. What a reader checks is checked by
the reader's own functions (common/pose_files.py, common/h36m_dataset.py), clip by clip, so that a fault does not hide
the next one.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from common.camera import image_coordinates, project_to_2d
from common.check_mpi_inf_3dhp import UNKNOWN, check_test_file, check_train_file
from common.clips import Clip
from common.custom_dataset import read_custom
from common.data_report import DataReport, FileReport, Problems, print_report
from common.dataset_description import DatasetDescription
from common.datasets import DATASETS
from common.errors import DataError, OneLineParser, UsageError, exit_code
from common.files import sha256, write_json
from common.h36m_dataset import (
    check_confidences,
    check_views,
    check_world,
    one_sided_actions,
    read_h36m_format,
    subject_cameras,
    view_clip,
    world_cameras,
)
from common.mpi_inf_3dhp_annotations import DATASET_NAME
from common.mpi_inf_3dhp_dataset import KEYPOINTS, file_names, read_mpi_inf_3dhp
from common.pose_files import check_array, check_layout, read_pose_file, subject_tree
from common.pose_measures import BoneLengths, ProjectionErrors

LARGEST_GT_ERROR = 1.0
"""Pixels: 2D ground truth lies closer to the projection of the 3D."""

Worlds = dict[str, dict[str, np.ndarray | None]]
"""Subject -> action -> (N, J, 3), world, metres; None where the file's is odd."""


def check_folder(folder: Path) -> DataReport:
    """Check every known file of a folder.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"--data-dir: {folder} is not a folder; give the one that holds the data_*.npz files")
    files = {}
    for path, report, check in tqdm(list(_known_files(folder)), unit="file", leave=False, disable=None):
        with Problems(report, path):
            report.size_bytes, report.sha256 = path.stat().st_size, sha256(path)
            check(path, report)
        files[path.name] = report
    for train, test in _pairs_3dhp(files).values():
        _check_annotations(train, test)
    known = [
        name
        for description in DATASETS.values()
        if description.read is read_h36m_format
        for name in (f"data_3d_{description.name}.npz", f"data_2d_{description.name}_gt.npz")
    ]
    return DataReport(
        folder=str(folder),
        files=list(files.values()),
        absent=[name for name in (*known, *file_names(KEYPOINTS["annot3"])) if name not in files],
        unknown=sorted(path.name for path in folder.glob("data_*.npz") if path.name not in files),
        usable=_usable(files),
    )


def _known_files(folder: Path) -> Iterator[tuple[Path, FileReport, Callable[[Path, FileReport], None]]]:
    """Each known file that is there, the report to fill, and the check that fills it; 3D comes before its 2D."""
    for description in DATASETS.values():
        name = description.name
        path_3d = folder / f"data_3d_{name}.npz"
        worlds: Worlds = {}
        paths_2d = sorted(folder.glob(f"data_2d_{name}_*.npz"))
        if description.read is read_h36m_format:
            if path_3d.exists():
                yield path_3d, FileReport(path_3d.name, "3D poses", name), partial(_check_3d, description, worlds)
            for path in paths_2d:
                check_2d = partial(_check_2d, description, worlds, path_3d)
                yield path, FileReport(path.name, "2D poses", name), check_2d
        elif description.read is read_custom:
            for path in paths_2d:
                yield path, FileReport(path.name, "2D poses", name), partial(_check_custom, description)
        elif description.read is read_mpi_inf_3dhp:
            kinds = zip(file_names("*"), ("training", "test"), (check_train_file, check_test_file), strict=True)
            for pattern, kind, check in kinds:
                for path in sorted(folder.glob(pattern)):
                    yield path, FileReport(path.name, kind, name), check


# --- Human3.6M's format, and custom ---


def _check_3d(description: DatasetDescription, worlds: Worlds, path: Path, report: FileReport) -> None:
    """Fill the report, and `worlds` for the checks of the 2D."""
    (tree,) = read_pose_file(path, ["positions_3d"])
    report.shape = f"(N, {description.num_file_joints}, 3) metres"
    lengths = BoneLengths(description.skeleton)
    for subject, action, poses in _actions(subject_tree(tree, path, "positions_3d"), path):
        report.clips += 1
        worlds.setdefault(subject, {})[action] = None
        with Problems(report, path):
            world = check_world(description, poses, f"{path}: {subject} {action}")
            worlds[subject][action] = world
            report.count_frames(subject, len(world))
            lengths.add(f"{subject} {action}", world)
    report.set_bones(lengths.summary())


def _check_2d(description: DatasetDescription, worlds: Worlds, path_3d: Path, path: Path, report: FileReport) -> None:
    tree, metadata, confidences = read_pose_file(path, ["positions_2d", "metadata"], ("confidences",))
    tree = subject_tree(tree, path, "positions_2d")
    report.shape = f"(N, {description.skeleton.num_joints}, 2) pixels"
    with Problems(report, path):
        check_layout(metadata, path, description.skeleton)
    if worlds:
        for line in _one_sided(worlds, tree, path_3d, path):
            report.add_problem(line, path)
        surplus = sorted(tree.keys() - worlds.keys())
        if surplus:  # e.g. S2, S3 and S4 of VideoPose3D's CPN detections
            report.notes.append(f"{', '.join(surplus)}: not in {path_3d.name}, so never read, and not checked")
            tree = {subject: actions for subject, actions in tree.items() if subject in worlds}
    cameras = world_cameras(description)
    errors, longer = ProjectionErrors(), 0
    for subject, action, content in _actions(tree, path):
        report.clips += 1
        world = worlds.get(subject, {}).get(action)
        counts = [0]
        with Problems(report, path):
            views = subject_cameras(cameras, subject, path)
            pixels = check_views(content, len(views), f"{path}: {subject} {action}")
            trust = check_confidences(confidences, subject, action, len(views), path)
            for camera, of_camera, its_trust in zip(views, pixels, trust, strict=True):
                with Problems(report, path):
                    where = f"{path}: {subject} {action} camera {camera.name}"
                    shape = (-1, description.skeleton.num_joints, 2)
                    counts.append(len(check_array(of_camera, where, shape, "pixels")))
                    report.views += 1
                    if world is not None:
                        clip = view_clip(description, subject, action, camera, world, of_camera, its_trust, path)
                        longer = max(longer, counts[-1] - len(world))
                        if camera.intrinsics is not None:
                            errors.add(clip.name, *_seen_and_projected(clip, camera.intrinsics))
        report.count_frames(subject, max(counts))
    if longer:
        report.notes.append(f"up to {longer} frames longer than the 3D; the rest is cut off when it is read")
    _check_projection(report, errors, bool(worlds))


def _one_sided(worlds: Worlds, tree: dict[str, dict], path_3d: Path, path_2d: Path) -> list[str]:
    """A line for each subject that the 2D lacks, and each action that one of the two files lacks."""
    lines = [
        f"{path_2d} has no subject '{subject}', which {path_3d.name} has; use files of one source"
        for subject in sorted(worlds.keys() - tree.keys())
    ]
    for subject in sorted(worlds.keys() & tree.keys()):
        lines += one_sided_actions(subject, worlds[subject], tree[subject], path_3d, path_2d)
    return lines


def _check_projection(report: FileReport, errors: ProjectionErrors, with_truth: bool) -> None:
    found = errors.summary()
    if found is None:
        if with_truth:
            report.notes.append("not compared with the projection of the 3D: no intrinsics are known, or no clip fits")
        return
    report.projections.append(found)
    if _keypoints(report) == "gt" and not found.max_px <= LARGEST_GT_ERROR:
        report.problems.append(
            f"2D ground truth is up to {found.max_px:.1f} px from the projection of the 3D ({found.clip}), expected at "
            f"most {LARGEST_GT_ERROR:g}; use files of one source"
        )


def _seen_and_projected(clip: Clip, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A clip's 2D and the projection of its 3D, both (N, J, 2), pixels."""
    assert clip.root is not None  # with the truth it is known
    poses = clip.truth.astype(np.float64) + clip.root[:, None]
    projected = project_to_2d(torch.from_numpy(poses)[None], torch.from_numpy(intrinsics).double()[None])[0].numpy()
    seen, projected = (image_coordinates(screen, *clip.size) for screen in (clip.poses_2d, projected))
    return seen, projected


def _actions(tree: dict[str, dict], path: Path) -> Iterable[tuple[str, str, object]]:
    found = [(subject, action, content) for subject, actions in tree.items() for action, content in actions.items()]
    return tqdm(found, desc=path.name, unit="clip", leave=False, disable=None)


def _check_custom(description: DatasetDescription, path: Path, report: FileReport) -> None:
    report.shape = f"(N, {description.skeleton.num_joints}, 2) pixels"
    _, clips = read_custom(description, path.parent, _keypoints(report), None, ())
    for video, actions in clips.items():
        report.clips += len(actions)
        for views in actions.values():
            report.views += len(views)
            report.count_frames(video, max(view.num_frames for view in views))


# --- MPI-INF-3DHP ---


def _pairs_3dhp(files: dict[str, FileReport]) -> dict[str, tuple[FileReport | None, FileReport | None]]:
    """What -k is -> the training and the test file, of which one may be absent."""
    names = dict.fromkeys(_keypoints_3dhp(file) for file in files.values() if file.dataset == DATASET_NAME)
    pairs = {keypoints: file_names(keypoints) for keypoints in names}
    return {keypoints: (files.get(train), files.get(test)) for keypoints, (train, test) in pairs.items()}


def _keypoints_3dhp(file: FileReport) -> str:
    return file.name.removesuffix(".npz").split(f"_{DATASET_NAME}_", 1)[1]


def _check_annotations(train: FileReport | None, test: FileReport | None) -> None:
    """The two truths are of different sizes, so a network trained on one is not to be measured against the other."""
    found = [file.annotation for file in (train, test) if file and file.annotation not in ("", UNKNOWN)]
    if train and test and len(set(found)) > 1:
        test.problems.append(
            f"3D is {test.annotation} and that of {train.name} {train.annotation}, which are not comparable; "
            "make both with one --annotation of data/prepare_3dhp.py"
        )


# --- what can be run ---


def _usable(files: dict[str, FileReport]) -> list[str]:
    """A sentence for each thing that can be run, or what it lacks."""
    sentences = []
    for description in DATASETS.values():
        name = description.name
        truth = files.get(f"data_3d_{name}.npz")
        inputs = [file for file in files.values() if file.dataset == name and file is not truth]
        if description.read is read_h36m_format:
            if truth and not inputs:
                sentences.append(f"-d {name} cannot: no 2D input data_2d_{name}_<keypoints>.npz is there")
            sentences += [_usable_pair(description, truth, file) for file in inputs]
        elif description.read is read_custom:
            for file in inputs:
                script = f"main_gt.py -d {name} -k {_keypoints(file)} --evaluate CHECKPOINT"
                sentences.append(_unless_wrong(f"{script} can predict; there is no truth to measure against", file))
    for keypoints, (train, test) in _pairs_3dhp(files).items():
        script, (train_name, test_name) = f"main_3dhp.py -d {DATASET_NAME} -k {keypoints}", file_names(keypoints)
        if train and test:
            sentences.append(_unless_wrong(f"{script} can train and evaluate", train, test))
        elif test:
            sentences.append(_unless_wrong(f"{script} can evaluate; to train, {train_name} is missing", test))
        else:
            sentences.append(f"{script} cannot: {test_name}, which chooses the best epoch, is missing")
    return sentences


def _usable_pair(description: DatasetDescription, truth: FileReport | None, file: FileReport) -> str:
    keypoints = _keypoints(file)
    script = f"{'main_gt.py' if keypoints == 'gt' else 'main.py'} -d {description.name} -k {keypoints}"
    if truth is None:
        return f"{script} cannot: data_3d_{description.name}.npz is missing"
    there = truth.frames.keys() & file.frames.keys()
    train = [subject for subject in description.subjects_train if subject not in there]
    test = [subject for subject in description.subjects_test if subject not in there]
    if test:
        return _unless_wrong(f"{script} needs -str and -ste, for {', '.join(train + test)} are missing", truth, file)
    if train:
        return _unless_wrong(f"{script} can evaluate; to train, {', '.join(train)} are missing", truth, file)
    return _unless_wrong(f"{script} can train and evaluate", truth, file)


def _keypoints(file: FileReport) -> str:
    """What -k is for a 2D file."""
    return file.name.removeprefix(f"data_2d_{file.dataset}_").removesuffix(".npz")


def _unless_wrong(sentence: str, *files: FileReport) -> str:
    wrong = [file.name for file in files if file.problems]
    return f"{sentence} (first mend {' and '.join(wrong)})" if wrong else sentence


# --- the command ---


def check(folder: Path, json_path: str | None) -> None:
    """Print what was found, and write it to json_path if there is one.

    Raises:
        UsageError: there is no such folder.
        DataError: anything is wrong, or no known file is there.
    """
    report = check_folder(folder)
    if json_path:
        write_json(json_path, asdict(report))
    print_report(report)
    if not report.files:
        raise DataError(f"{folder} has none of the known files; data/README.md shows where to get or how to make them")
    if report.num_problems:
        wrong = [file.name for file in report.files if file.problems]
        raise DataError(f"{report.num_problems} wrong in {', '.join(wrong)}; see above")


def _run(argv) -> None:
    parser = OneLineParser(prog="python -m common.check_data", description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", default="data", metavar="DIR", help="the folder of the files (default: data)")
    parser.add_argument("--json", metavar="FILE", help="write what was found as data, too")
    options = parser.parse_args(argv)
    check(Path(options.data_dir), options.json)


def main(argv=None) -> int:
    return exit_code(lambda: _run(argv))


if __name__ == "__main__":
    sys.exit(main())
