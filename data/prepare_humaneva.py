"""Make data_3d_humaneva15.npz and data_2d_humaneva15_gt.npz from HumanEva-I, converted by its MATLAB code.

    python data/prepare_humaneva.py CONVERTED [--out DIR] [--overwrite]

HumanEva's release has marker positions; the joints are worked out by MATLAB classes that come with it, in MATLAB alone.
CONVERTED is the folder converted_15j that VideoPose3D's ConvertHumanEva.m makes with them (data/README.md has the
steps): Train/S1/Walking_1.mat, ..., each with poses_3d (N, 15, 3), world, mm, and poses_2d (3, N, 15, 2), pixels.

Frames where motion capture failed are not numbers there. A sequence is cut at them into pieces, "Walking 1 chunk0",
"Walking 1 chunk2", ...; the numbers left out are the pieces that failed, as in VideoPose3D's files.

Files that are there are not replaced by ones that lack sequences of theirs, unless --overwrite is given.
"""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks for modules beside the script only

from common.datasets import DATASETS  # noqa: E402
from common.downloads import folder_meant  # noqa: E402
from common.errors import DataError, OneLineParser, UsageError, exit_code  # noqa: E402
from common.mat_files import read_mat  # noqa: E402
from common.npz_files import write_npz  # noqa: E402
from common.pose_files import check_array, check_size, layout_metadata  # noqa: E402
from common.preparation import check_nothing_is_lost  # noqa: E402

HUMANEVA = DATASETS["humaneva15"]
NUM_CAMERAS = 3

# Subject -> sequence -> frames. The first part of a recording is for validation and the rest for training. Source: the
# data set's own partition, as VideoPose3D's data/prepare_data_humaneva.py lists its first and last frames.
FRAMES = {
    "Train/S1": {"Walking 1": 613, "Jog 1": 373, "ThrowCatch 1": 472, "Gestures 1": 406, "Box 1": 404},
    "Train/S2": {"Walking 1": 438, "Jog 1": 397, "ThrowCatch 1": 578, "Gestures 1": 401, "Box 1": 352},
    "Train/S3": {"Walking 1": 491, "Jog 1": 441, "ThrowCatch 1": 534, "Gestures 1": 569, "Box 1": 509},
    "Validate/S1": {"Walking 1": 585, "Jog 1": 362, "ThrowCatch 1": 468, "Gestures 1": 390, "Box 1": 380},
    "Validate/S2": {"Walking 1": 433, "Jog 1": 393, "ThrowCatch 1": 545, "Gestures 1": 495, "Box 1": 377},
    "Validate/S3": {"Walking 1": 443, "Jog 1": 396, "ThrowCatch 1": 488, "Gestures 1": 528, "Box 1": 507},
}


def read_sequence(path: Path, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 15, 3) world, mm, and (3, N, 15, 2) pixels, of the frames that there are, NaN where capture failed.

    Raises:
        DataError: the file is damaged, or of another shape or length.
    """
    content = read_mat(path, ["poses_3d", "poses_2d"])
    num_joints = HUMANEVA.skeleton.num_joints
    for name, shape in (
        ("poses_3d", (num_frames, num_joints, 3)),
        ("poses_2d", (NUM_CAMERAS, num_frames, num_joints, 2)),
    ):
        found = np.shape(content[name]) if isinstance(content[name], np.ndarray) else "of a cell array"
        if found != shape:
            raise DataError(f"{path}: {name} has shape {found}; expected {shape}, of ConvertHumanEva.m with 15 joints")
    return content["poses_3d"].astype(np.float64), content["poses_2d"].astype(np.float64)


def pieces(poses_3d: np.ndarray, poses_2d: np.ndarray) -> Iterator[tuple[int, slice]]:
    """The stretches without a failed frame: (number, frames). Failed stretches are numbered too, and left out."""
    good = np.isfinite(poses_3d).all(axis=(1, 2)) & np.isfinite(poses_2d).all(axis=(0, 2, 3))
    edges = [0, *(np.flatnonzero(good[1:] != good[:-1]) + 1).tolist(), len(good)]
    for number, (first, end) in enumerate(pairwise(edges)):
        if good[first]:
            yield number, slice(first, end)


def prepare(converted: Path, out: Path, overwrite: bool = False) -> None:
    """Convert what is there and write the two files into `out`; prints what was done and what is missing.

    Raises:
        UsageError: there is no such folder.
        DataError: there is nothing in it, a file is damaged or odd, or sequences of an old file would be lost.
    """
    if not converted.is_dir():
        raise UsageError(f"{converted} is no folder; give the converted_15j that holds Train and Validate")
    positions_3d, positions_2d = {}, {}
    wanted = [(subject, action) for subject, actions in FRAMES.items() for action in actions]
    there = [names for names in wanted if (converted / _file(*names)).is_file()]
    if not there:
        meant = folder_meant(converted, lambda folder: any((folder / _file(*names)).is_file() for names in wanted))
        remedy = f"{meant} has: give that" if meant else "data/README.md says how to make them"
        raise DataError(f"no Train/S1/Walking_1.mat or the like in {converted}; {remedy}")
    for names in wanted:
        if names not in there:
            print(f"missing, left out: {_file(*names)}")
    for subject, action in tqdm(there, unit="sequence", desc="HumanEva", disable=None, leave=False):
        path = converted / _file(subject, action)
        poses_3d, poses_2d = read_sequence(path, FRAMES[subject][action])
        for number, frames in pieces(poses_3d, poses_2d):
            name = f"{action} chunk{number}"
            metres = check_array(poses_3d[frames] / 1000, f"{path}: {name}", (-1, poses_3d.shape[1], 3), "metres")
            check_size(metres - metres[:, :1], f"{path}: {name}")
            positions_3d.setdefault(subject, {})[name] = metres
            positions_2d.setdefault(subject, {})[name] = list(poses_2d[:, frames].astype(np.float32))
    if not positions_3d:
        raise DataError(f"{converted}: every frame of its {len(there)} sequences failed; make them anew")
    path_3d, path_2d = out / "data_3d_humaneva15.npz", out / "data_2d_humaneva15_gt.npz"
    if not overwrite:
        names = {f"{subject} {action}" for subject, actions in positions_3d.items() for action in actions}
        check_nothing_is_lost(path_3d, "positions_3d", 2, names)
        check_nothing_is_lost(path_2d, "positions_2d", 2, names)
    for subject, actions in positions_3d.items():
        frames = sum(map(len, actions.values()))
        print(f"{subject}: {frames} of {sum(FRAMES[subject].values())} frames, in {len(actions)} pieces")
    write_npz(path_3d, positions_3d=positions_3d)
    write_npz(path_2d, positions_2d=positions_2d, metadata=layout_metadata(HUMANEVA.skeleton))
    print(f"wrote {path_3d} and {path_2d}: {', '.join(positions_3d)}")


def _file(subject: str, action: str) -> str:
    return f"{subject}/{action.replace(' ', '_')}.mat"


def run(argv) -> None:
    parser = OneLineParser(description="Make the HumanEva files from what ConvertHumanEva.m made.")
    parser.add_argument("converted", metavar="CONVERTED", help="the folder converted_15j, of Train and Validate")
    parser.add_argument("--out", metavar="DIR", default=str(ROOT / "data"), help="where to write (default: data)")
    parser.add_argument("--overwrite", action="store_true", help="replace files even if sequences of them are lost")
    options = parser.parse_args(argv)
    prepare(Path(options.converted), Path(options.out), options.overwrite)


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
