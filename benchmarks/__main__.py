"""Time training, evaluation, metrics, data, text and start-up at fixed sizes, and measure memory and checkpoints.

    python -m benchmarks [--repeats 7] [--threads 2] [--out results.json] [--compare old.json]

Times are medians of repeats that take turns. Machines differ, so each is also given in yardsticks: one yardstick is the
time of a float32 2048x2048x2048 matmul, measured just before and just after the work, on the same device and threads.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.works import MEMORY, ROOT, WORKS, Size, Work, checkpoint_sizes, peak_rss
from common.errors import DataError, OneLineParser, exit_code
from common.files import write_json

YARDSTICK = 2048
WARM_UPS = 4
"""Of a training step."""


def seconds(work: Work, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def measure(size: Size, names: list[str], repeats: int) -> dict[str, dict[str, float]]:
    """Work -> median seconds and median yardsticks, after a warm-up of each.

    A training step needs some: as long as its memory is new, the system has to fill it with zeros.
    """
    n = 64 if size.small else YARDSTICK
    a, b = (torch.randn(n, n, device=size.device) for _ in range(2))
    works = {name: WORKS[name](size) for name in names}
    for name, work in works.items():
        for _ in range(WARM_UPS if name.startswith("training") else 1):
            work()
    times: dict[str, list[float]] = {name: [] for name in names}
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name, work in works.items():
            before = seconds(lambda: a @ b, size.device)
            spent = seconds(work, size.device)
            after = seconds(lambda: a @ b, size.device)
            times[name].append(spent)
            ratios[name].append(spent / ((before + after) / 2))
    return {
        name: {"seconds": statistics.median(times[name]), "yardsticks": statistics.median(ratios[name])}
        for name in names
    }


def peak_memory(name: str, size: Size) -> float:
    """GiB at most while the work runs twice in a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks", "--peak-of", name, "--device", str(size.device)]
    command += ["--threads", str(torch.get_num_threads()), *(["--small"] if size.small else [])]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def print_peak(name: str, size: Size) -> None:
    work = WORKS[name](size)
    work()
    work()
    if size.device.type == "cuda":
        print(torch.cuda.max_memory_allocated(size.device) / 2**30)
    else:
        print(peak_rss())


def machine(device: torch.device) -> dict:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "yardstick": f"float32 {YARDSTICK}x{YARDSTICK}x{YARDSTICK} matmul",
    }


def table(found: dict, old: dict | None) -> str:
    rows = [f"{'':<52}{'seconds':>10}{'yardsticks':>12}" + (f"{'to before':>12}" if old else "")]
    for name, numbers in found["works"].items():
        row = f"{name:<52}{numbers['seconds']:>10.4f}{numbers['yardsticks']:>12.2f}"
        if old and name in old["works"]:
            row += f"{numbers['yardsticks'] / old['works'][name]['yardsticks']:>12.2f}"
        rows.append(row)
    for title, unit in (("peak memory", "GiB"), ("checkpoint", "MB")):
        for name, value in found[title].items():
            row = f"{title}, {name}"
            before = f"{value / old[title][name]:>12.2f}" if old and name in old[title] else ""
            rows.append(f"{row:<62}{value:>8.2f} {unit:<3}{before}")
    return "\n".join(rows)


def read_old(path: Path) -> dict:
    """An earlier `--out`.

    Raises:
        DataError: it is none.
    """
    try:
        old = json.loads(path.read_text())
        return {
            "works": {name: {"yardsticks": float(numbers["yardsticks"])} for name, numbers in old["works"].items()},
            **{title: dict(old[title]) for title in ("peak memory", "checkpoint")},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no result of this command ({type(error).__name__}); make one with --out") from None


def run(argv) -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", default="", help="works whose name has this text")
    parser.add_argument("--repeats", type=int, default=7, help="of each work (default: 7)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU (default: PyTorch's)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--small", action="store_true", help="a small network and two repeats, to see that it runs")
    parser.add_argument("--out", metavar="FILE", help="where to write the JSON")
    parser.add_argument("--compare", metavar="FILE", help="an earlier --out: show the ratio of yardsticks to it")
    parser.add_argument("--peak-of", choices=WORKS, help="print the peak memory of one work, GiB")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    size = Size(torch.device(options.device), options.small)
    if options.peak_of:
        print_peak(options.peak_of, size)
        return
    old = read_old(Path(options.compare)) if options.compare else None
    names = [name for name in WORKS if options.only in name]
    found = {
        "machine": machine(size.device),
        "works": measure(size, names, 2 if options.small else options.repeats),
        "peak memory": {name: peak_memory(name, size) for name in MEMORY if name in names},
        "checkpoint": {} if options.only else checkpoint_sizes(size),
    }
    print(table(found, old))
    if options.out:
        write_json(options.out, found)
        print(f"wrote {options.out}")


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
