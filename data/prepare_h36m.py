"""Make data_3d_h36m.npz and data_2d_h36m_gt.npz from Human3.6M's own D3_Positions files.

    python data/prepare_h36m.py DOWNLOAD [DOWNLOAD ...] [--out DIR] [--overwrite]

A DOWNLOAD is an archive Poses_D3_Positions_S1.tgz, ..., a folder of such archives, or a folder into which they were
extracted (S1/MyPoseFeatures/D3_Positions/*.cdf). Archives are read as they are. cdflib is needed: pip install cdflib.
Whatever subjects are there are converted, and a line says what is not. A run that was interrupted goes on where it was.
Files that are there are not replaced by ones that lack sequences of theirs, unless --overwrite is given.

3D is the world position of the 32 joints, in metres. 2D ground truth is its projection by the four cameras, lens
distortion and all. Names of actions and what is left out are as in VideoPose3D's files, so that 2D detections made for
those fit: TakingPhoto is Photo, WalkingDog is WalkDog, and S11 Directions, whose video is damaged, is absent.
"""

import re
import sys
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks for modules beside the script only

from common.camera import Camera, load_cameras, world_to_image  # noqa: E402
from common.datasets import DATASETS  # noqa: E402
from common.errors import DataError, OneLineParser, UsageError, exit_code  # noqa: E402
from common.npz_files import write_npz  # noqa: E402
from common.pose_files import check_array, check_size, layout_metadata  # noqa: E402
from common.preparation import GOES_ON, SequenceCache, check_nothing_is_lost  # noqa: E402

H36M = DATASETS["h36m"]
CONVERSION = 1
"""One more whenever convert makes something else of the same files."""
SUBJECTS = H36M.subjects_train + H36M.subjects_test
# fmt: off
CLASSES = (
    "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting",
    "SittingDown", "Smoking", "Waiting", "WalkDog", "WalkTogether", "Walking",
)
# fmt: on
FILES_A_CLASS = 2
OTHER_NAMES = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}  # S1's files have these
DAMAGED = {("S11", "Directions")}

FOLDERS = ("D3_Positions", "Poses_D3_Positions")
"""What the .cdf files lie in; D3_Positions_mono and its like hold other coordinates."""
ARCHIVES = (".tgz", ".tar.gz", ".tar")
LARGEST_FILE = 1 << 28
"""Bytes of a .cdf file in an archive (the largest has some 4 MB): a member that claims more is refused, not read."""


@dataclass(frozen=True)
class Recording:
    """One .cdf file, wherever it is.

    Attributes:
        subject, action: as in the files that are made.
        source: the file on the disk, the .cdf itself or the archive around it.
        name: for messages.
        content: its bytes.
    """

    subject: str
    action: str
    source: Path
    name: str
    content: Callable[[], bytes]


def find_recordings(downloads: list[Path]) -> Iterator[Recording]:
    """All D3_Positions files of the subjects, an archive's in the order they have there.

    Raises:
        UsageError: a download is not there.
        DataError: an archive is damaged.
    """
    for download in downloads:
        if download.is_file():
            yield from _in_archive(download)
        elif download.is_dir():
            for archive in sorted(download.glob("Poses_D3_Positions_S*")):
                if archive.name.endswith(ARCHIVES):
                    yield from _in_archive(archive)
            for path in sorted(download.rglob("*.cdf")):
                recording = _recording(PurePosixPath(path.resolve().as_posix()), path, str(path), path.read_bytes)
                if recording:
                    yield recording
        else:
            raise UsageError(f"{download} not found; give an archive Poses_D3_Positions_S*.tgz or a folder of them")


def _in_archive(archive: Path) -> Iterator[Recording]:
    """Nothing is extracted: a member's name only says what is in it, and links and devices are passed over."""
    # An archive that does not name the subject inside is named after it.
    around = PurePosixPath(archive.name.split(".")[0].rsplit("_", 1)[-1])
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                content = partial(_member, tar, member, archive)
                recording = _recording(around / member.name, archive, f"{archive}: {member.name!a}", content)
                if recording and member.isfile():
                    yield recording
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive} is damaged or no archive ({error}); get it again") from None


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: Path) -> bytes:
    if member.size > LARGEST_FILE:
        raise DataError(f"{archive}: {member.name!a} has {member.size} bytes; expected a few million")
    try:
        return tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive} is damaged ({error}); get it again") from None


def _recording(place: PurePosixPath, source: Path, name: str, content: Callable[[], bytes]) -> Recording | None:
    """The recording at `place`, if it is D3_Positions of a subject and a class that are wanted."""
    subjects = [part for part in place.parts if re.fullmatch(r"S\d+", part)]
    named = re.fullmatch(r"([A-Za-z]+)( \d+)?\.cdf", place.name)
    if place.parent.name not in FOLDERS or not subjects or subjects[-1] not in SUBJECTS or not named:
        return None
    label = OTHER_NAMES.get(named[1], named[1])
    action = label + (named[2] or "")
    if label not in CLASSES or (subjects[-1], action) in DAMAGED:
        return None
    return Recording(subjects[-1], action, source, name, content)


