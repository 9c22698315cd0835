"""Time training, evaluation, metrics, data, text and start-up at fixed sizes, and measure memory and checkpoints.

    python -m benchmarks [--repeats 7] [--threads 2] [--out results.json] [--compare old.json]
    python -m benchmarks --profile --only "training step, f=27"

Times are medians of repeats that take turns. Machines differ, so each is also given in yardsticks: one yardstick is the
time of a float32 2048x2048x2048 matmul, measured just before and just after the work, on the same device and threads.
`--profile` runs each work once.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from benchmarks.turns_worker import matmul, rows, seconds, warm_up, yardsticks
from benchmarks.works import (
    MEMORY,
    ROOT,
    SMALL_NOTE,
    WORKS,
    Size,
    add_device,
    add_threads,
    checkpoint_sizes,
    named,
    peak_rss,
    positive,
)
from common.errors import DataError, OneLineParser, UsageError, exit_code
from common.files import write_json

OPERATORS, LETTERS = 14, 60
"""Shown of a profile, and of an operator's name."""


def measure(size: Size, names: list[str], repeats: int) -> dict[str, dict[str, float]]:
    """Work -> median seconds and median yardsticks, after a warm-up of each."""
    yardstick = matmul(size)
    works = {name: WORKS[name](size) for name in names}
    for name, work in works.items():
        warm_up(name, work)
    times: dict[str, list[float]] = {name: [] for name in names}
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name, work in works.items():
            spent, ratio = yardsticks(work, yardstick, size.device)
            times[name].append(spent)
            ratios[name].append(ratio)
    return {
        name: {"seconds": statistics.median(times[name]), "yardsticks": statistics.median(ratios[name])}
        for name in names
    }


def profile(name: str, size: Size) -> str:
    """A table of a work's operators and the yardsticks that each takes without those it calls, the longest first.

    The profiler does not see the threads that sampling begins: an evaluation's profile takes --threads 1.
    """
    work, yardstick = WORKS[name](size), matmul(size)
    warm_up(name, work)
    yardstick()
    unit = statistics.median(seconds(yardstick, size.device) for _ in range(5))
    on_card = size.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    if on_card:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as recorded:
        work()
    spent: Counter[str] = Counter()
    for average in recorded.key_averages():
        # What a card's kernels take counts for the operators that start them.
        if average.device_type == torch.autograd.DeviceType.CPU and not average.is_user_annotation:
            spent[average.key] += (average.self_device_time_total if on_card else average.self_cpu_time_total) / unit
    longest = spent.most_common(OPERATORS)
    rows = [f"  {key[:LETTERS]:<{LETTERS}}{value / 1e6:>12.2f}" for key, value in longest]
    if name.startswith("evaluation") and torch.get_num_threads() > 1:
        rows.append("  (of one thread; --threads 1 shows all)")
    title = f"{name:<{LETTERS + 2}}{'yardsticks':>12}"
    return "\n".join([title, *(rows or ["  (another process, which is not seen)"])])


def peak_memory(name: str, size: Size) -> float:
    """GiB at most while the work runs twice in a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks", "--peak-of", name, "--device", str(size.device)]
    command += ["--threads", str(torch.get_num_threads()), *(["--small"] if size.small else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise DataError(f"the memory of '{name}' was not measured: its process ended with {done.returncode}")
    return float(done.stdout)


def print_peak(name: str, size: Size) -> None:
    work = WORKS[name](size)
    work()
    work()
    if size.device.type == "cuda":
        print(torch.cuda.max_memory_allocated(size.device) / 2**30)
    else:
        print(peak_rss())


def processor() -> str:
    """The name that its maker gave it, where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine(size: Size) -> dict:
    n = rows(size)
    return {
        "processor": f"{processor()}, {torch.backends.cpu.get_cpu_capability()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(size.device) if size.device.type == "cuda" else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "small": size.small,
        "yardstick": f"float32 {n}x{n}x{n} matmul",
    }


def differences(here: dict, before: dict) -> list[str]:
    """What makes two results hard to compare, a line each."""
    return [
        f"note: {key} is {here[key]} here and {before.get(key, 'not said')} before"
        for key in ("processor", "threads", "device", "torch", "small")
        if here[key] != before.get(key)
    ]


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
            "works": {name: {"yardsticks": _measured(numbers["yardsticks"])} for name, numbers in old["works"].items()},
            "machine": dict(old["machine"]),
            **{
                title: {name: _measured(value) for name, value in old[title].items()}
                for title in ("peak memory", "checkpoint")
            },
        }
    except FileNotFoundError:
        raise DataError(f"--compare {path}: there is no such file; make one with --out") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no result of this command ({type(error).__name__}); make one with --out") from None


def _measured(value: object) -> float:
    number = float(value)  # type: ignore[arg-type] # of what else a file holds, a TypeError
    if not 0 < number < math.inf:
        raise ValueError
    return number


def run(argv) -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", default="", help="works whose name has this text")
    parser.add_argument("--repeats", type=positive, default=7, help="of each work (default: 7)")
    add_threads(parser)
    add_device(parser)
    parser.add_argument("--small", action="store_true", help="a small network and two repeats, to see that it runs")
    parser.add_argument("--out", metavar="FILE", help="where to write the JSON")
    parser.add_argument("--compare", metavar="FILE", help="an earlier --out: show the ratio of yardsticks to it")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="only show what the works' operators take (an evaluation's: with --threads 1)",
    )
    parser.add_argument("--peak-of", choices=WORKS, metavar="NAME", help="print the peak memory of one work, GiB")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    size = Size(options.device, options.small)
    if options.peak_of:
        print_peak(options.peak_of, size)
        return
    names = named(options.only)
    if options.profile and (options.out or options.compare):
        raise UsageError("--profile is shown alone; leave out --out and --compare")
    if options.profile:
        print("\n\n".join(profile(name, size) for name in names))
        return
    old = read_old(Path(options.compare)) if options.compare else None
    found = {
        "machine": machine(size),
        "works": measure(size, names, 2 if options.small else options.repeats),
        "peak memory": {name: peak_memory(name, size) for name in MEMORY if name in names},
        "checkpoint": {} if options.only else checkpoint_sizes(size),
    }
    notes = [*(differences(found["machine"], old["machine"]) if old else ()), *([SMALL_NOTE] if size.small else ())]
    print("\n".join([table(found, old), *notes]))
    if options.out:
        write_json(options.out, found)
        print(f"wrote {options.out}")


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
