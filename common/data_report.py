"""What `common.check_data` finds in data files, and how it is printed."""

import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import DataError
from common.pose_measures import Bones, Projection

LARGEST_BONE_CHANGE = 5.0
"""Per cent: a bone that changes more within a clip is worth a note, but no fault: joints found one by one, as in
MPI-INF-3DHP, do that; those of a skeleton do not."""

WIDTH = 112
LABEL = 14
MOST_PROBLEMS = 8
"""Problems of a file that are printed; --json has all."""


@dataclass
class FileReport:
    """What was found in one file."""

    name: str
    kind: str
    dataset: str
    size_bytes: int = 0
    sha256: str = ""
    shape: str = ""
    """Of a clip's array, with its unit."""
    clips: int = 0
    views: int = 0
    """Clips times cameras."""
    frames: dict[str, int] = field(default_factory=dict)
    """Subject -> frames, one camera's."""
    valid_frames: dict[str, int] = field(default_factory=dict)
    """The same for those that count, where a file says so."""
    annotation: str = ""
    """MPI-INF-3DHP: which of its two truths the 3D is, or "unknown"."""
    annotation_source: str = ""
    """How that is known."""
    bones: Bones | None = None
    projections: list[Projection] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count_frames(self, subject: str, num_frames: int) -> None:
        self.frames[subject] = self.frames.get(subject, 0) + num_frames

    def add_problem(self, message: str, path: Path) -> None:
        """A reader's message; what it says of the file's own path is left out, for the report begins with it."""
        line = message.removeprefix(f"{path}: ").removeprefix(f"{path} ").replace(f"{path.parent}/", "")
        if line not in self.problems:
            self.problems.append(line)

    def set_bones(self, bones: Bones | None) -> None:
        self.bones = bones
        if bones and bones.percent > LARGEST_BONE_CHANGE:
            self.notes.append(
                f"a bone changes by more than {LARGEST_BONE_CHANGE:g} % within a clip; a skeleton's does not"
            )


@dataclass
class DataReport:
    """What was found in a folder."""

    folder: str
    files: list[FileReport]
    absent: list[str]
    """Known files that are not there."""
    unknown: list[str]
    """Files named like data files that belong to no known dataset."""
    usable: list[str]
    """What can be run, or what it lacks, a sentence each."""

    @property
    def num_problems(self) -> int:
        return sum(len(file.problems) for file in self.files)


class Problems:
    """A context in which a file's fault becomes a line of its report, and checking goes on after it."""

    def __init__(self, report: FileReport, path: Path):
        self._report, self._path = report, path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, OSError):
            error = DataError(f"cannot be read ({error.strerror}); check its permissions")
        if not isinstance(error, DataError):
            return False
        self._report.add_problem(str(error), self._path)
        return True


def print_report(report: DataReport) -> None:
    lines = [f"{report.folder}: {len(report.files)} known data files", ""]
    for file in report.files:
        lines += [*file_lines(file), ""]
    if report.unknown:
        lines += _row("not checked", f"{', '.join(report.unknown)}: of no known dataset", indent="")
    if report.absent:
        lines += _row("not there", ", ".join(report.absent), indent="")
    for number, sentence in enumerate(report.usable):
        lines += _row("" if number else "can be run", sentence, indent="")
    print("\n".join(lines))


def file_lines(file: FileReport) -> list[str]:
    """The block of one file."""
    rows = [("sha256", file.sha256)]
    if file.clips:
        views = f", {file.views} views" if file.views > file.clips else ""
        rows.append(("clips", f"{file.clips}{views}, each {file.shape}"))
    rows += [
        (label, f"{sum(frames.values())}: " + "   ".join(f"{subject} {count}" for subject, count in frames.items()))
        for label, frames in (("frames", file.frames), ("valid frames", file.valid_frames))
        if frames
    ]
    if file.annotation:
        rows.append(("annotation", f"{file.annotation} ({file.annotation_source})"))
    rows += [("reprojection", _projection_text(projection)) for projection in file.projections]
    if file.bones:
        rows.append(("bone lengths", _bones_text(file.bones)))
    rows += [("note", note) for note in file.notes]
    rows += [("WRONG", problem) for problem in file.problems[:MOST_PROBLEMS]]
    if len(file.problems) > MOST_PROBLEMS:
        rows.append(("", f"and {len(file.problems) - MOST_PROBLEMS} more (--json FILE has all)"))
    if not file.problems:
        rows.append(("fine", "nothing wrong was found"))
    lines = [f"{file.name}   {file.kind}, {file.dataset}, {_size_text(file.size_bytes)}"]
    previous = None
    for label, text in rows:
        lines += _row("" if label == previous else label, text)
        previous = label
    return lines


def _projection_text(projection: Projection) -> str:
    camera = f", {projection.camera}" if projection.camera else ""
    return f"mean {projection.mean_px:7.3f} px, largest {projection.max_px:7.3f} px ({projection.clip}{camera})"


def _bones_text(bones: Bones) -> str:
    return (
        f"change by {bones.typical_mm:.2f} mm, at most {bones.largest_mm:.2f} mm or {bones.percent:.2f} % "
        f"({bones.bone}, {bones.clip})"
    )


def _size_text(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"


def _row(label: str, text: str, indent: str = "  ") -> list[str]:
    start = f"{indent}{label:{LABEL}}"
    return textwrap.wrap(
        text or "-",
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
