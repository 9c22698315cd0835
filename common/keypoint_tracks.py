"""From everybody that a detector saw to one person's joints in every frame."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import DataError, UsageError
from common.joint_conversions import LAYOUTS, convert_joints, made_joints
from common.keypoint_formats import Detections, Person, read_detections
from common.skeleton import H36M

LARGEST_STEP = 0.5
"""From frame to frame a person's joints move less than this on average, in diagonals of the person's box."""
LONGEST_ABSENCE = 30
"""Frames after which somebody who comes back is somebody new."""

Track = dict[int, Person]
"""Frame -> the person there."""


@dataclass(frozen=True)
class KeypointTrack:
    """One person's joints in every frame of a clip."""

    points: np.ndarray
    """(N, 17, 2) float32, pixels, Human3.6M's joints."""
    confidences: np.ndarray
    """(N, 17) float32, the detector's scale; 0 where the joint was interpolated."""
    detections: Detections
    people: dict[str, tuple[int, float]]
    """Person -> frames in which they were found, and their part of everybody's score x box size."""
    chosen: tuple[str, ...]
    empty_frames: int
    """Frames without a detection of the person."""
    longest_gap: int
    """The longest run of such frames."""
    longest_inner_gap: int
    """The same, between the first detection and the last."""
    missing_joints: int
    """Joints that were not found in the other frames, those of too little confidence counted in."""
    made: tuple[str, ...]
    """Joints that the layout lacks and that were made of others."""

    def describe(self) -> list[str]:
        """What was read and what was done to it, a line each."""
        found = self.detections
        layout = f"{found.layout}, taken for granted (--layout says otherwise)" if found.assumed else found.layout
        last = found.first_number + len(self.points) - 1
        lines = [
            f"read     {found.tool}, {LAYOUTS[found.layout].num_joints} joints: {layout}",
            f"frames   {len(self.points)}, numbered {found.first_number} to {last}",
        ]
        if found.first_guess:
            lines.append(f"         {found.first_guess}")
        everybody = [f"{name} ({frames} frames, {part:.0%})" for name, (frames, part) in self.people.items()]
        if len(everybody) > 1:
            more = f" and {len(everybody) - 5} more" if len(everybody) > 5 else ""
            lines.append(f"people   {', '.join(everybody[:5])}{more}; per cent of all score x box size")
        lines.append(
            f"person   {', '.join(self.chosen)}" + (" (--person says otherwise)" if len(everybody) > 1 else "")
        )
        lines.append(
            f"filled   {self.empty_frames} frames without a detection (longest run {self.longest_gap}), "
            f"{self.missing_joints} single joints elsewhere"
        )
        lines.append(f"joints   made of others: {', '.join(self.made) or 'none'}")
        return lines


def read_keypoint_track(
    path: str | os.PathLike,
    *,
    layout: str | None = None,
    person: Sequence[str] = (),
    first_frame: int | None = None,
    num_frames: int | None = None,
) -> KeypointTrack:
    """One person of a file of detections, as Human3.6M's joints, without gaps.

    Args:
        path, layout, first_frame: see `read_detections`.
        person: names of tracks that are one person, where a tracker lost and found them; none: the one with the largest
            sum of score x box size.
        num_frames: so many frames; the last pose is held, or the rest cut off. None: until the last detection.

    Raises:
        UsageError, DataError: one line.
    """
    detections = read_detections(path, layout, first_frame)
    tracks = find_tracks(detections.frames)
    return keypoint_track(detections, tracks, person, str(path), num_frames)


