"""What one dataset is, as data: the only place that differs between datasets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.clips import Clip
from common.skeleton import Skeleton
from common.text_prompts import PromptPart

Clips = dict[str, dict[str, list[Clip]]]
"""Subject -> action -> one clip a camera."""
Reader = Callable[["DatasetDescription", Path, str, tuple[str, ...]], Clips]
"""(description, data folder, keypoints, subjects; none: all) -> clips."""


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
    subjects_train: tuple[str, ...] = ()
    subjects_test: tuple[str, ...] = ()
    """Empty: all that the files hold."""
    camera_file: str | None = None
    """In common/cameras/; None where no camera is known."""
    num_file_joints: int = 0
    """Joints that the 3D file holds; 0 where there is no 3D file."""
    kept_joints: tuple[int, ...] = ()
    """Which of those are the skeleton's joints, in its order."""

    @property
    def has_truth(self) -> bool:
        """Whether there are 3D poses to train on and to measure against."""
        return self.num_file_joints > 0
