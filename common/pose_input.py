"""What a user brings to `predict.py`, whatever it is, as people's keypoints over time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.camera import Camera, load_cameras
from common.datasets import DATASETS
from common.errors import DataError, UsageError
from common.h36m_dataset import check_confidences
from common.joint_conversions import LAYOUTS, joints_in_h36m
from common.keypoint_checks import doubts
from common.keypoint_formats import Detections, read_detections
from common.keypoint_tracks import KeypointTrack, Track, find_tracks, keypoint_track
from common.npz_files import read_npz
from common.pose_files import check_array, check_layout, check_pixels, subject_tree
from common.skeleton import H36M, Skeleton
from common.video_frames import IMAGE_SUFFIXES

SHORTEST_TRACK = 10
"""People found in fewer frames are left out, where the clip has more: they are mostly none."""

LARGEST_GUESS = 0.25
"""Of a person's joints: beyond this part, filled in, the motion is more ours than theirs."""


@dataclass(frozen=True)
class PersonTrack:
    """One person from the first frame in which they were found to the last. N frames, J joints."""

    name: str
    keypoints: np.ndarray
    """(N, J, 2) float32, pixels, without gaps."""
    confidences: np.ndarray
    """(N, J) float32; 0 where the keypoint was filled in."""
    first: int
    """The clip's frame, from 0, that is frame 0 here."""
    notes: list[str] = field(default_factory=list)
    """What was done to the keypoints, and what is odd about them."""


@dataclass(frozen=True)
class PoseInput:
    """A clip and the people in it."""

    read: str
    """What was read, for people."""
    title: str
    """Its name, over pictures."""
    people: list[PersonTrack]
    first_number: int = 0
    """The number of the clip's first frame, as the input counts."""
    size: tuple[int, int] | None = None
    """Of the image, where the input says."""
    fps: float | None = None
    camera: Camera | None = None
    """Where the input's camera is known."""
    notes: list[str] = field(default_factory=list)


def is_keypoints(path: Path) -> bool:
    """Whether that is a detector's work, by its name; else it is for `common.video_frames.open_images`.

    Raises:
        DataError: it is neither.
    """
    if not path.exists():
        raise DataError(f"{path} not found; give a video, a folder of images, or keypoints (data/README.md)")
    if not path.is_dir():
        return path.suffix.lower() in (".json", ".npz")
    suffixes = {file.suffix.lower() for file in path.iterdir()}
    if ".json" not in suffixes and not suffixes & set(IMAGE_SUFFIXES):
        raise DataError(
            f"{path} has no images ({', '.join(IMAGE_SUFFIXES)}) and no *.json of a detector; give a folder of either"
        )
    return ".json" in suffixes