def read_positions(content: bytes, name: str) -> np.ndarray:
    """The joints of a D3_Positions file: (N, 32, 3) float64, world, metres.

    Raises:
        DataError: cdflib is not installed, or the file is damaged or odd.
    """
    try:
        import cdflib  # here, because nothing else needs it
    except ImportError:
        raise DataError(
            "reading Human3.6M's .cdf files needs cdflib, which is not installed; pip install cdflib"
        ) from None
    with tempfile.TemporaryDirectory() as folder:  # cdflib reads from files alone
        path = Path(folder) / "positions.cdf"
        path.write_bytes(content)
        try:
            poses = np.asarray(cdflib.CDF(path).varget("Pose"))
        except Exception as error:  # damaged bytes make it raise nearly anything
            reason = (str(error).splitlines() or [""])[0][:150]
            raise DataError(f"{name} is damaged ({type(error).__name__}: {reason}); get it again") from None
    if poses.ndim == 3 and len(poses) == 1:  # one CDF record holds the whole sequence
        poses = poses[0]
    numbers = H36M.num_file_joints * 3
    check_array(poses, f"{name}: Pose", (-1, numbers), "mm")
    metres = poses.astype(np.float64).reshape(-1, H36M.num_file_joints, 3) / 1000
    check_size(metres - metres[:, :1], name)
    return metres


def convert(recording: Recording, cameras: list[Camera]) -> dict:
    """A sequence.

    Returns:
        world: (N, 32, 3) float32, metres; views: one (N, 17, 2) float32 a camera, pixels; inside: how many of those
        joints are inside their image.
    """
    world = read_positions(recording.content(), recording.name).astype(np.float32)
    views, inside = [], 0
    for camera in cameras:
        pixels, depth = world_to_image(world[:, H36M.kept_joints].astype(np.float64), camera)
        in_image = (pixels >= 0).all(axis=-1) & (pixels < [camera.width, camera.height]).all(axis=-1) & (depth > 0)
        inside += int(in_image.sum())
        views.append(pixels.astype(np.float32))
    return {"world": world, "views": views, "inside": inside}


def prepare(downloads: list[Path], out: Path, overwrite: bool = False) -> None:
    """Convert what the downloads hold and write the two files into `out`; prints what was done and what is missing.

    Raises:
        UsageError: a download is not there.
        DataError: there is nothing in them, a file is damaged or odd, or sequences of an old file would be lost.
    """
    path_3d, path_2d = out / "data_3d_h36m.npz", out / "data_2d_h36m_gt.npz"
    if not overwrite and (path_3d.exists() or path_2d.exists()):
        names = {f"{recording.subject} {recording.action}" for recording in find_recordings(downloads)}
        if names:
            check_nothing_is_lost(path_3d, "positions_3d", 2, names)
            check_nothing_is_lost(path_2d, "positions_2d", 2, names)
    cameras = load_cameras(H36M.camera_file)
    cache = SequenceCache(out / "prepare_h36m.cache", CONVERSION, {})
    found: dict[str, dict[str, dict]] = {subject: {} for subject in SUBJECTS}
    expected = len(SUBJECTS) * len(CLASSES) * FILES_A_CLASS - len(DAMAGED)
    with tqdm(total=expected, unit="sequence", desc="Human3.6M", disable=None) as bar:
        for recording in find_recordings(downloads):
            subject, action = recording.subject, recording.action
            if action in found[subject]:
                bar.write(f"{recording.name}: {subject} {action} is there already, passed over")
                continue
            found[subject][action] = cache.get(
                f"{subject}/{action}",
                [recording.source],
                lambda recording=recording, views=cameras[subject]: convert(recording, views),
            )
            bar.update()
    if not any(found.values()):
        raise DataError(
            f"no D3_Positions/*.cdf of {', '.join(SUBJECTS)} in {', '.join(map(str, downloads))}; "
            "data/README.md says what to download"
        )
    for line in _missing(found):
        print(f"missing, left out: {line}")
    found = {subject: dict(sorted(actions.items())) for subject, actions in found.items() if actions}
    for subject, actions in found.items():
        frames = sum(len(sequence["world"]) for sequence in actions.values())
        joints = frames * len(cameras[subject]) * H36M.skeleton.num_joints
        inside = sum(sequence["inside"] for sequence in actions.values()) / joints
        print(f"{subject}: {len(actions)} sequences, {frames} frames; {inside:.2%} of the joints are inside the images")
    positions_3d = {s: {action: sequence["world"] for action, sequence in found[s].items()} for s in found}
    positions_2d = {s: {action: sequence["views"] for action, sequence in found[s].items()} for s in found}
    write_npz(path_3d, positions_3d=positions_3d)
    write_npz(path_2d, positions_2d=positions_2d, metadata=layout_metadata(H36M.skeleton))
    print(f"wrote {path_3d} and {path_2d}: {', '.join(found)}")
    cache.remove()


def _missing(found: dict[str, dict]) -> Iterator[str]:
    """What of the data set was not there, a subject or a class a line."""
    for subject in SUBJECTS:
        if not found[subject]:
            yield f"{subject} (Poses_D3_Positions_{subject}.tgz)"
            continue
        counts = Counter(action.split(" ")[0] for action in found[subject])
        for name in CLASSES:
            wanted = FILES_A_CLASS - ((subject, name) in DAMAGED)
            if counts[name] < wanted:
                yield f"{subject} {name}, {wanted - counts[name]} of {wanted} files"


def run(argv) -> None:
    parser = OneLineParser(description="Make the Human3.6M files from D3_Positions as downloaded.")
    parser.add_argument(
        "downloads", metavar="DOWNLOAD", nargs="+", help="archives, or a folder of them or of S1 ... S11"
    )
    parser.add_argument("--out", metavar="DIR", default=str(ROOT / "data"), help="where to write (default: data)")
    parser.add_argument("--overwrite", action="store_true", help="replace files even if sequences of them are lost")
    options = parser.parse_args(argv)
    prepare(list(map(Path, options.downloads)), Path(options.out), options.overwrite)


def main(argv=None) -> int:
    return exit_code(lambda: run(argv), after_interrupt=GOES_ON)


if __name__ == "__main__":
    sys.exit(main())
