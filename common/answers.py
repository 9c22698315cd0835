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

    def millimetres(self, setting: str) -> np.ndarray:
        """(K, N, J, 3) float64, mm, relative to the root: what is exported, to the last bit."""
        return MM * self.poses[setting].astype(np.float64)

    def joint_errors(self, setting: str) -> np.ndarray:
        """(K, valid frames, J) float64, mm: the distance of every joint to the truth (Protocol #1).

        Of the exported poses and the exact truth, so that who scores the export finds the same: in float32 an error can
        fall on the other side of one of PCK's thresholds.
        """
        valid, truth = self.clip.counted, self.clip.truth_mm
        if truth is None:
            truth = MM * self.clip.truth.astype(np.float64)
        return np.linalg.norm(self.millimetres(setting)[:, valid] - truth[valid], axis=-1)

    @property
    def activity(self) -> np.ndarray | None:
        """(valid frames,) int64, where the dataset says what is done."""
        return None if self.clip.activity is None else self.clip.activity[self.clip.counted]
