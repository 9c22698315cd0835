"""Bring 2D poses that a detector found: its files to data_2d_<dataset>_<name>.npz.

One video:

    python data/prepare_2d.py --input alphapose-results.json --name mine --dataset custom --video street.mp4 \
        --width 1920 --height 1080 --fps 25

Human3.6M, a tree of files or folders DIR/<subject>/<action>/<camera>, e.g. DIR/S9/Walking 1/54138969.json:

    python data/prepare_2d.py --input DIR --name mine --dataset h36m

data/README.md lists the detectors' formats, the joints that are made, and the layout of the file that is written.
"""

import argparse
import math
import re
import sys
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks for modules beside the script only

from common.camera import load_cameras  # noqa: E402
from common.clips import UNKNOWN_ACTION  # noqa: E402
from common.dataset_description import DatasetDescription  # noqa: E402
from common.datasets import DATASETS  # noqa: E402
from common.errors import DataError, OneLineParser, UsageError, exit_code  # noqa: E402
from common.joint_conversions import LAYOUTS  # noqa: E402
from common.keypoint_checks import outside  # noqa: E402
from common.keypoint_tracks import KeypointTrack, read_keypoint_track  # noqa: E402
from common.npz_files import write_npz  # noqa: E402
from common.pose_files import layout_metadata, read_pose_file, subject_tree  # noqa: E402
from common.skeleton import H36M  # noqa: E402

TARGETS = [name for name, description in DATASETS.items() if description.skeleton is H36M]
SINGLE_CLIP = ("video", "width", "height", "fps", "person", "first_frame", "frames")
"""Options that are of one clip."""


def prepare_video(options: argparse.Namespace, out: Path) -> None:
    """One video's detections to the custom format.

    Raises:
        UsageError, DataError: one line.
    """
    source = Path(options.input)
    track = read_keypoint_track(
        source,
        layout=options.layout,
        person=options.person,
        first_frame=options.first_frame,
        num_frames=options.frames,
    )
    print("\n".join(track.describe()))
    width, height = _image_size(options, track)
    if note := outside(track.points[track.confidences > 0], width, height):
        print(f"note: {note}")
    video = Path(options.video or source.stem).name
    _write(
        out,
        {video: {UNKNOWN_ACTION: [track.points]}},
        {video: {UNKNOWN_ACTION: [track.confidences]}},
        video_metadata={video: {"w": width, "h": height} | ({"fps": options.fps} if options.fps else {})},
    )
    print(f"wrote    {out}; predict with")
    command = f"python main_gt.py -d custom -k {options.name} -c FOLDER --evaluate best_epoch_1_1.bin"
    print(f"  {command} --action-prompt neutral")


def _image_size(options: argparse.Namespace, track: KeypointTrack) -> tuple[int, int]:
    if options.width and options.height:
        return options.width, options.height
    if track.detections.size and not (options.width or options.height):
        return track.detections.size
    raise UsageError("the image's size is not in the file; give --width and --height in pixels")


def prepare_tree(options: argparse.Namespace, description: DatasetDescription, out: Path) -> None:
    """Detections of every subject, action and camera to the dataset's 2D file.

    Where the dataset's 3D file lies beside the file to write, every clip gets its number of frames.

    Raises:
        UsageError, DataError: one line.
    """
    clips = find_clips(Path(options.input), description)
    path_3d = out.parent / f"data_3d_{description.name}.npz"
    lengths = _lengths(path_3d, clips) if path_3d.exists() else {}
    positions: dict[str, dict[str, list]] = {}
    confidences: dict[str, dict[str, list]] = {}
    counts: dict[str, list[int]] = {}
    views = [(subject, action, path) for (subject, action), paths in clips.items() for path in paths]
    layouts = set()
    for subject, action, path in tqdm(views, unit="clip", leave=False, disable=None):
        track = read_keypoint_track(path, layout=options.layout, num_frames=lengths.get((subject, action)))
        positions.setdefault(subject, {}).setdefault(action, []).append(track.points)
        confidences.setdefault(subject, {}).setdefault(action, []).append(track.confidences)
        layouts.add(f"{track.detections.tool} {track.detections.layout}")
        found = (1, len(track.points), track.empty_frames, track.missing_joints, len(track.people) > 1)
        counts[subject] = [a + b for a, b in zip(counts.get(subject, [0] * 5), found, strict=True)]
    _write(out, positions, confidences)
    print(f"read {len(views)} clips: {', '.join(sorted(layouts))}; of several people the largest score x box size")
    print(f"{'subject':10}{'clips':>8}{'frames':>10}{'filled':>10}{'joints filled':>15}{'several people':>16}")
    for subject, row in counts.items():
        print(f"{subject:10}{row[0]:8d}{row[1]:10d}{row[2]:10d}{row[3]:15d}{row[4]:16d}")
    if not lengths:
        print(f"note: {path_3d} is not there, so clips end with their last detection; it may have more frames")
    print(f"wrote {out}; check it with python -m common.check_data --data-dir {out.parent}")


