"""From one frame rate to another, and back. Letters: N frames at one rate, M at the other."""

import numpy as np
from scipy.interpolate import Akima1DInterpolator

SAME_RATE = 0.02
"""Rates that differ by less than this part are one: a clip at 49 or 50.5 frames a second is not resampled to 50."""


def same_rate(fps: float, other: float) -> bool:
    return abs(fps / other - 1) < SAME_RATE


def resample(values: np.ndarray, fps: float, new_fps: float, num_frames: int | None = None) -> np.ndarray:
    """A sequence at other instants: frame i of the result is at i / new_fps seconds.

    Between frames it follows a modified Akima spline, which is smooth and does not overshoot where a straight piece,
    such as a filled gap, meets a curve. Beyond the last frame that one is held.

    Args:
        values: (N, ...), at fps frames a second.
        fps, new_fps: frames a second, above 0.
        num_frames: M; None: as many as it takes to reach the last frame.

    Returns:
        (M, ...) of the same type.
    """
    last = (len(values) - 1) / fps
    if num_frames is None:
        num_frames = int(np.ceil(last * new_fps - 1e-6)) + 1
    instants = np.minimum(np.arange(num_frames) / new_fps, last)
    if len(values) == 1:
        return np.repeat(values, num_frames, axis=0)
    spline = Akima1DInterpolator(np.arange(len(values)) / fps, values, axis=0, method="makima")
    return spline(instants).astype(values.dtype)
