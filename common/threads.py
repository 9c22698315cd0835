"""Pieces of work side by side on a CPU: each on a thread of its own, with its share of the processor.

Two products at once on one core each take less time than one after the other on two: no thread waits for another within
a product, and what a piece works on stays in one core's cache (docs/PERFORMANCE.md).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def side_by_side(pieces: Sequence[Callable[[], Result]], workers: int) -> list[Result]:
    """What each piece gives, in order, without gradients.

    Args:
        pieces: of work, none of which waits for another.
        workers: so many at once; they share PyTorch's threads.
    """
    workers = min(workers, len(pieces))
    if workers < 2:
        return [_without_gradients(piece) for piece in pieces]
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))  # of each thread that begins after it
    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(_without_gradients, pieces))
    finally:
        torch.set_num_threads(threads)


def _without_gradients(piece: Callable[[], Result]) -> Result:
    with torch.no_grad():  # which PyTorch knows for each thread
        return piece()
