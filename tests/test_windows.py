"""Windows cover every frame, and training batches hold every window and its mirror image once."""

import numpy as np
import pytest
import torch

from common.clips import Clip
from common.skeleton import H36M, mirror
from common.windows import TrainingWindows, evaluation_starts, first_occurrences, training_starts, window_frames


@pytest.mark.parametrize("window", [1, 2, 9, 27, 243])
def test_every_length_is_covered(window):
    for num_frames in range(1, 1001):
        training = window_frames(num_frames, window, training_starts(num_frames, window))
        evaluation = window_frames(num_frames, window, evaluation_starts(num_frames, window))
        assert len(training) == len(evaluation) == -(-num_frames // window)
        for frames in (training, evaluation):
            assert frames.shape[1] == window
            np.testing.assert_array_equal(np.unique(frames), np.arange(num_frames))
        overhang = np.count_nonzero(np.diff(training.ravel()) == 0)
        assert overhang == training.size - num_frames
        if num_frames >= window:
            assert (np.diff(evaluation, axis=1) == 1).all()


def clip(num_frames, action):
    random = np.random.default_rng(num_frames)
    poses_2d = random.normal(size=(num_frames, 17, 2)).astype(np.float32)
    poses_3d = random.normal(size=(num_frames, 17, 3)).astype(np.float32)
    return Clip("S1", action, None, poses_2d, poses_3d, np.zeros((num_frames, 3), np.float32), (1000, 1000))


def test_an_epoch_holds_every_window_and_its_mirror_image_once():
    clips = [clip(20, "Walking 1"), clip(7, "Sitting")]
    windows = TrainingWindows(clips, 9, H36M, batch_windows=3, mirrored=True, seed=1)
    batches = [windows.batch(chosen) for chosen in windows.order(1)]
    assert len(batches) == windows.num_batches == 3
    assert windows.num_windows == 8
    pairs = [pair for batch in batches for pair in zip(batch.x_2d, batch.x_start, strict=True)]
    assert sorted(verb for batch in batches for verb in batch.verbs) == ["Sitting"] * 2 + ["Walking"] * 6
    for of_clip in clips:
        frames = window_frames(of_clip.num_frames, 9, training_starts(of_clip.num_frames, 9))
        for window in frames:
            pair = torch.from_numpy(of_clip.poses_2d[window]), torch.from_numpy(of_clip.poses_3d[window])
            for x_2d, x_start in (pair, [mirror(poses, H36M) for poses in pair]):
                assert sum(torch.equal(x_2d, found) and torch.equal(x_start, its) for found, its in pairs) == 1


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        windows = TrainingWindows([clip(200, "Walking")], 9, H36M, batch_windows=4, mirrored=True, seed=seed)
        return torch.cat([windows.batch(chosen).x_2d for chosen in windows.order(epoch)])

    assert torch.equal(order(1, 1), order(1, 1))
    assert not torch.equal(order(1, 1), order(1, 2))
    assert not torch.equal(order(1, 1), order(2, 1))


@pytest.mark.parametrize("window", [1, 2, 9, 27, 243])
def test_windows_and_back(window):
    for num_frames in range(1, 1001):
        starts = evaluation_starts(num_frames, window)
        frames = window_frames(num_frames, window, starts)
        np.testing.assert_array_equal(frames[first_occurrences(frames)], np.arange(num_frames))
