"""Files of 2D pose detectors to people per frame: AlphaPose, OpenPose, MMPose, rtmlib, Detectron, and our own npz.

What is accepted, told apart by content (data/README.md shows each):

    AlphaPose   a JSON list of {image_id, keypoints [x, y, confidence] * J, score, idx}; its formats "open" and "cmu", a
                dict image -> {people: [...]} or {bodies: [...]}; PoseFlow's dict image -> a list of people; or a folder
                of such files, one a frame
    OpenPose    a folder of *_keypoints.json, each {people: [{pose_keypoints_2d}]}
    MMPose      {meta_info, instance_info: [{frame_id, instances: [{keypoints, keypoint_scores}]}]} (demos), or the list
                alone (inferencer)
    rtmlib      a JSON list, one entry a frame: {keypoints (people, J, 2), scores (people, J)}, if it likes
                with frame_id
    Detectron   npz with boxes and keypoints, per frame and class, as VideoPose3D's inference writes it
    own         npz with keypoints (N, J, 2 or 3: x, y, confidence), optionally layout, a name of LAYOUTS

NaN, and null in JSON, say of a joint that it was not found.

Nothing in a file is run, and a file past a limit is refused before the memory is taken.
"""

import os
import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from common.errors import DataError, UsageError
from common.files import read_json
from common.joint_conversions import LAYOUTS, LAYOUTS_OF_COUNT
from common.npz_files import read_npz

MAX_FRAMES = 1_000_000
"""Nine hours at 30 frames a second: a larger frame number is a mistake."""

_MMPOSE_LAYOUTS = {"coco": "coco17", "coco_wholebody": "coco133", "halpe26": "halpe26", "h36m": "h36m17"}
_ACCEPTED = "JSON of AlphaPose, OpenPose, MMPose or rtmlib, or an npz with keypoints (data/README.md shows each)"


@dataclass(frozen=True)
class Person:
    """One person in one frame."""

    keypoints: np.ndarray
    """(J, 2) float64, pixels; NaN where the joint was not found."""
    confidences: np.ndarray
    """(J,) float64, the detector's own scale; 0 where the joint was not found."""
    score: float
    """How sure the detector is of the person; the mean confidence where the file has none."""
    identity: str | None = None
    """The file's own name for the person, the same in all frames."""

    @property
    def box_area(self) -> float:
        """Of the box around the joints that were found, square pixels."""
        return float(np.prod(np.nanmax(self.keypoints, axis=0) - np.nanmin(self.keypoints, axis=0)))


@dataclass(frozen=True)
class Detections:
    """What a detector saw, frame by frame."""

    tool: str
    layout: str
    """A name of LAYOUTS."""
    assumed: bool
    """Whether the layout was taken for granted where another has as many joints."""
    frames: list[list[Person]]
    first_number: int
    """The file's number of frames[0], the clip's first: it is at 0 seconds."""
    size: tuple[int, int] | None = None
    """The image's width and height, where the file says."""
    first_guess: str = ""
    """What was taken for granted of the clip's first frame, where the file leaves frames out before its own first."""


