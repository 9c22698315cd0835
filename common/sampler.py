"""Sampling: from noise to hypotheses at every step, with the mirrored copy averaged in."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from common.diffusion import CLAMP, Denoise, GaussianDiffusion
from common.seeds import seeded_generator
from common.skeleton import Skeleton, mirror
from common.solvers import PUBLISHED, Solver
from common.text_prompts import Prompts
from common.threads import GAIN, GoOn, Piece, num_workers, side_by_side

CPU_CHUNK = 4096 * 512
"""Tokens (a joint in a frame) times the network's width that go through at once: what a CPU's caches hold."""
THREADS_CHUNK = 1024 * 512
"""The same, where each of a CPU's threads has a chunk of its own."""
LEAST_SHARE = 0.25
"""Of a chunk: a thread with less to do gains little over all threads within each product (docs/PERFORMANCE.md)."""

Given = Callable[[Tensor, Prompts], Denoise]
"""(x_2d (B, F, J, 2), prompts) -> how those B windows are denoised; once for all hypotheses and steps."""


def sampling_times(num_timesteps: int, sampling_timesteps: int) -> list[tuple[int, int]]:
    """(t, next t) of each of the K steps, downwards; the last next t is -1, the clean pose."""
    times = torch.linspace(-1, num_timesteps - 1, sampling_timesteps + 1).int().tolist()[::-1]
    return list(pairwise(times))


def sample_steps(denoise: Denoise, diffusion: GaussianDiffusion, noise: Tensor, solver: Solver = PUBLISHED) -> Tensor:
    """From noise down to clean poses.

    Args:
        denoise: of the windows.
        diffusion: the schedule and the scale.
        noise: (K, B, H, F, J, 3) standard normal; noise[0] is the start, noise[k] is for the solver after step k.
        solver: from step to step.

    Returns:
        (B, K, H, F, J, 3): every step's predicted x_start, metres.
    """
    K, B = noise.shape[:2]
    limit = CLAMP * diffusion.scale
    advance = solver.start(diffusion)
    x, predictions = noise[0], []
    for step, (time, time_next) in enumerate(sampling_times(diffusion.num_timesteps, K)):
        t = torch.full((B,), time, device=x.device)
        x_start = (denoise(diffusion.noisy_pose(x), t) * diffusion.scale).clamp(-limit, limit)
        predictions.append(x_start / diffusion.scale)
        if time_next < 0:
            break
        x = advance(x, x_start, time, time_next, noise[step + 1])
    return torch.stack(predictions, dim=1)


def average_with_mirror(given: Given, x_2d: Tensor, prompts: Prompts, skeleton: Skeleton, rows: int) -> Denoise:
    """Denoise windows as the mean of the prediction and of the mirrored prediction of the mirrored input.

    Args:
        given: the network.
        x_2d, prompts: B windows and their texts.
        skeleton: how poses are mirrored.
        rows: so many windows and mirror images go through the network at once.
    """
    both_2d = torch.cat([x_2d, mirror(x_2d, skeleton)])
    both_prompts = Prompts(*(torch.cat([part, part]) for part in prompts))
    windows = torch.arange(len(both_2d), device=x_2d.device).split(rows)
    parts = [given(both_2d[part], both_prompts.select(part)) for part in windows]

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        with_image, t = torch.cat([x_t, mirror(x_t, skeleton)]), torch.cat([t, t])
        answers = [of_part(with_image[part], t[part]) for part, of_part in zip(windows, parts, strict=True)]
        plain, mirrored = torch.cat(answers).chunk(2)
        return (plain + mirror(mirrored, skeleton)) / 2

    return denoise


class Split(NamedTuple):
    """How a batch of windows is taken apart for sampling."""

    groups: int
    """Of the windows."""
    parts: int
    """Of the hypotheses of a group."""
    workers: int
    """Threads that each have a piece, a part of a group, at the same time."""


