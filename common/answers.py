"""A whole sequence's answers under every setting, put together from its windows: what scorers and exports read.

Letters: K sampling steps, N frames, J joints.
"""

from dataclasses import dataclass

import numpy as np

from common.clips import MM, Clip


@dataclass(frozen=True)
class SequenceAnswers:
    """Frame j of every array is frame j of the clip."""

    clip: Clip
    """With truth, valid frames and activities."""
    poses: dict[str, np.ndarray]
    """Setting -> (K, N, J, 3) float32, camera space, root-relative, metres."""
    is_whole: bool = True
    """False: only the beginning of the sequence was sampled (`--debug`), and `clip` is cut to it."""

    def joint_errors(self, setting: str) -> np.ndarray:
        """(K, valid frames, J) float32, mm: the distance of every joint to the truth (Protocol #1)."""
        valid = self.clip.counted
        return MM * np.linalg.norm(self.poses[setting][:, valid] - self.clip.poses_3d[valid], axis=-1)

    @property
    def activity(self) -> np.ndarray | None:
        """(valid frames,) int64, where the dataset says what is done."""
        return None if self.clip.activity is None else self.clip.activity[self.clip.counted]