def read_detections(path: str | os.PathLike, layout: str | None = None, first_frame: int | None = None) -> Detections:
    """Everybody that a file or folder of detections has.

    Args:
        path: see the top of this module.
        layout: the joints' layout, a name of LAYOUTS; None takes it from the file or the number of joints.
        first_frame: the number of the clip's first frame in the file's own count, where nobody may have been found;
            None takes 0 for AlphaPose's count of a video's frames, else the smallest number there is.

    Raises:
        UsageError: layout or first_frame do not fit, or the layout must be given.
        DataError: the file is absent, too large, damaged, of an unknown format, or holds what is no keypoint.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} not found; give the file or folder that the detector wrote")
    if path.is_dir():
        found = _read_folder(path)
    elif path.suffix == ".npz":
        found = _read_keypoint_npz(path)
    else:
        found = _read_content(_read_json(path), path)
    frames, first_number, smallest = _in_order(found, path, first_frame)
    counts = {len(person.confidences) for people in frames for person in people}
    if not counts:
        listed = sum(len(people) for _, people in found.entries)
        why = f": the confidences of all {listed} are 0 throughout; write the detector's own" if listed else ""
        raise DataError(f"{path} has no detection of anybody in {len(frames)} frames{why}")
    if len(counts) > 1:
        raise DataError(f"{path} has people with {' and '.join(map(str, sorted(counts)))} joints; expected one layout")
    largest = max(float(np.nanmax(np.abs(person.keypoints))) for people in frames for person in people)
    if largest <= 1:
        raise DataError(f"{path} has no coordinate beyond 1; expected pixels (OpenPose: --keypoint_scale 0)")
    name = _choose_layout(counts.pop(), found, layout, path)
    assumed = layout is None and found.layout is None and len(LAYOUTS_OF_COUNT[LAYOUTS[name].num_joints]) > 1
    guess = ""
    if first_frame is None and smallest > first_number:
        guess = f"the clip begins with frame {first_number}, as {found.tool} counts; the file's first is {smallest}"
    elif first_frame is None and smallest > 1:  # detectors count from 0 or from 1
        guess = f"the clip begins with frame {smallest}, the file's first"
    if guess:
        guess += ": taken for granted (--first-frame says otherwise)"
    return Detections(found.tool, name, assumed, frames, first_number, found.size, guess)


@dataclass(frozen=True)
class _Found:
    """A file's content; `entries` are (label of the frame, its people), and a label is a number or an image's name."""

    tool: str
    entries: Sequence[tuple[int | str, list[Person]]]
    layout: str | None = None
    size: tuple[int, int] | None = None


def _choose_layout(num_joints: int, found: _Found, asked: str | None, path: Path) -> str:
    known = LAYOUTS_OF_COUNT.get(num_joints)
    if not known:
        counts = ", ".join(f"{count} ({' or '.join(names)})" for count, names in LAYOUTS_OF_COUNT.items())
        raise DataError(f"{path} has {num_joints} joints a person; expected {counts}")
    name = asked or found.layout
    if name is None:
        if len(known) > 1 and found.tool == "keypoints":
            raise UsageError(f"{path} has {num_joints} joints and no `layout`; say --layout {' or '.join(known)}")
        return known[0]  # 17 joints of a detector are COCO's
    if name not in LAYOUTS:
        raise UsageError(f"{path} says its layout is '{name}'; give --layout, one of {', '.join(LAYOUTS)}")
    if name not in known:
        raise UsageError(f"{path} has {num_joints} joints, and {name} has {LAYOUTS[name].num_joints}; see --layout")
    return name


# --- frames ---


def _in_order(found: _Found, path: Path, first_frame: int | None) -> tuple[list[list[Person]], int, int]:
    """People by frame, the number of the first one, and the smallest in the file.

    A frame that the file leaves out has nobody.
    """
    entries = found.entries
    labels = list(dict.fromkeys(label for label, _ in entries))
    if not labels:
        raise DataError(f"{path} has no detections at all")
    numbers = [number for label in labels if (number := _frame_number(label)) is not None]
    if len(numbers) < len(labels):  # names without numbers: as they stand
        numbers = list(range(len(labels)))
    label_of: dict[int, int | str] = {}
    for label, number in zip(labels, numbers, strict=True):
        if number in label_of:
            raise DataError(
                f"{path}: '{label_of[number]}' and '{label}' are both frame {number}; expected one video a file"
            )
        label_of[number] = label
    first = _default_first(found.tool, labels, numbers) if first_frame is None else first_frame
    if min(numbers) < first:
        raise UsageError(f"--first-frame {first} was given and {path} has frame {min(numbers)}; give that or less")
    count = max(numbers) - first + 1
    if count > MAX_FRAMES:
        raise DataError(f"{path} has frames {first} to {max(numbers)}; expected at most {MAX_FRAMES} frames")
    frames: list[list[Person]] = [[] for _ in range(count)]
    number_of = dict(zip(labels, numbers, strict=True))
    for label, people in entries:
        frames[number_of[label] - first].extend(person for person in people if person.confidences.any())
    return frames, first, min(numbers)


def _default_first(tool: str, labels: Sequence[int | str], numbers: Sequence[int]) -> int:
    """AlphaPose calls a video's frames 0.jpg, 1.jpg, ... and leaves out those in which it finds nobody.

    Images of a folder keep their names there, mostly with zeros before the number: nobody knows where these begin.
    """
    of_video = tool == "AlphaPose" and all(
        isinstance(label, str) and re.fullmatch(r"(0|[1-9][0-9]*)\.\w+", label) for label in labels
    )
    return 0 if of_video and max(numbers) < MAX_FRAMES else min(numbers)


def _frame_number(label: int | str) -> int | None:
    """5 of 5, "5.jpg", "street_000005.png" or "street_000000000005_keypoints.json"."""
    if isinstance(label, int):
        return label
    digits = re.findall(r"[0-9]{1,18}", Path(label).stem)
    return int(digits[-1]) if digits else None


def _frame_label(value: object, where: str) -> int | str:
    if isinstance(value, str) and value.isprintable():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise DataError(f"{where} has the frame {_show(value)}; expected a number or an image's name")


# --- people ---


def _person(values: object, where: str, score: object = None, identity: object = None) -> Person:
    """Of J * 3 numbers or (J, 3): x, y, confidence; NaN among them: the joint was not found."""
    table = _numbers(values, where, with_gaps=True)
    if table.ndim == 1 and table.size % 3 == 0:
        table = table.reshape(-1, 3)
    if table.ndim != 2 or table.shape[1] != 3 or not table.size:
        raise DataError(f"{where} has keypoints of shape {table.shape}; expected x, y and confidence of every joint")
    keypoints, confidences = table[:, :2].copy(), table[:, 2].copy()
    missing = np.isnan(table).any(axis=1)
    confidences[missing] = 0
    keypoints[missing | ((confidences == 0) & (keypoints == 0).all(axis=1))] = np.nan  # zeros: how OpenPose says it
    stated = _numbers([] if score is None else score, f"{where}: score")
    sureness = stated.item() if stated.size == 1 else confidences.mean()
    return Person(keypoints, confidences, float(sureness), _identity(identity))


def _scored_person(keypoints: object, confidences: object, where: str, **extra: object) -> Person:
    """Of (J, 2) and (J,)."""
    points, trusts = _numbers(keypoints, where, with_gaps=True), _numbers(confidences, where, with_gaps=True)
    if points.ndim != 2 or points.shape[1] not in (2, 3) or trusts.shape != points.shape[:1]:
        raise DataError(f"{where} has keypoints {points.shape} and scores {trusts.shape}; expected (J, 2) and (J,)")
    return _person(np.column_stack([points[:, :2], trusts]), where, **extra)


def _numbers(values: object, where: str, with_gaps: bool = False) -> np.ndarray:
    """As float64, finite; with gaps, NaN is let through, which null in JSON is too."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where} has {_show(values)}; expected numbers, as many for every joint") from None
    if not (np.isfinite(array) | (with_gaps & np.isnan(array))).all():
        raise DataError(f"{where} has a number that is not finite; mend the file or leave the frame out")
    return array


