"""Sampling: from noise to hypotheses at every step, with the mirrored copy averaged in."""

from collections.abc import Callable
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor

from common.diffusion import CLAMP, GaussianDiffusion
from common.seeds import seeded_generator
from common.skeleton import Skeleton, mirror
from common.solvers import PUBLISHED, Solver
from common.text_prompts import Prompts


def sampling_times(num_timesteps: int, sampling_timesteps: int) -> list[tuple[int, int]]:
    """(t, next t) of each of the K steps, downwards; the last next t is -1, the clean pose."""
    times = torch.linspace(-1, num_timesteps - 1, sampling_timesteps + 1).int().tolist()[::-1]
    return list(pairwise(times))


def sample_steps(
    denoise: Callable[[Tensor, Tensor], Tensor], diffusion: GaussianDiffusion, noise: Tensor, solver: Solver = PUBLISHED
) -> Tensor:
    """From noise down to clean poses.

    Args:
        denoise: (x_t (B, H, F, J, 3), t (B,)) -> predicted x_start (B, H, F, J, 3), metres.
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


def average_with_mirror(
    denoise: Callable[[Tensor, Tensor, Tensor, Prompts], Tensor],
    x_2d: Tensor,
    x_t: Tensor,
    t: Tensor,
    prompts: Prompts,
    skeleton: Skeleton,
) -> Tensor:
    """The mean of the prediction and of the mirrored prediction of the mirrored input: (B, H, F, J, 3).

    `denoise(x_2d, x_t, t, prompts)` is called once, with 2B windows: the windows, then their mirror images.
    """
    with_image_2d, with_image_t = (torch.cat([poses, mirror(poses, skeleton)]) for poses in (x_2d, x_t))
    twice = Prompts(*(torch.cat([part, part]) for part in prompts))
    plain, mirrored = denoise(with_image_2d, with_image_t, torch.cat([t, t]), twice).chunk(2)
    return (plain + mirror(mirrored, skeleton)) / 2


def sample_hypotheses(
    denoise: Callable[[Tensor, Tensor, Tensor, Prompts], Tensor],
    diffusion: GaussianDiffusion,
    x_2d: Tensor,
    prompts: Prompts,
    noise: Tensor,
    skeleton: Skeleton,
    max_tokens: int,
    solver: Solver = PUBLISHED,
) -> Tensor:
    """All hypotheses of a batch of windows, a chunk of (window, hypothesis) rows at a time.

    Rows know nothing of each other, so a chunk goes through all K steps alone: peak memory does not grow with H
    beyond the noise and the result. Row i's answer does not depend on the chunks.

    Args:
        denoise: (x_2d (B, F, J, 2), x_t (B, H, F, J, 3), t (B,), prompts) -> (B, H, F, J, 3).
        diffusion: the schedule and the scale.
        x_2d: (B, F, J, 2), screen coordinates.
        prompts: one text a window.
        noise: (K, B, H, F, J, 3), see `sample_steps`.
        skeleton: how poses are mirrored.
        max_tokens: frames times joints of a chunk, mirror images counted; a chunk has at least one row.
        solver: from step to step.

    Returns:
        (B, K, H, F, J, 3), camera space, metres, the root at 0.
    """
    K, B, H, F, J, _ = noise.shape

    def run(x_2d: Tensor, prompts: Prompts, noise: Tensor) -> Tensor:
        def both_ways(x_t: Tensor, t: Tensor) -> Tensor:
            return average_with_mirror(denoise, x_2d, x_t, t, prompts, skeleton)

        return sample_steps(both_ways, diffusion, noise, solver)

    rows = noise.reshape(K, B * H, 1, F, J, 3)
    size = max(1, max_tokens // (2 * F * J))
    chunks = []
    for row in torch.arange(B * H, device=noise.device).split(size):
        window = row // H
        chunks.append(run(x_2d[window], prompts.select(window), rows[:, row]))
    samples = rearrange(torch.cat(chunks), "(b h) k 1 f j c -> b k h f j c", b=B)
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
