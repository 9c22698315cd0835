"""Whether memory and open files stay flat: a training and an evaluation that go on and on, on the sample.

    python -m benchmarks.soak --minutes 60 --out soak.png

Each is a process of its own, of main_gt.py's own code: one training with tensorboard and an epoch after another, and
evaluations under both protocols, one command line after another. From outside their resident memory (RSS) and their
open file descriptors are read off Linux's /proc. The first half is warm-up: so long the C library's free lists grow,
with no more of the memory in use. Over the rest goes a line, the median of the slopes between any two readings (Theil
and Sen), which single peaks do not move: flat is a rise along it of no more than 2 % of the median memory, and of no
file. Exit code 1 if one is not.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import theilslopes

import main_gt
from common.errors import DataError, OneLineParser, UsageError, exit_code
from common.files import replacing

WARM_UP = 0.5
"""Of the time: what is not judged."""
MEMORY_TOLERANCE = 0.02
"""The rise of the line over the time that is judged, to the median."""
FILES_TOLERANCE = 0.5
"""The same for open files, whose number is whole."""
MOST_READINGS = 2000
"""That are judged: the slopes are those of all pairs."""

SMALL = [
    *("-d", "sample", "-k", "gt", "--text-encoder", "random", "--device", "cpu"),
    *("-f", "9", "-s", "9", "-b", "288", "-cs", "32", "-dep", "2", "-lr", "1e-3", "-lrd", "1"),
]


def train(folder: Path) -> None:
    """One training without end."""
    command = [*SMALL, "-c", str(folder / "run"), "-l", str(folder / "tensorboard"), "-cf", "10", "-e", "1000000000"]
    command += ["--subset", "0.25", "--text-dropout", "1"]  # more epochs an hour
    sys.exit(main_gt.main([*command, "--export-training-curves"]))


def evaluate(folder: Path) -> None:
    """The same evaluation again and again, each as a command of its own."""
    command = [*SMALL, "-c", str(folder / "run")]
    code = main_gt.main([*command, "--nolog", "-e", "1"])
    command += ["--evaluate", "best_epoch_1_1.bin", "--p2", "-num_proposals", "5", "-sampling_timesteps", "5"]
    while not code:
        code = main_gt.main(command)
    sys.exit(code)


LOOPS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "training": (train, "epochs", r"^\[\d+\] time "),
    "evaluation": (evaluate, "evaluations", r"^wrote .*results_.*json$"),
}
"""What a loop does, what it counts, and the pattern of the line that it prints for each of them."""


def _in_silence(name: str, folder: Path) -> None:
    """A loop in a process of its own; what it prints goes to a file in its folder."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder.mkdir()
    with (
        open(folder / "output.txt", "w", buffering=1) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        LOOPS[name][0](folder)


def _end_with_parent() -> None:
    """Not to go on for ever where the parent was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


@dataclass
class Readings:
    """Of one process over time."""

    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    rounds: int = 0
    """Epochs or evaluations that were done."""

    def take(self, pid: int, seconds: float) -> None:
        """One more, now."""
        status = Path(f"/proc/{pid}/status").read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        self.files.append(len(os.listdir(f"/proc/{pid}/fd")))
        self.megabytes.append(rss * 1024 / 1e6)
        self.seconds.append(seconds)


@dataclass(frozen=True)
class Judgement:
    """How one number went after the warm-up."""

    median: float
    rise: float
    """Of the line, from the end of the warm-up to the end."""
    per_hour: float
    """The line's slope."""
    tolerance: float

    @property
    def flat(self) -> bool:
        return self.rise <= self.tolerance


def judge(seconds: list[float], values: list[float], share: float = 0.0, absolute: float = 0.0) -> Judgement:
    """Whether the values rise by more than a share of their median, or by more than an absolute number."""
    x, y = np.asarray(seconds), np.asarray(values, dtype=float)
    judged = x >= WARM_UP * x[-1]
    every = max(1, -(-judged.sum() // MOST_READINGS))
    x, y = x[judged][::every], y[judged][::every]
    slope, median = float(theilslopes(y, x).slope), float(np.median(y))
    return Judgement(median, slope * float(x[-1] - x[0]), slope * 3600, max(share * median, absolute))


def soak(minutes: float, every: float, folder: Path) -> dict[str, Readings]:
    """Run the loops for so long beside each other, and read their numbers every so many seconds.

    Raises:
        DataError: a loop ended by itself.
    """
    context = multiprocessing.get_context("spawn")
    processes = {name: context.Process(target=_in_silence, args=(name, folder / name), name=name) for name in LOOPS}
    found = {name: Readings() for name in LOOPS}
    begin = time.monotonic()
    try:
        for process in processes.values():
            process.start()
        for number in itertools.count(1):
            time.sleep(max(0.0, begin + number * every - time.monotonic()))
            now = time.monotonic() - begin
            for name, process in processes.items():
                if process.exitcode is not None:
                    output = (folder / name / "output.txt").read_text().splitlines() or ["it printed nothing"]
                    raise DataError(
                        f"the {name} ended by itself after {now:.0f} s with the exit code {process.exitcode} "
                        f"({output[-1]}); mend that first"
                    )
                found[name].take(process.pid, now)
            if now >= minutes * 60:
                return found
    finally:
        for name, process in processes.items():
            output = folder / name / "output.txt"
            if output.exists():
                found[name].rounds = len(re.findall(LOOPS[name][2], output.read_text(), re.MULTILINE))
            if process.pid is not None:
                process.terminate()
                process.join()


def draw(path: Path, found: dict[str, Readings]) -> None:
    """Memory and open files over time, a column a loop."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(found), sharex=True, squeeze=False)
    for (name, readings), (memory, files) in zip(found.items(), grid.T, strict=True):
        minutes = np.asarray(readings.seconds) / 60
        for axes, values, label in ((memory, readings.megabytes, "RSS, MB"), (files, readings.files, "open files")):
            axes.axvspan(0, WARM_UP * minutes[-1], color="#f2f2f2", zorder=0)
            axes.plot(minutes, values, color="#0072B2", linewidth=0.8)
            axes.set(ylabel=label, ylim=(0, 1.15 * max(values)), xlim=(0, minutes[-1]))
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        memory.set_title(name)
        files.set_xlabel("minutes (grey: warm-up)")
    with replacing(path) as part:
        figure.savefig(part, dpi=100)


def run(argv) -> bool:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, metavar="N", help="how long (default: 60)")
    parser.add_argument("--every", type=float, default=2, metavar="SECONDS", help="between readings (default: 2)")
    parser.add_argument("--out", default="soak.png", metavar="FILE", help="the picture (default: soak.png)")
    options = parser.parse_args(argv)
    if not 0 < options.every < np.inf or not 10 * options.every <= options.minutes * 60 < np.inf:
        raise UsageError(f"--minutes {options.minutes:g} --every {options.every:g}: expected ten readings or more")
    if not Path("/proc/self/fd").is_dir():
        raise UsageError("there is no /proc here to read memory and open files from; run this on Linux")
    with tempfile.TemporaryDirectory() as scratch:
        found = soak(options.minutes, options.every, Path(scratch))
    flat = True
    for name, readings in found.items():
        print(f"{name}: {readings.rounds} {LOOPS[name][1]} in {readings.seconds[-1] / 60:.0f} minutes")
        for unit, judgement in (
            ("MB", judge(readings.seconds, readings.megabytes, share=MEMORY_TOLERANCE)),
            ("open files", judge(readings.seconds, readings.files, absolute=FILES_TOLERANCE)),
        ):
            flat &= judgement.flat
            print(
                f"{name}: {judgement.median:.0f} {unit}, rises {judgement.per_hour:+.2f} an hour, "
                f"{judgement.rise:+.2f} in the time judged (at most {judgement.tolerance:.1f}): "
                f"{'flat' if judgement.flat else 'NOT FLAT'}"
            )
    draw(options.out, found)
    print(f"wrote {options.out}")
    return flat


def main(argv=None) -> int:
    flat = []
    return exit_code(lambda: flat.append(run(argv))) or int(not flat[0])


if __name__ == "__main__":
    sys.exit(main())
