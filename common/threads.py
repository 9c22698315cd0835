"""Pieces of work side by side on a CPU: each on a thread of its own, with its share of the processor.

Two networks at once on one core each take less time than one after the other on two: no thread waits for another within
a product (docs/PERFORMANCE.md).
"""

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")
GoOn = Callable[[], None]
Piece = Callable[[GoOn], Result]
"""Work that calls what it is given now and then, which ends it where nobody waits for it any more."""

GAIN = 0.75
"""t threads within each product are taken to be t**GAIN times as fast as one: two 1.68 times (docs/PERFORMANCE.md)."""
_PYTORCHS_THREADS = threading.Lock()
"""How many threads a product takes is a setting of the whole process."""


def num_cores() -> int:
    """How many cores this thread may run on, and any that it begins.

    Where OpenMP binds threads to places (OMP_PROC_BIND), that is the first thread's place alone: only PyTorch's own
    threads have others.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class NobodyWaitsError(Exception):
    """Another piece failed, or the caller was interrupted."""


def num_workers(num_pieces: int, threads: int) -> int:
    """How many pieces of a size to have in work at once, so that all are done the soonest."""

    def time(workers: int) -> float:
        return math.ceil(num_pieces / workers) / (threads // workers) ** GAIN

    return min(range(max(1, min(num_pieces, threads)), 0, -1), key=time)


def side_by_side(pieces: Iterable[Piece[Result]], workers: int) -> list[Result]:
    """What each piece gives, in order, without gradients.

    Args:
        pieces: of work, none of which waits for another or calls this. No more than are soon worked on are taken from
            the iterator, so that what they hold is not in memory all at once.
        workers: so many at once; they share PyTorch's threads.
    """
    if workers < 2:
        return [_without_gradients(piece, lambda: None) for piece in pieces]
    is_over, failures = threading.Event(), list[BaseException]()
    mode = torch.is_inference_mode_enabled()  # which PyTorch knows for each thread, as it does for gradients

    def go_on() -> None:
        if is_over.is_set():
            raise NobodyWaitsError

    def work(piece: Piece[Result]) -> Result:
        go_on()
        try:
            with torch.inference_mode(mode):
                return _without_gradients(piece, go_on)
        except NobodyWaitsError:
            raise
        except BaseException as error:
            failures.append(error)
            is_over.set()
            raise

    with _PYTORCHS_THREADS:
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(max(1, threads // workers))  # of each thread that begins after it
            with ThreadPoolExecutor(workers) as pool:
                try:
                    return list(_in_turn(pool, work, pieces, 2 * workers))
                except NobodyWaitsError:
                    raise failures[0] from None
                finally:
                    is_over.set()  # for what is in work, if this was interrupted
        finally:
            torch.set_num_threads(threads)


def _in_turn(
    pool: ThreadPoolExecutor, work: Callable[[Piece[Result]], Result], pieces: Iterable[Piece[Result]], ahead: int
) -> Iterator[Result]:
    """`pool.map`, with at most so many pieces taken that are not done."""
    begun = deque[Future[Result]]()
    for piece in pieces:
        begun.append(pool.submit(work, piece))
        if len(begun) == ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _without_gradients(piece: Piece[Result], go_on: GoOn) -> Result:
    with torch.no_grad():
        return piece(go_on)
