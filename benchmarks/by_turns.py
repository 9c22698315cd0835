"""This checkout against another, work by work and turn by turn, so that a busy machine is busy for both.

    git worktree add ../before COMMIT
    python -m benchmarks.by_turns ../before --only "evaluation, f=27" [--turns 5] [--threads 2]

Each has a process of its own; one waits while the other works. Times are medians, in yardsticks, as those of
`python -m benchmarks`. The ratio is the median of the turns' ratios, which a change of the machine's mood between turns
does not move: it may differ from the ratio of the medians.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.works import ROOT, SMALL_NOTE, add_threads, named, positive
from common.errors import DataError, OneLineParser, exit_code

WORKER = Path(__file__).with_name("turns_worker.py")


class Checkout:
    """A checkout's process, which works when it is asked to."""

    def __init__(self, folder: Path, threads: int, is_small: bool):
        if not (folder / "benchmarks" / "works.py").is_file():
            raise DataError(f"{folder} is no checkout of this project with its benchmarks; make one with git worktree")
        self.folder = folder
        self.command = [sys.executable, str(WORKER), str(threads), "small" if is_small else "full"]

    def __enter__(self) -> "Checkout":
        path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()

    def yardsticks(self, work: str) -> float:
        """Of the work, once; the first time after a warm-up."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(work, file=self.process.stdin, flush=True)
            return float(self.process.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise DataError(f"{self.folder}: '{work}' did not run there; what it said is above") from None


def compare(checkouts: list[Checkout], work: str, turns: int) -> str:
    """A line: what the work takes in each, and the ratio."""
    times = [[checkout.yardsticks(work) for checkout in checkouts] for _ in range(turns)]
    before, here = (statistics.median(of_checkout) for of_checkout in zip(*times, strict=True))
    ratio = statistics.median(here / before for before, here in times)
    return f"{work:<52}{before:>10.2f}{here:>10.2f}{ratio:>10.2f}"


def run(argv) -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, metavar="DIR", help="the other checkout")
    parser.add_argument("--only", metavar="TEXT", default="", help="works whose name has this text")
    parser.add_argument("--turns", type=positive, default=5, help="of each work (default: 5)")
    add_threads(parser)
    parser.add_argument("--small", action="store_true", help="a small network, to see that it runs")
    options = parser.parse_args(argv)
    works = named(options.only)
    with contextlib.ExitStack() as running:
        checkouts = [Checkout(folder, options.threads, options.small) for folder in (options.other.resolve(), ROOT)]
        for checkout in checkouts:
            running.enter_context(checkout)
        print(f"{'yardsticks':<52}{'there':>10}{'here':>10}{'ratio':>10}")
        for work in works:
            print(compare(checkouts, work, options.turns), flush=True)
    if options.small:
        print(SMALL_NOTE)


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