def _identity(value: object) -> str | None:
    """AlphaPose writes 1, 1.0 or [[1.0]]; OpenPose's -1 is nobody in particular."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (int, str)) and value not in (-1, "") else None


def _show(value: object) -> str:
    shown = " ".join(reprlib.repr(value).split())  # reprlib: a whole file is never turned into text
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _each(items: object, where: str, keys: tuple[str, ...] = ()) -> list[dict]:
    """A list of dicts that have the keys."""
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError(f"{where} is {_show(items)}; expected a list of dicts")
    for number, item in enumerate(items):
        for key in keys:
            if key not in item:
                raise DataError(f"{where}, entry {number}: no '{key}', only {_show(list(item))}")
    return items


# --- JSON ---


def _read_json(path: Path) -> object:
    return read_json(path, f"cut a long video into parts; expected {_ACCEPTED}")


def _read_content(content: Any, path: Path) -> _Found:
    """The first format whose mark the content has."""
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(content, (list, dict)) and not content:
        raise DataError(f"{path} is empty; expected detections")
    if isinstance(first, dict):
        for keys, read in _LISTS:
            if keys <= first.keys():
                return read(content, path)
    if isinstance(content, dict):
        if "instance_info" in content:
            return _mmpose(content["instance_info"], path, content.get("meta_info"))
        if {"people", "bodies"} & content.keys():
            raise DataError(f"{path} is a single frame; give the folder with all of them")
        if {"images", "annotations"} <= content.keys():
            raise DataError(
                f"{path} is COCO's annotations, not what a detector found in a video; expected its results: {_ACCEPTED}"
            )
        if not any(_is_frame(value) for value in content.values()):
            raise DataError(f"{path} has {_show(list(content))}; expected {_ACCEPTED}")
        return _Found(
            "AlphaPose",
            [(_frame_label(name, f"{path}"), _people(value, f"{path}: {name}")) for name, value in content.items()],
        )
    raise DataError(f"{path} begins with {_show(first if first is not None else content)}; expected {_ACCEPTED}")


def _alphapose(content: list, path: Path) -> _Found:
    entries = []
    for number, item in enumerate(_each(content, f"{path}", ("image_id", "keypoints"))):
        label = _frame_label(item["image_id"], f"{path}, entry {number}")
        entries.append((label, [_listed_person(item, f"{path}: {label}")]))
    return _Found("AlphaPose", entries)


def _mmpose(content: object, path: Path, meta_info: object = None) -> _Found:
    name = meta_info.get("dataset_name") if isinstance(meta_info, dict) else None
    entries = []
    for item in _each(content, f"{path}: instance_info", ("frame_id", "instances")):
        label = _frame_label(item["frame_id"], f"{path}: instance_info")
        where = f"{path}: frame {label}"
        people = [
            _scored_person(
                person["keypoints"],
                person["keypoint_scores"],
                where,
                score=person.get("bbox_score"),
                identity=person.get("track_id"),
            )
            for person in _each(item["instances"], where, ("keypoints", "keypoint_scores"))
        ]
        entries.append((label, people))
    return _Found("MMPose", entries, None if name is None else _MMPOSE_LAYOUTS.get(name, name))


def _rtmlib(content: list, path: Path) -> _Found:
    entries = []
    numbered = all("frame_id" in item for item in _each(content, f"{path}", ("keypoints", "scores")))
    for number, item in enumerate(content):
        label = _frame_label(item["frame_id"], f"{path}, entry {number}") if numbered else number
        where = f"{path}: frame {label}"
        keypoints, scores = (_numbers(item[name], where, with_gaps=True) for name in ("keypoints", "scores"))
        if keypoints.ndim == 2 and scores.ndim == 1:  # one person, without the axis of people
            keypoints, scores = keypoints[None], scores[None]
        if not keypoints.size:
            keypoints = scores = np.empty(0)
        if len(keypoints) != len(scores):
            raise DataError(f"{where} has keypoints of {len(keypoints)} people and scores of {len(scores)}")
        entries.append((label, [_scored_person(*pair, where) for pair in zip(keypoints, scores, strict=True)]))
    return _Found("rtmlib", entries)


_LISTS: tuple[tuple[set[str], Callable[[list, Path], _Found]], ...] = (
    ({"image_id", "keypoints"}, _alphapose),
    ({"frame_id", "instances"}, _mmpose),
    ({"keypoints", "scores"}, _rtmlib),
)
"""What the entries of a list have -> its reader."""


def _is_frame(value: object) -> bool:
    """Whether it looks like what `_people` reads."""
    if isinstance(value, dict):
        return not {"people", "bodies"}.isdisjoint(value)
    return isinstance(value, list) and all(isinstance(item, dict) and "keypoints" in item for item in value)


def _people(frame: object, where: str) -> list[Person]:
    """One frame of OpenPose's or of AlphaPose's grouped formats: a dict with people or bodies, or a list of people."""
    if isinstance(frame, dict):
        for group, key in (("people", "pose_keypoints_2d"), ("bodies", "joints")):
            if group in frame:
                people = _each(frame[group], where, (key,))
                return [_person(item[key], where, identity=item.get("person_id")) for item in people if item[key]]
        raise DataError(f"{where} has {_show(list(frame))}; expected {_ACCEPTED}")
    return [_listed_person(item, where) for item in _each(frame, where, ("keypoints",))]


def _listed_person(item: dict, where: str) -> Person:
    """AlphaPose's person; PoseFlow has the confidences apart, in `scores`."""
    extra = {"score": item.get("score"), "identity": item.get("idx")}
    if "scores" in item:
        keypoints, scores = (_numbers(item[name], where, with_gaps=True).ravel() for name in ("keypoints", "scores"))
        if keypoints.size == 2 * scores.size:
            return _scored_person(keypoints.reshape(-1, 2), scores, where, **extra)
    return _person(item["keypoints"], where, **extra)


