"""A clip: one person, one action, one camera, without a break."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.camera import Camera
from common.text_prompts import NEUTRAL_VERB

MM = 1000
"""Millimetres in a metre: metres inside, millimetres in files and tables."""

UNKNOWN_ACTION = "custom"
"""What a video of one's own is called, as VideoPose3D does: it names nothing that the network could be told."""


@dataclass(frozen=True)
class Clip:
    """Arrays of N frames and J joints. 3D is camera space, metres; None where the dataset has no truth."""

    subject: str
    action: str
    camera: Camera | None
    poses_2d: np.ndarray
    """(N, J, 2) float32, screen coordinates."""
    poses_3d: np.ndarray | None
    """(N, J, 3) float32, relative to the root, which is 0."""
    root: np.ndarray | None
    """(N, 3) float32, where the root is."""
    size: tuple[int, int]
    """Width and height of the image, pixels."""
    fps: float = 50.0
    """Frames a second."""
    confidences: np.ndarray | None = None
    """(N, J) float32, at least 0, the detector's, of each 2D joint against the others of its frame; None: not known."""
    valid: np.ndarray | None = None
    """(N,) bool, the frames whose truth is to be measured against; None: all."""
    activity: np.ndarray | None = None
    """(N,) int64, a number for what is done in each frame, where the dataset says so."""
    truth_mm: np.ndarray | None = None
    """(N, J, 3) float64, mm, relative to the root: poses_3d as exact as the file, where a scorer needs it."""
    annotation: str = ""
    """Which ground truth the 3D poses are, in a dataset that has several: its name and, after a comma, a remark."""
    is_sequence: bool = False
    """True: `action` names a sequence (or nothing) and is never told. Tables have a row for each sequence, in which
    every frame counts once; for other clips a row for each action, in which every window's frames count."""

    def arrays(self) -> dict[str, Any]:
        """What has one entry a frame, by field name: arrays."""
        names = ("poses_2d", "poses_3d", "root", "confidences", "valid", "activity", "truth_mm")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def truth(self) -> np.ndarray:
        """`poses_3d` of a clip that has them: what asks for it is for datasets with truth alone."""
        assert self.poses_3d is not None, f"{self.name} has no 3D poses"
        return self.poses_3d

    @property
    def counted(self) -> np.ndarray:
        """(N,) bool, `valid` in full."""
        return np.ones(self.num_frames, bool) if self.valid is None else self.valid

    @property
    def num_frames(self) -> int:
        return len(self.poses_2d)

    @property
    def action_class(self) -> str:
        """The action without its number: "Walking" of "Walking 1"."""
        return self.action.split(" ")[0]

    @property
    def row(self) -> str:
        """Which row of the tables its errors go to."""
        return f"{self.subject} {self.action}".rstrip() if self.is_sequence else self.action_class

    @property
    def verb(self) -> str:
        """The word that the prompt is given."""
        return NEUTRAL_VERB if self.is_sequence or self.action == UNKNOWN_ACTION else self.action_class

    @property
    def name(self) -> str:
        view = f" camera {self.camera.name}" if self.camera else ""
        return f"{self.subject} {self.action}".rstrip() + view


def kind_of_truth(annotation: str) -> str:
    """The name alone of what `Clip.annotation` says."""
    return annotation.partition(", ")[0]


def truths_of(clips: Iterable[Clip]) -> str:
    """Which ground truths the clips' 3D poses are, by commas; "" in a dataset that has one."""
    return ", ".join(dict.fromkeys(clip.annotation for clip in clips if clip.annotation))
