"""Windows that overlap, and their predictions as one sequence without seams.

Letters: N frames of a clip, F of a window.
"""

from collections.abc import Iterable

import numpy as np


def overlapping_starts(num_frames: int, window: int, overlap: int) -> np.ndarray:
    """First frames of windows that cover N frames, each sharing `overlap` frames or more with the next.

    They are spread evenly, from frame 0 to the clip's last F frames. A clip shorter than F is one window from frame 0.
    """
    if num_frames <= window:
        return np.zeros(1, dtype=int)
    count = -(-(num_frames - overlap) // (window - overlap))
    return np.linspace(0, num_frames - window, count).round().astype(int)


def blend_windows(num_frames: int, windows: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
    """The weighted mean of all windows at every frame.

    A window weighs most in its middle and least, but not nothing, at its ends. Where windows of which M frames overlap
    differ by d, the step from a frame to the next is d / (M + 1) in place of d (with M half a window or less).

    Args:
        num_frames: N.
        windows: (first frame, (..., F, J, C)) of every window; what is beyond frame N is left out.

    Returns:
        (..., N, J, C) float32.
    """
    total = None
    weights = np.zeros((num_frames, 1, 1), np.float32)
    for start, poses in windows:
        length = min(poses.shape[-3], num_frames - start)
        rank = np.arange(poses.shape[-3])
        weight = np.minimum(rank + 1, rank[::-1] + 1)[:length, None, None].astype(np.float32)
        if total is None:
            total = np.zeros((*poses.shape[:-3], num_frames, *poses.shape[-2:]), np.float32)
        total[..., start : start + length, :, :] += weight * poses[..., :length, :, :]
        weights[start : start + length] += weight
    assert total is not None, "a clip has one window at least"
    return total / weights
