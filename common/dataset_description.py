"""What one dataset is, as data: the only place that differs between datasets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.answers import SequenceAnswers
from common.clips import Clip
from common.curves import PckCurve
from common.skeleton import Skeleton
from common.text_prompts import PromptPart

Clips = dict[str, dict[str, list[Clip]]]
"""Subject -> action -> one clip a camera."""
Subjects = tuple[str, ...]
"""Names; empty: all that the files hold."""
Reader = Callable[["DatasetDescription", Path, str, Subjects | None, Subjects], tuple[Clips, Clips]]
"""(description, data folder, keypoints, training subjects or None for no training clips, test subjects) -> training
clips, test clips."""


@dataclass(frozen=True)
class DatasetScores:
    """What a dataset's own scorer found."""

    tables: str
    """For people."""
    written: list[Path]
    """Its files."""
    thresholds: Sequence[float]
    """mm, of the PCK curves."""
    pck_curves: Sequence[PckCurve]
    """Of every setting at the last step."""


@dataclass(frozen=True)
class DatasetDescription:
    """A dataset's names, skeleton, prompts and files. A new dataset is one more of these in `common/datasets.py`."""

    name: str
    skeleton: Skeleton
    prompt_parts: tuple[PromptPart, ...]
    """The sentence that its clips are described with."""
    read: Reader
    """How its files become clips."""
    fps: float
    subjects_train: Subjects = ()
    subjects_test: Subjects = ()
    camera_file: str | None = None
    """In common/cameras/: where each subject's cameras stand. None where the poses are not in the world."""
    num_file_joints: int = 0
    """Joints that the 3D file holds; 0 where there is no 3D file."""
    kept_joints: tuple[int, ...] = ()
    """Which of those are the skeleton's joints, in its order."""

    export: Callable[[Path, Sequence[SequenceAnswers]], list[Path]] | None = None
    """Writes an evaluation's answers into the run's folder, for the dataset's own scorer; returns the paths."""
    score: Callable[[Path, Sequence[SequenceAnswers], Sequence[str]], DatasetScores] | None = None
    """Scores them as the dataset's own scorer does, into a folder, with the notes that the evaluation's reader has."""

    @property
    def has_truth(self) -> bool:
        """Whether there are 3D poses to train on and to measure against."""
        return self.num_file_joints > 0
