"""Checks that every reader of pose files makes: a clear line for what is absent or odd."""

from pathlib import Path

import numpy as np

from common.errors import DataError, UsageError
from common.npz_files import read_npz
from common.skeleton import Skeleton

LARGEST_SCREEN = 2.0
"""Screen coordinates are -1 to 1, a little more outside the picture; a person in pixels is larger."""
LARGEST_POSE = 5.0
"""Metres: no joint is farther from the root. A larger number is another unit."""
SMALLEST_POSE = 0.05
"""Metres: some joint is farther from the root in some frame. Less is another unit, or nobody."""
LARGEST_NUMBERS = {"pixels": 1e6, "metres": 1e3, "mm": 1e6}
"""By unit: a number beyond is none of that unit; there is no such picture, and nobody is seen a kilometre away."""


def read_pose_file(path: Path, keys: list[str], optional: tuple[str, ...] = ()) -> list:
    """The named members of an npz file of poses; None for an optional one that is not there.

    Raises:
        DataError: the file is absent (the line lists what is there instead), damaged or has other keys.
    """
    if not path.exists():
        stem = path.name.rsplit("_", 1)[0] if path.name.startswith("data_3d") else "_".join(path.name.split("_")[:3])
        there = sorted(other.name for other in path.parent.glob(f"{stem}*.npz"))
        found = f"; there is {', '.join(there)}" if there else ""
        raise DataError(f"{path} not found{found}; data/README.md shows where to get it or how to make it")
    members = read_npz(path, keys, optional)
    return [members.get(key) for key in (*keys, *optional)]


def subject_tree(tree: object, path: Path, key: str) -> dict[str, dict]:
    """The file's subject -> action -> ... mapping, checked to be one; each subject's is its own, to be emptied as it is
    read, also where the file has one for two subjects."""
    if not isinstance(tree, dict) or not all(isinstance(actions, dict) for actions in tree.values()):
        raise DataError(f"{path}: {key} is not a dict of subjects, each a dict of actions; make the file anew")
    if not tree:
        raise DataError(f"{path}: {key} has no subjects; make the file anew")
    for subject, actions in tree.items():
        if not actions or not all(isinstance(name, str) and name.isprintable() for name in (subject, *actions)):
            raise DataError(
                f"{path}: {key} has a subject without actions or a name that is no text; make the file anew"
            )
    return {subject: dict(actions) for subject, actions in tree.items()}


def check_array(array: object, where: str, shape: tuple[int, ...], unit: str, dtype: type = np.float32) -> np.ndarray:
    """`array` as `dtype`, of the shape asked for (-1: any), all numbers finite and such as the unit has.

    Raises:
        DataError: one line that begins with `where`.
    """
    wanted = "(" + ", ".join("N" if size < 0 else str(size) for size in shape) + ")"
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DataError(f"{where} is {type(array).__name__}; expected an array {wanted} of {unit}")
    if array.ndim != len(shape) or any(size not in (-1, found) for size, found in zip(shape, array.shape, strict=True)):
        raise DataError(f"{where} has shape {array.shape}; expected {wanted} {unit}")
    if len(array) == 0:
        raise DataError(f"{where} has no frames; leave it out of the file or out of -a")
    with np.errstate(over="ignore"):
        array = array.astype(dtype)
    if not np.isfinite(array).all():
        frame = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(f"{where} is not a finite number in frame {frame}; mend the file or leave the clip out")
    largest = float(np.abs(array).max(initial=0))
    if largest > LARGEST_NUMBERS.get(unit, np.inf):
        hint = " (is it millimetres?)" if unit == "metres" else ""
        raise DataError(f"{where} has the number {largest:.3g}; expected {unit}{hint}: mend the file")
    return array


def is_list(value: object) -> bool:
    """Whether it has entries one after another, as a file's list of views has: a list, a tuple or an array of any."""
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def check_pixels(pixels: object, where: str, skeleton: Skeleton) -> np.ndarray:
    """2D poses (N, J, 2) in pixels, and not in screen coordinates, which span two units.

    Raises:
        DataError: one line that begins with `where`.
    """
    pixels = check_array(pixels, where, (-1, skeleton.num_joints, 2), "pixels")
    if np.abs(pixels).max() <= LARGEST_SCREEN:
        raise DataError(f"{where} has no number above {np.abs(pixels).max():.2g}; expected pixels (is it normalised?)")
    return pixels


def layout_metadata(skeleton: Skeleton) -> dict:
    """What a 2D file says of its joints: they are the skeleton's, in its order."""
    return {
        "layout_name": skeleton.name,
        "num_joints": skeleton.num_joints,
        "keypoints_symmetry": [list(skeleton.joints_left), list(skeleton.joints_right)],
    }


def check_layout(metadata: object, path: Path, skeleton: Skeleton) -> None:
    """The 2D joints are in the skeleton's order, as far as the file says."""
    if not isinstance(metadata, dict) or "keypoints_symmetry" not in metadata:
        raise DataError(f"{path}: metadata has no keypoints_symmetry; expected layout_name, num_joints and that")
    num_joints = metadata.get("num_joints", skeleton.num_joints)
    layout = metadata.get("layout_name", "unnamed")
    for name, value, kind in (("num_joints", num_joints, (int, np.integer)), ("layout_name", layout, str)):
        if not isinstance(value, kind):
            expected = "text" if kind is str else "a whole number"
            raise DataError(f"{path}: metadata's {name} is of type {type(value).__name__}; expected {expected}")
    try:
        left, right = metadata["keypoints_symmetry"]
        found = {(int(a), int(b)) for a, b in zip(left, right, strict=True)}
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: keypoints_symmetry is not a pair of lists, left joints and right ones") from None
    if num_joints != skeleton.num_joints or found != set(zip(skeleton.joints_left, skeleton.joints_right, strict=True)):
        raise DataError(
            f"{path}: 2D joints in the layout '{layout[:40]}' ({num_joints} joints); expected the "
            f"{skeleton.num_joints} joints of '{skeleton.name}' in its order ({skeleton.joint_names[0]} first)"
        )


def check_size(poses: np.ndarray, where: str, unit: str = "metres", per_metre: int = 1) -> None:
    """Root-relative poses (N, J, 3) are of a person's size in the unit."""
    largest = float(np.abs(poses).max())
    if largest > LARGEST_POSE * per_metre:
        raise DataError(
            f"{where} has a joint {largest:.0f} from the root; expected {unit}"
            + (" (is it millimetres?)" if per_metre == 1 else "")
        )
    if per_metre > 1 and largest <= LARGEST_POSE:
        raise DataError(
            f"{where} has no joint farther than {largest:.2g} from the root; expected {unit} (is it metres?)"
        )
    if largest < SMALLEST_POSE * per_metre:
        raise DataError(f"{where} has no joint farther than {largest:.2g} from the root; expected a person, in {unit}")


def choose_subjects(tree: dict[str, dict], subjects: tuple[str, ...], path: Path) -> list[str]:
    """The asked-for subjects; all that the file has if none is asked for.

    Raises:
        UsageError: one is not there.
    """
    for subject in subjects:
        if subject not in tree:
            raise UsageError(f"no subject '{subject}' in {path}; it has {', '.join(map(str, tree))}")
    return list(dict.fromkeys(subjects)) or list(tree)