def find_clips(folder: Path, description: DatasetDescription) -> dict[tuple[str, str], list[Path]]:
    """(subject, action) -> a file or folder for each camera, in the order of the dataset's 2D files.

    Raises:
        DataError: there is no such tree, or something in it is missing or not known.
    """
    known = load_cameras(description.camera_file)
    clips = {}
    for subject in _children(folder):
        if subject.name not in known:
            raise DataError(f"{subject}: no subject of {description.name}; expected {', '.join(known)}")
        for action in _children(subject):
            names = [camera.name for camera in known[subject.name]]
            found = {entry.name.removesuffix(".json").removesuffix(".npz"): entry for entry in _children(action)}
            for name in (*names, *found):
                if name not in found or name not in names:
                    wrong = "is missing" if name not in found else "is no camera"
                    raise DataError(
                        f"{action}: {name} {wrong}; expected {', '.join(names)}, each .json, .npz or a folder"
                    )
            clips[subject.name, action.name] = [found[name] for name in names]
    return clips


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected DIR/<subject>/<action>/<camera>")
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    if not entries:
        raise DataError(f"{folder} is empty; expected DIR/<subject>/<action>/<camera>")
    return entries


def _lengths(path: Path, clips: dict[tuple[str, str], list[Path]]) -> dict[tuple[str, str], int]:
    (tree,) = read_pose_file(path, ["positions_3d"])
    lengths = {
        (subject, action): len(poses)
        for subject, actions in subject_tree(tree, path, "positions_3d").items()
        for action, poses in actions.items()
    }
    for subject, action in clips:
        if (subject, action) not in lengths:
            raise DataError(f"{path} has no '{subject}' '{action}', which --input has; rename or remove that folder")
    return lengths


def _write(out: Path, positions: dict, confidences: dict, **metadata: object) -> None:
    write_npz(out, positions_2d=positions, confidences=confidences, metadata={**layout_metadata(H36M), **metadata})


def prepare(options: argparse.Namespace) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", options.name):
        raise UsageError(f"--name is '{options.name}'; expected letters, digits, '_', '.' and '-', as for -k")
    for name in ("width", "height", "frames"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UsageError(f"--{name} is {value}; expected at least 1")
    if options.fps is not None and not 0 < options.fps < math.inf:
        raise UsageError(f"--fps is {options.fps}; expected a number above 0")
    description = DATASETS[options.dataset]
    out = Path(options.out) / f"data_2d_{description.name}_{options.name}.npz"
    if out.exists() and not options.overwrite:
        raise UsageError(f"{out} is there already; give --overwrite or another --name")
    if not description.has_truth:
        return prepare_video(options, out)
    for name in SINGLE_CLIP:
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} is for one video; with -d {description.name} leave it out")
    return prepare_tree(options, description, out)


def parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        description="Turn the files of a 2D pose detector into data_2d_<dataset>_<name>.npz.",
        epilog="data/README.md lists the formats and how joints are made.",
    )
    add = parser.add_argument
    add("--input", required=True, metavar="PATH", help="what the detector wrote: a file, or a folder of one a frame")
    add("--name", required=True, help="the name that -k will have")
    add("--dataset", choices=TARGETS, default="custom", help="custom: one video; others: a tree (default: custom)")
    add("--layout", choices=LAYOUTS, help="the joints' layout (default: the file's, or by joint count)")
    add("--out", metavar="DIR", default=str(ROOT / "data"), help="where to write (default: data)")
    add("--overwrite", action="store_true", help="replace a file that is there")
    add("--video", metavar="NAME", help="the video's name in the file (default: the input's)")
    add("--width", type=int, help="of the image, pixels")
    add("--height", type=int, help="of the image, pixels")
    add(
        "--fps", type=float, help="the video's frames a second, with which films are drawn (default: none, drawn at 50)"
    )
    add("--person", type=_names, default=(), metavar="ID[,ID]", help="whose track (default: largest score x box size)")
    add("--first-frame", type=int, metavar="N", help="the first frame's number in the file (default: data/README.md)")
    add("--frames", type=int, metavar="N", help="the video's frames: the last pose is held, or the rest cut off")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def main(argv=None) -> int:
    return exit_code(lambda: prepare(parser().parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
