"""Whether data keeps up with training: the published recipe's frames, made up, from files to batches.

    python -m benchmarks.streaming [--part 1] [--threads 2] [--device cuda]

Prints how long the frames of Human3.6M's five training subjects take to load, and to become windows; the memory of the
process at most; and a training step, f=27, 4 windows, with batches from there and with the same batch again, by turns.
Made poses are no motion: only times and sizes mean anything.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu import RECIPE_FRAMES
from benchmarks.works import SMALL_NOTE, Size, add_device, add_threads, part, peak_rss
from common.arguments import H36M_GT
from common.datasets import DATASETS, load_dataset
from common.errors import OneLineParser, exit_code
from common.npz_files import write_npz
from common.pose_files import layout_metadata
from common.skeleton import H36M
from common.training import training_step
from common.training_state import TrainingState
from common.windows import TrainingWindows, training_index
from tests.conftest import motion

CAMERAS, RECORDINGS = 4, 30
FRAMES, WINDOWS = 27, 4


def make_files(folder: Path, num_frames: int) -> None:
    """Files of so many training frames in all, and of one short recording of a test subject."""
    description = DATASETS["h36m"]
    per_recording = -(-num_frames // (CAMERAS * RECORDINGS * len(description.subjects_train)))
    world = motion(per_recording, description.num_file_joints, 0).astype(np.float32)
    random = np.random.default_rng(1)
    pixels = random.uniform(100, 900, size=(per_recording, H36M.num_joints, 2)).astype(np.float32)
    tree_3d, tree_2d = ({subject: {} for subject in (*description.subjects_train, "S9")} for _ in range(2))
    for subject, number in itertools.product(tree_3d, range(RECORDINGS)):
        if subject == "S9" and number:
            continue
        # Arrays of their own: one that is there twice is written once.
        tree_3d[subject][f"Walking {number}"] = world.copy()
        tree_2d[subject][f"Walking {number}"] = [pixels.copy() for _ in range(CAMERAS)]
    write_npz(folder / "data_3d_h36m.npz", positions_3d=tree_3d)
    write_npz(folder / "data_2d_h36m_gt.npz", positions_2d=tree_2d, metadata=layout_metadata(H36M))


def seconds(work) -> tuple[float, object]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def step_times(size: Size, windows: TrainingWindows, repeats: int) -> tuple[float, float]:
    """Median seconds of a step with batches from the windows, and with one batch that is there."""
    model, options = size.model(windows.window_shape[0]).train(), H36M_GT
    state = TrainingState.new(model, options)
    state.begin_epoch(windows)
    order = itertools.cycle(windows.order(1))
    there = windows.batch(next(order))

    class Same(TrainingWindows):
        def __init__(self):
            self.frames, self.poses_3d = windows.frames, windows.poses_3d

        def batch(self, chosen):
            return there

    def step(source: TrainingWindows) -> None:
        training_step(model, model, source, next(order), state, options)
        if size.device.type == "cuda":
            torch.cuda.synchronize(size.device)

    sources = (windows, Same())
    for source in sources:
        step(source)
    times = [[seconds(lambda source=source: step(source))[0] for source in sources] for _ in range(repeats)]
    return tuple(statistics.median(of_source) for of_source in zip(*times, strict=True))


def run(argv) -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=part, default=1.0, metavar="X", help="of the frames, 0..1 (default: all)")
    add_threads(parser)
    add_device(parser)
    parser.add_argument("--small", action="store_true", help="a small network and two repeats, to see that it runs")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    size = Size(arguments.device, arguments.small)
    with tempfile.TemporaryDirectory() as scratch:
        made = torch.multiprocessing.get_context("spawn").Process(
            target=make_files, args=(Path(scratch), round(arguments.part * RECIPE_FRAMES))
        )  # what making takes is not to be measured
        made.start()
        made.join()
        before = peak_rss()
        load, dataset = seconds(lambda: load_dataset("h36m", scratch, "gt", subjects_test=["S9"]))
    clips = dataset.train
    F = size.frames(FRAMES)
    index, _ = seconds(lambda: training_index(clips, F))
    whole, windows = seconds(lambda: TrainingWindows(clips, F, H36M, WINDOWS, mirrored=True, seed=1))
    print(f"load {sum(clip.num_frames for clip in clips)} frames: {load:.1f} s")
    print(
        f"index of {windows.num_windows} windows, mirrored: {index:.2f} s; with the frames in one piece: {whole:.2f} s"
    )
    print(f"order of an epoch: {seconds(lambda: windows.order(1))[0]:.2f} s")
    print(f"memory at most: {peak_rss():.2f} GiB, {before:.2f} of them before there was data")
    real, same = step_times(size, windows, 2 if arguments.small else 15)
    print(f"step with data: {1e3 * real:.1f} ms, with a batch that is there: {1e3 * same:.1f} ms; {real / same:.3f}")
    if arguments.small:
        print(SMALL_NOTE)


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