def of_detections(
    detections: Detections,
    where: str,
    skeleton: Skeleton,
    person: Sequence[str] = (),
    min_confidence: float = 0.0,
) -> PoseInput:
    """Everybody that a detector found, each as the skeleton's joints, without gaps.

    Args:
        detections: what it found.
        where: what messages begin with.
        skeleton: whose joints are wanted.
        person: names of tracks, "3+8" for one person in two; none: everybody who is there long enough.
        min_confidence: joints below it count as not found.

    Raises:
        UsageError: there is no such person.
        DataError: nobody is left.
    """
    surest = max(float(someone.confidences.max()) for people in detections.frames for someone in people)
    if surest < min_confidence:
        raise DataError(
            f"{where}: no joint of anybody has a confidence of {min_confidence:g}, the highest is {surest:.3g}; give a "
            "lower --min-confidence, or 0"
        )
    tracks = find_tracks(detections.frames)
    begin = next(frame for frame, people in enumerate(detections.frames) if people) if detections.first_guess else 0
    least = min(SHORTEST_TRACK, -(-(len(detections.frames) - begin) // 2))
    groups = [tuple(name.split("+")) for name in person] or [(name,) for name in tracks if len(tracks[name]) >= least]
    people, notes = [], [detections.first_guess] if detections.first_guess else []
    short = [name for name in tracks if len(tracks[name]) < least]
    if short and not person:
        notes.append(f"left out: {_some(short)}, found in fewer than {least} frames (--person takes them)")
    if not groups:
        raise DataError(f"{where}: nobody is found in {least} frames or more; --person takes {_some(short)}")
    failure: DataError | None = None
    for group in groups:
        try:
            track = keypoint_track(detections, tracks, group, where, min_confidence=min_confidence)
            people.append(_person(track, tracks, skeleton))
        except DataError as error:
            failure = error
            notes.append(f"left out: person {'+'.join(group)}: {error}")
    if not people:
        assert failure is not None  # a group that is not in people has failed
        raise failure
    layout = LAYOUTS[detections.layout]
    guess = ", taken for granted (--layout says otherwise)" if detections.assumed else ""
    read = f"{detections.tool}, {layout.num_joints} joints: {layout.name}{guess}; {len(detections.frames)} frames"
    return PoseInput(read, Path(where).stem, people, detections.first_number, detections.size, notes=notes)


def _person(track: KeypointTrack, tracks: dict[str, Track], skeleton: Skeleton) -> PersonTrack:
    joints = joints_in_h36m(skeleton)
    found = np.flatnonzero(track.confidences.any(axis=1))
    there = slice(found[0], found[-1] + 1)
    keypoints, confidences = track.points[there][:, joints], track.confidences[there][:, joints]
    empty = int((~confidences.any(axis=1)).sum())
    notes = [f"made of other joints: {', '.join(track.made)}"] if track.made else []
    before, after = int(found[0]), len(track.points) - 1 - int(found[-1])
    if before or after:
        notes.append(f"frames without an answer: {before} before the person's first, {after} after their last")
    if empty or track.missing_joints:
        notes.append(
            f"filled in over time: {empty} of {len(keypoints)} frames, where they were not found (longest run "
            f"{track.longest_inner_gap}), and {track.missing_joints} single joints elsewhere"
        )
    notes += [f"warning: {doubt}" for doubt in doubts(keypoints, skeleton)]
    guessed = float((confidences == 0).mean())
    if guessed > LARGEST_GUESS:
        notes.append(f"warning: {guessed:.0%} of the joints are filled in; a lower --min-confidence may keep more")
    return PersonTrack("+".join(track.chosen), keypoints, confidences, int(found[0]), notes)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def read_keypoints(
    path: Path,
    skeleton: Skeleton,
    *,
    layout: str | None = None,
    first_frame: int | None = None,
    person: Sequence[str] = (),
    min_confidence: float = 0.0,
    subject: str | None = None,
    action: str | None = None,
    view: int = 0,
) -> PoseInput:
    """A file of keypoints: what a detector wrote, an npz of one's own, or a clip of one of our data_2d files.

    Args:
        path: see `common.keypoint_formats`, or data_2d_<dataset>_<keypoints>.npz.
        skeleton, person, min_confidence: see `of_detections`.
        layout, first_frame: see `read_detections`.
        subject, action, view: which clip of a data_2d file; None: the first.

    Raises:
        UsageError, DataError: one line.
    """
    if path.suffix == ".npz":
        members = read_npz(path, [], ("positions_2d", "metadata", "confidences"))
        if members.get("positions_2d") is not None:
            for flag, value in (("--layout", layout), ("--first-frame", first_frame), ("--person", person)):
                if value:
                    raise UsageError(f"{flag} with {path.name}, whose joints and people are known; leave it out")
            return _clip_of(members, path, skeleton, subject, action, view)
    if subject or action or view:
        raise UsageError(f"--subject, --action and --view choose a clip of a data_2d file; {path} is none")
    detections = read_detections(path, layout, first_frame)
    return of_detections(detections, str(path), skeleton, person, min_confidence)


def _clip_of(
    members: dict, path: Path, skeleton: Skeleton, subject: str | None, action: str | None, view: int
) -> PoseInput:
    tree, metadata = subject_tree(members["positions_2d"], path, "positions_2d"), members.get("metadata", {})
    stored = _skeleton_of(metadata, path, skeleton)
    subject = _choice(tree, subject, f"--subject: {path}")
    action = _choice(tree[subject], action, f"--action: {path}: {subject}")
    views = tree[subject][action]
    if not isinstance(views, list | tuple | np.ndarray) or not 0 <= view < len(views):
        raise UsageError(f"--view is {view}; {path}: {subject} {action} has {len(views)} views, counted from 0")
    where = f"{path}: {subject} {action} view {view}"
    keypoints = check_pixels(views[view], where, stored)
    confidences = np.ones(keypoints.shape[:2], np.float32)
    trust = check_confidences(members.get("confidences"), subject, action, len(views), path)[view]
    if trust is not None:
        confidences = check_array(trust, f"{where}: confidences", keypoints.shape[:2], "confidences")
        if confidences.min() < 0:
            raise DataError(f"{where}: the least confidence is {confidences.min():.3g}; expected none below 0")
    if stored is not skeleton:
        keypoints, confidences = (values[:, joints_in_h36m(skeleton)] for values in (keypoints, confidences))
    camera, size, fps = _known_camera(metadata, path, subject, view)
    person = PersonTrack("1", keypoints, confidences, 0, [f"warning: {doubt}" for doubt in doubts(keypoints, skeleton)])
    read = f"{path.name}, {subject} {action}, view {view}: {len(keypoints)} frames"
    return PoseInput(read, f"{subject} {action}", [person], size=size, fps=fps, camera=camera)


def _skeleton_of(metadata: object, path: Path, wanted: Skeleton) -> Skeleton:
    """The skeleton of a data_2d file: the wanted one, or Human3.6M's, of which every other can be made."""
    try:
        check_layout(metadata, path, wanted)
        return wanted
    except DataError:
        check_layout(metadata, path, H36M)
        return H36M


def _choice(known: dict, asked: str | None, what: str) -> str:
    if asked is None:
        return next(iter(known))
    if asked not in known:
        raise UsageError(f"{what} has no '{asked}'; it has {_some(list(known))}")
    return asked


def _known_camera(
    metadata: dict, path: Path, subject: str, view: int
) -> tuple[Camera | None, tuple[int, int] | None, float | None]:
    """Camera, image size and frame rate of a clip of a data_2d file, as far as they are known."""
    video = metadata.get("video_metadata")
    if isinstance(video, dict):
        try:
            size = int(video[subject]["w"]), int(video[subject]["h"])
            fps = float(video[subject]["fps"]) if "fps" in video[subject] else None
            if min(size) < 1 or (fps is not None and not 0 < fps < np.inf):
                raise ValueError
            return None, size, fps
        except (KeyError, TypeError, ValueError, OverflowError):
            raise DataError(f"{path}: metadata.video_metadata has no usable w, h and fps for '{subject}'") from None
    named = re.match(r"data_2d_([a-z0-9]+)_", path.name)
    description = DATASETS.get(named[1]) if named else None
    if description is None or description.camera_file is None:
        return None, None, None
    views = load_cameras(description.camera_file).get(subject.split("/")[-1], [])
    if view >= len(views):
        return None, None, description.fps
    camera = views[view]
    known = camera if camera.intrinsics is not None else None
    return known, (camera.width, camera.height), description.fps
