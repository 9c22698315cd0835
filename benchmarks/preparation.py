"""How long the official downloads take to become npz files, by made-up files in their formats and of their lengths.

    python -m benchmarks.preparation

One of MPI-INF-3DHP's 16 training sequences (S5 Seq1, the longest), and one of Human3.6M's seven subjects (30 recordings
of 2,600 frames, the mean of the training subjects). Made poses are no motion: only the time means anything.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.works import part, peak_rss
from common.errors import OneLineParser, exit_code
from data import prepare_3dhp, prepare_h36m
from tests.conftest import motion
from tests.test_prepare_3dhp import save_calibration, save_version_5, training_arrays
from tests.test_prepare_h36m import save_cdf

RECORDINGS = 30


def make_3dhp(folder: Path, num_frames: int) -> None:
    path = save_version_5(folder / "S5" / "Seq1" / "annot.mat", training_arrays(num_frames))
    save_calibration(path.with_name("camera.calibration"))


def make_h36m(folder: Path, num_frames: int) -> None:
    poses = motion(num_frames, 32, 0)
    for number in range(RECORDINGS):
        save_cdf(folder / "S1" / "MyPoseFeatures" / "D3_Positions" / f"Walking {number}.cdf", poses)


def seconds_of(main: Callable, make: Callable[[Path, int], None], num_frames: int) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        download = Path(scratch) / "download"
        make(download, num_frames)
        begin = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            code = main([str(download), "--out", str(Path(scratch) / "out")])
        if code:
            raise SystemExit(code)
        return time.perf_counter() - begin


def run(argv) -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=part, default=1.0, metavar="X", help="of the frames, 0..1 (default: all)")
    options = parser.parse_args(argv)
    for name, script, make, num_frames in (
        ("3dhp, S5 Seq1", prepare_3dhp.main, make_3dhp, prepare_3dhp.SEQUENCES["S5/Seq1"][0]),
        ("h36m, a subject", prepare_h36m.main, make_h36m, 2600),
    ):
        seconds = seconds_of(script, make, max(1, round(options.part * num_frames)))
        print(f"{name}: {seconds:.1f} s, {peak_rss():.1f} GiB at most so far")


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