def _read_folder(path: Path) -> _Found:
    """One file a frame."""
    files = sorted(path.glob("*_keypoints.json")) or sorted(path.glob("*.json"))
    if not files:
        raise DataError(f"{path} has no *.json; expected the folder that OpenPose's --write_json filled")
    if len(files) > MAX_FRAMES:
        raise DataError(f"{path} has {len(files)} files; expected at most {MAX_FRAMES}, one a frame")
    openpose = files[0].name.endswith("_keypoints.json")
    entries = [(file.name, _people(_read_json(file), str(file))) for file in _progress(files, path)]
    return _Found("OpenPose" if openpose else "AlphaPose", entries)


def _progress(files: list[Path], path: Path) -> Iterable[Path]:
    return tqdm(files, desc=path.name, unit="frame", leave=False, disable=None)


# --- npz ---


def _read_keypoint_npz(path: Path) -> _Found:
    members = read_npz(path)
    if "keypoints" not in members:
        raise DataError(f"{path} has {', '.join(members) or 'no member'}; expected keypoints (N, J, 2 or 3)")
    return _detectron(members, path) if "boxes" in members else _own(members, path)


def _own(members: dict, path: Path) -> _Found:
    keypoints = members["keypoints"]
    if not isinstance(keypoints, np.ndarray) or keypoints.dtype.kind not in "fiu":
        raise DataError(f"{path}: keypoints is {type(keypoints).__name__}; expected an array (N, J, 2 or 3)")
    if keypoints.ndim != 3 or keypoints.shape[2] not in (2, 3):
        raise DataError(f"{path}: keypoints has shape {keypoints.shape}; expected (N, J, 2 or 3)")
    entries: list[tuple[int, list[Person]]] = []
    for number, table in enumerate(keypoints.astype(np.float64)):
        if np.isnan(table).all():  # nobody there
            entries.append((number, []))
            continue
        if table.shape[1] == 2:
            table = np.column_stack([table, np.ones(len(table))])
        entries.append((number, [_person(table, f"{path}: frame {number}")]))
    layout = members.get("layout")
    return _Found("keypoints", entries, None if layout is None else str(layout))


