"""How the processes of test_processes.py come to an end. Small and apart, since each of them imports it."""

import os
import signal
import sys
import time

import torch

from common import processes
from common.errors import DataError, UsageError


def come_to_an_end(how: str, whose: list[int]) -> int:
    """Processes of the numbers `whose` end as `how` says; the others wait for them."""

    def work() -> None:
        print("only the one that leads prints", flush=True)
        if how == "killed":
            processes.total(torch.zeros(1))  # all are there: one that still comes would not find the store
        if processes.rank() in whose:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "nccl":
                raise RuntimeError("NCCL error in: a.cpp:1, unhandled system error\nncclSystemError: a call failed. ")
            if how == "silent":
                os.kill(os.getpid(), signal.SIGSTOP)
            if how == "usage":
                raise UsageError("a mistake")
            if how == "data":
                raise DataError("an odd file")
            if how == "bug":
                raise ZeroDivisionError("a bug")
            time.sleep(2 if how == "asking" else 120)
        processes.total(torch.zeros(1))

    if how == "silent":
        processes.SILENCE, processes.GRACE = 5, 1.0
    if how == "asking":
        processes.Alarm._gone_silent = ask_for_seconds
    if how == "busy":
        processes.GRACE = 1.0
    return processes.take_part(work, "advice")


def ask_for_seconds(alarm: processes.Alarm) -> None:
    """As if many processes were to be asked for: the alarm's thread goes in and out of PyTorch's code."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        alarm.store.add("beats of 0", 0)


if __name__ == "__main__":
    sys.exit(come_to_an_end(sys.argv[1], [int(number) for number in sys.argv[2:]]))
