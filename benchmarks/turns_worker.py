"""What `python -m benchmarks.by_turns` runs in each checkout: it times the works whose names it reads, once a line.

Started by its path, with the checkout in PYTHONPATH: the works are that checkout's, whatever this file's own is.
"""

import sys
import time

import torch

from benchmarks.works import WORKS, Size, Work

WARM_UPS = 4


def seconds(work: Work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    threads, small = sys.argv[1:]
    torch.set_num_threads(int(threads))
    size = Size(torch.device("cpu"), small == "small")
    a, b = torch.randn(2, 2048, 2048)
    works: dict[str, Work] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in works:
            works.clear()  # the one before is done with
            works[name] = WORKS[name](size)
            for _ in range(WARM_UPS if name.startswith("training") else 1):
                works[name]()
        before, spent, after = seconds(lambda: a @ b), seconds(works[name]), seconds(lambda: a @ b)
        print(2 * spent / (before + after), flush=True)


if __name__ == "__main__":
    main()