def _detectron(members: dict, path: Path) -> _Found:
    """boxes[frame][1] (people, 5), the last a score; keypoints[frame][1] (people, 4, 17): x, y, logit, probability."""
    boxes, keypoints = members["boxes"], members["keypoints"]
    if not hasattr(boxes, "__len__") or not hasattr(keypoints, "__len__") or len(boxes) != len(keypoints):
        raise DataError(f"{path}: boxes and keypoints are not of the same frames; write the file anew")
    entries: list[tuple[int, list[Person]]] = []
    for number, (frame_boxes, frame_keypoints) in enumerate(zip(boxes, keypoints, strict=True)):
        where = f"{path}: frame {number}"
        try:
            tables, scores = _numbers(frame_keypoints[1], where, with_gaps=True), _numbers(frame_boxes[1], where)
        except (TypeError, IndexError):
            raise DataError(f"{where} is {_show(frame_keypoints)}; expected [background, people]") from None
        if not tables.size or not scores.size:
            entries.append((number, []))
            continue
        if tables.ndim != 3 or tables.shape[1] not in (3, 4) or scores.ndim != 2 or len(scores) != len(tables):
            raise DataError(
                f"{where} has keypoints {tables.shape} and boxes {scores.shape}; expected (K, 4, J), (K, 5)"
            )
        people = [_person(table[[0, 1, -1]].T, where, score=box[-1]) for table, box in zip(tables, scores, strict=True)]
        entries.append((number, people))
    return _Found("Detectron", entries, "coco17", _size(members.get("metadata")))


def _size(metadata: Any) -> tuple[int, int] | None:
    try:
        return int(metadata["w"]), int(metadata["h"])
    except (TypeError, KeyError, ValueError, IndexError):
        return None
