"""A clip: one person, one action, one camera, without a break."""

from dataclasses import dataclass

import numpy as np

from common.camera import Camera


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

    def arrays(self) -> dict[str, np.ndarray]:
        """What has one entry a frame, by field name."""
        fields = {"poses_2d": self.poses_2d, "poses_3d": self.poses_3d, "root": self.root}
        return {name: array for name, array in fields.items() if array is not None}

    @property
    def num_frames(self) -> int:
        return len(self.poses_2d)

    @property
    def action_class(self) -> str:
        """The action without its number, as the tables have it: "Walking" of "Walking 1"."""
        return self.action.split(" ")[0]

    @property
    def verb(self) -> str:
        """The word that the prompt is given."""
        return self.action_class

    @property
    def name(self) -> str:
        view = f" camera {self.camera.name}" if self.camera else ""
        return f"{self.subject} {self.action}{view}"
