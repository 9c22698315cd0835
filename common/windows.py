"""Clips to fixed windows of F frames, and batches of them.

Windows are gathered by index from arrays that lie in memory once, so a batch costs no Python loop over its samples.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.clips import Clip
from common.skeleton import Skeleton, mirror


def training_starts(num_frames: int, window: int) -> np.ndarray:
    """First frames of the ceil(N/F) windows of a clip, the overhang split between both ends (negative: padding)."""
    count = -(-num_frames // window)
    return np.arange(count) * window - (count * window - num_frames) // 2


def evaluation_starts(num_frames: int, window: int) -> np.ndarray:
    """First frames of windows side by side; the last window is the clip's last F frames, overlapping the one before.

    A clip shorter than F is one window from frame 0, filled up with its last frame.
    """
    if num_frames <= window:
        return np.zeros(1, dtype=int)
    starts = np.arange(0, num_frames - window + 1, window)
    return starts if num_frames % window == 0 else np.append(starts, num_frames - window)


def window_frames(num_frames: int, window: int, starts: np.ndarray) -> np.ndarray:
    """Frame numbers of every window, (len(starts), F), edges repeated."""
    return np.clip(starts[:, None] + np.arange(window), 0, num_frames - 1)


def first_occurrences(frames: np.ndarray) -> np.ndarray:
    """Windows back to a clip: (W, F) bool, where `window_frames` names a frame for the first time.

    With evaluation's windows, `windows[first_occurrences(frames)]` of an array (W, F, ...) is the clip, (N, ...).
    """
    first = np.zeros(frames.size, bool)
    first[np.unique(frames, return_index=True)[1]] = True
    return first.reshape(frames.shape)


def training_index(clips: list[Clip], window: int) -> tuple[Tensor, list[str]]:
    """Frame numbers of every window of all clips, one clip after another, (W, F), and the action word of each."""
    first, frames, verbs = 0, [], []
    for clip in clips:
        of_clip = window_frames(clip.num_frames, window, training_starts(clip.num_frames, window))
        frames.append(first + of_clip)
        verbs += [clip.verb] * len(of_clip)
        first += clip.num_frames
    return torch.from_numpy(np.concatenate(frames)), verbs


class Batch(NamedTuple):
    """Windows for the training step."""

    x_2d: Tensor
    """(B, F, J, 2), screen coordinates."""
    x_start: Tensor
    """(B, F, J, 3), camera space, root-relative, metres."""
    verbs: list[str]
    """The action word of each window."""


class TrainingWindows:
    """All windows of the training clips, shuffled anew every epoch; with augmentation every window also mirrored."""

    def __init__(
        self, clips: list[Clip], window: int, skeleton: Skeleton, batch_windows: int, mirrored: bool, seed: int
    ):
        self.skeleton = skeleton
        self.batch_windows = batch_windows
        self.seed = seed
        self.poses_2d = torch.from_numpy(np.concatenate([clip.poses_2d for clip in clips]))
        self.poses_3d = torch.from_numpy(np.concatenate([clip.truth for clip in clips]))
        self.frames, self.verbs = training_index(clips, window)
        self.copies = 2 if mirrored else 1

    @property
    def num_windows(self) -> int:
        return len(self.frames) * self.copies

    @property
    def window_shape(self) -> tuple[int, ...]:
        """Of a window's `x_start`: (F, J, 3)."""
        return self.frames.shape[1], *self.poses_3d.shape[1:]

    @property
    def num_batches(self) -> int:
        return -(-self.num_windows // self.batch_windows)

    def order(self, epoch: int) -> tuple[Tensor, ...]:
        """Which windows the batches of an epoch hold; depends on the seed and the epoch's number alone."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.num_windows, generator=generator).split(self.batch_windows)

    def batch(self, chosen: Tensor) -> Batch:
        """The windows of these numbers; those from `len(frames)` on are mirrored."""
        index, flip = chosen % len(self.frames), chosen >= len(self.frames)
        frames = self.frames[index]
        x_2d, x_start = self.poses_2d[frames], self.poses_3d[frames]
        if flip.any():
            x_2d[flip] = mirror(x_2d[flip], self.skeleton)
            x_start[flip] = mirror(x_start[flip], self.skeleton)
        return Batch(x_2d, x_start, [self.verbs[i] for i in index.tolist()])