def keypoint_track(
    detections: Detections,
    tracks: dict[str, Track],
    person: Sequence[str],
    where: str,
    num_frames: int | None = None,
    min_confidence: float = 0.0,
) -> KeypointTrack:
    """One person of all that were found.

    Args:
        detections, tracks: of `read_detections`, and of `find_tracks`.
        person, num_frames: see `read_keypoint_track`.
        where: what a message begins with.
        min_confidence: joints that the detector is less sure of count as not found.

    Raises:
        UsageError: there is no such person.
        DataError: a joint is in no frame.
    """
    chosen = tuple(person) or (next(iter(tracks)),)
    for name in chosen:
        if name not in tracks:
            raise UsageError(f"--person: no '{name}' in {where}; there is {', '.join(list(tracks)[:20])}")
    count = num_frames or len(detections.frames)
    keypoints = np.full((count, LAYOUTS[detections.layout].num_joints, 2), np.nan)
    confidences = np.zeros(keypoints.shape[:2])
    for name in reversed(chosen):  # where two of them are in a frame, the first named stays
        for frame, seen in tracks[name].items():
            if frame < count:
                keypoints[frame], confidences[frame] = seen.keypoints, seen.confidences
    doubtful = confidences < min_confidence
    keypoints[doubtful], confidences[doubtful] = np.nan, 0
    empty = np.isnan(keypoints[..., 0]).all(axis=1)
    points, confidences = convert_joints(keypoints, confidences, detections.layout)
    missing = int(np.isnan(points[~empty, :, 0]).sum())
    total = sum(_weight(track) for track in tracks.values()) or 1.0
    return KeypointTrack(
        points=fill_gaps(points, H36M.joint_names, where).astype(np.float32),
        confidences=confidences.astype(np.float32),
        detections=detections,
        people={name: (len(track), _weight(track) / total) for name, track in tracks.items()},
        chosen=chosen,
        empty_frames=int(empty.sum()),
        longest_gap=max((stop - start for start, stop in _runs(empty)), default=0),
        longest_inner_gap=max((stop - start for start, stop in _runs(empty) if start > 0 and stop < count), default=0),
        missing_joints=missing,
        made=tuple(made_joints(detections.layout)),
    )


def find_tracks(frames: list[list[Person]]) -> dict[str, Track]:
    """Who is who over time, the largest sum of score x box size first.

    The file's own names are taken where everybody has one and nobody of a frame shares it. Without them a file that
    never has two people in a frame is one person throughout; else each is linked to the nearest of the frames before.
    """
    everybody = [person for people in frames for person in people]
    named = all(person.identity is not None for person in everybody) and all(
        len({person.identity for person in people}) == len(people) for people in frames
    )
    if named:
        tracks: dict[str, Track] = {}
        for frame, people in enumerate(frames):
            for person in people:
                assert person.identity is not None  # so it is in `named`
                tracks.setdefault(person.identity, {})[frame] = person
    elif max(map(len, frames)) == 1:
        tracks = {"1": {frame: people[0] for frame, people in enumerate(frames) if people}}
    else:
        tracks = {str(number): track for number, track in enumerate(_link(frames), start=1)}
    return dict(sorted(tracks.items(), key=lambda item: -_weight(item[1])))


def _weight(track: Track) -> float:
    return sum(person.score * person.box_area for person in track.values())


def _link(frames: list[list[Person]]) -> list[Track]:
    """Greedily, the nearest pair first, in the order in which people appear."""
    tracks: list[Track] = []
    last_seen: list[int] = []
    for frame, people in enumerate(frames):
        alive = [number for number, last in enumerate(last_seen) if frame - last <= LONGEST_ABSENCE]
        pairs = sorted(
            (step, number, index)
            for number in alive
            for index, person in enumerate(people)
            if (step := _step(tracks[number][last_seen[number]], person)) < LARGEST_STEP
        )
        owner: dict[int, int] = {}
        for _, number, index in pairs:
            if index not in owner and number not in owner.values():
                owner[index] = number
        for index, person in enumerate(people):
            if index not in owner:
                owner[index] = len(tracks)
                tracks.append({})
                last_seen.append(frame)
            tracks[owner[index]][frame] = person
            last_seen[owner[index]] = frame
    return tracks


def _step(before: Person, after: Person) -> float:
    """Mean distance of the joints that both have, in diagonals of the box before; infinite without such a joint."""
    distances = np.linalg.norm(after.keypoints - before.keypoints, axis=1)
    if np.isnan(distances).all():
        return np.inf
    diagonal = np.linalg.norm(np.nanmax(before.keypoints, axis=0) - np.nanmin(before.keypoints, axis=0))
    return float(np.nanmean(distances) / max(diagonal, 1.0))


def fill_gaps(points: np.ndarray, joint_names: Sequence[str], where: str) -> np.ndarray:
    """Missing joints, linearly between the frames around them; held before the first and after the last.

    Args:
        points: (N, J, 2); a joint is missing where one of its coordinates is not finite.
        joint_names: of the J joints.
        where: what a message begins with.

    Raises:
        DataError: a joint is in no frame.
    """
    filled = points.copy()
    frames = np.arange(len(points))
    found = np.isfinite(points).all(axis=-1)
    absent = [name for name, column in zip(joint_names, found.T, strict=True) if not column.any()]
    if absent:
        raise DataError(f"{where}: {', '.join(absent)} in no frame; the whole body must be seen in some frame")
    for joint in range(points.shape[1]):
        there = found[:, joint]
        for axis in range(2):
            filled[~there, joint, axis] = np.interp(frames[~there], frames[there], points[there, joint, axis])
    return filled


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """(start, stop) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
