"""Sampling: from noise to hypotheses at every step, with the mirrored copy averaged in."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from common.diffusion import CLAMP, Denoise, GaussianDiffusion
from common.seeds import seeded_generator
from common.skeleton import Skeleton, mirror
from common.solvers import PUBLISHED, Solver
from common.text_prompts import Prompts
from common.threads import GoOn, Piece, num_workers, side_by_side

CPU_CHUNK = 4096 * 512
"""Tokens (a joint in a frame) times the network's width that go through at once: what a CPU's caches hold."""
THREADS_CHUNK = 1024 * 512
"""The same, where each of a CPU's threads has a chunk of its own."""
LEAST_SHARE = 0.25
"""Of a chunk: a thread with less to do gains nothing over all threads within each product (docs/PERFORMANCE.md)."""

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


def num_pieces(num_windows: int, num_hypotheses: int, chunk: int, threads: int = 1) -> tuple[int, int]:
    """Into how many groups of windows, and parts of their hypotheses, to take a batch apart, about of a size.

    As few as the chunk allows, rounded up so that as many threads as there is enough for have the same to do.

    Args:
        num_windows, num_hypotheses: of the batch.
        chunk: at most so many sequences in a piece; a window and its image are taken apart only where it is 1.
        threads: that may each have a piece.
    """
    groups = math.ceil(num_windows / max(1, chunk // (2 * num_hypotheses)))
    parts = math.ceil(num_hypotheses / max(1, chunk // 2))
    busy = min(threads, max(1, int(2 * num_windows * num_hypotheses / (LEAST_SHARE * chunk))))
    more_groups = _next_multiple(groups, busy // math.gcd(busy, parts))
    more_parts = _next_multiple(parts, busy // math.gcd(busy, groups))
    if more_groups <= num_windows:
        return more_groups, parts
    if more_parts <= num_hypotheses:
        return groups, more_parts
    return groups, parts


def _next_multiple(number: int, of: int) -> int:
    return math.ceil(number / of) * of


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

    Peak memory does not grow with H beyond the noise and the result. No answer depends on the chunks.

    Args:
        given: the network.
        diffusion: the schedule and the scale.
        x_2d: (B, F, J, 2), screen coordinates.
        prompts: one text a window.
        noise: (K, B, H, F, J, 3), see `sample_steps`.
        skeleton: how poses are mirrored.
        chunk: so many sequences go through the network at once; a sequence is a window's or its mirror image's
            hypothesis.
        solver: from step to step.
        threads: of the CPU, which may each have a chunk of their own.

    Returns:
        (B, K, H, F, J, 3), camera space, metres, the root at 0.
    """
    _, B, H, *_ = noise.shape
    groups, parts = num_pieces(B, H, chunk, threads)
    windows = torch.arange(B, device=x_2d.device).tensor_split(groups)

    def pieces() -> Iterator[Piece[Tensor]]:
        for window, drawn in zip(windows, noise.tensor_split(groups, dim=1), strict=True):
            rows = min(2 * len(window), chunk)
            denoise = average_with_mirror(given, x_2d[window], prompts.select(window), skeleton, rows)
            for part in drawn.tensor_split(parts, dim=2):
                yield partial(steps, denoise, part)

    def steps(denoise: Denoise, noise: Tensor, go_on: GoOn) -> Tensor:
        def step(x_t: Tensor, t: Tensor) -> Tensor:
            go_on()
            return denoise(x_t, t)

        return sample_steps(step, diffusion, noise, solver)

    found = side_by_side(pieces(), num_workers(groups * parts, threads))
    samples = torch.cat([torch.cat(found[first : first + parts], dim=2) for first in range(0, len(found), parts)])
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