@lru_cache(maxsize=1000)
def best_split(num_windows: int, num_hypotheses: int, chunk: int, threads: int = 1) -> Split:
    """The split that is done the soonest, by what `num_workers` takes threads to be worth.

    Args:
        num_windows, num_hypotheses: of the batch.
        chunk: at most so many sequences at once for each thread; where all work on the same piece, for all together.
        threads: that may each have a piece.
    """
    B, H = num_windows, num_hypotheses
    pairs = max(1, chunk // 2)  # of a window and its image, which are taken apart only where there is room for one
    splits = [
        Split(groups, parts, num_workers(groups * parts, threads))
        for groups in _counts(B, pairs)
        for parts in _counts(H, pairs // math.ceil(B / groups))
        if LEAST_SHARE * chunk * groups * parts <= 2 * B * H
    ]
    groups = math.ceil(B / max(1, chunk * threads // (2 * H)))
    together = Split(groups, math.ceil(H / max(1, chunk * threads // 2)), 1)
    best, best_time = together, B * H / threads**GAIN
    for split in sorted(splits, key=lambda split: (split.groups * split.parts, split.parts)):
        largest = math.ceil(B / split.groups) * math.ceil(H / split.parts)
        rounds = math.ceil(split.groups * split.parts / split.workers)
        time = largest * rounds / (threads // split.workers) ** GAIN
        if split.workers > 1 and time < best_time:
            best, best_time = split, time
    return best


def _counts(number: int, most: int) -> list[int]:
    """Into how many shares, of at most so many, a number can be divided."""
    return sorted({math.ceil(number / share) for share in range(1, min(number, most) + 1)})


def sample_hypotheses(
    given: Given,
    diffusion: GaussianDiffusion,
    x_2d: Tensor,
    prompts: Prompts,
    noise: Tensor,
    skeleton: Skeleton,
    chunk: int,
    solver: Solver = PUBLISHED,
    threads: int = 1,
) -> Tensor:
    """All hypotheses of a batch of windows, a few windows at a time, and a few hypotheses of those.

    Peak memory does not grow with B or H beyond the noise and the result. No answer depends on the chunks.

    Args:
        given: the network.
        diffusion: the schedule and the scale.
        x_2d: (B, F, J, 2), screen coordinates.
        prompts: one text a window.
        noise: (K, B, H, F, J, 3), see `sample_steps`.
        skeleton: how poses are mirrored.
        chunk: at most so many sequences go through the network at once for each thread, in one call for all of them
            where they work on the same; a sequence is a hypothesis of a window or of its mirror image.
        solver: from step to step.
        threads: of the CPU, which may each have a chunk of their own.

    Returns:
        (B, K, H, F, J, 3), camera space, metres, the root at 0.
    """
    K, B, H, *pose = noise.shape
    split = best_split(B, H, chunk, threads)
    at_once = chunk if split.workers > 1 else chunk * threads
    samples = noise.new_empty(B, K, H, *pose)

    def pieces() -> Iterator[Piece[None]]:
        groups = (of.tensor_split(split.groups, dim) for of, dim in ((x_2d, 0), (noise, 1), (samples, 0)))
        begin = 0
        for windows, drawn, answers in zip(*groups, strict=True):
            end = begin + len(windows)
            texts = Prompts(*(part[begin:end] for part in prompts))
            denoise = average_with_mirror(given, windows, texts, skeleton, min(2 * len(windows), at_once))
            for part, answer in zip(*(of.tensor_split(split.parts, 2) for of in (drawn, answers)), strict=True):
                yield partial(fill, answer, denoise, part)
            begin = end

    def fill(answer: Tensor, denoise: Denoise, noise: Tensor, go_on: GoOn) -> None:
        def step(x_t: Tensor, t: Tensor) -> Tensor:
            go_on()
            return denoise(x_t, t)

        answer.copy_(sample_steps(step, diffusion, noise, solver))

    side_by_side(pieces(), split.workers)
    samples[..., skeleton.root, :] = 0
    return samples


def window_noise(seed: int, name: str, window: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise that belongs to one window of one clip, whatever batch or process it is in.

    Args:
        seed: the run's.
        name: the clip's.
        window: its number in the clip.
        shape: (K, H, F, J, 3).
    """
    return torch.randn(shape, generator=seeded_generator(seed, name, window))
