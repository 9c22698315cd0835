"""What `python -m benchmarks.by_turns` runs in each checkout: it times the works whose names it reads, once a line.

Started by its path, with the checkout in PYTHONPATH: the works are that checkout's, whatever this file's own is.
"""

import contextlib
import sys
import time
from pathlib import Path

if str(Path(__file__).parent) in sys.path:  # put there by Python; its modules are not to be had by their bare names
    sys.path.remove(str(Path(__file__).parent))

import torch

from benchmarks.works import WORKS, Size, Work

YARDSTICK = 2048
"""Of a float32 matmul: rows and columns."""
WARM_UPS = 4
"""Of a training step: as long as its memory is new, the system has to fill it with zeros."""


def rows(size: Size) -> int:
    return 64 if size.small else YARDSTICK


def matmul(size: Size) -> Work:
    """The yardstick."""
    a, b = torch.randn(2, rows(size), rows(size), device=size.device)
    return lambda: a @ b


def warm_up(name: str, work: Work) -> None:
    for _ in range(WARM_UPS if name.startswith("training") else 1):
        work()


def seconds(work: Work, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def yardsticks(work: Work, yardstick: Work, device: torch.device) -> tuple[float, float]:
    """Seconds that the work takes, and how many times what the yardstick takes just before and just after."""
    before, spent, after = (seconds(of, device) for of in (yardstick, work, yardstick))
    return spent, 2 * spent / (before + after)


def main() -> None:
    threads, small = sys.argv[1:]
    torch.set_num_threads(int(threads))
    device = torch.device("cpu")
    size = Size(device, small == "small")
    yardstick = matmul(size)
    works: dict[str, Work] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in works:
            works.clear()  # the one before is done with
            works[name] = WORKS[name](size)
            warm_up(name, works[name])
        print(yardsticks(works[name], yardstick, device)[1], flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # by_turns says it
        main()
