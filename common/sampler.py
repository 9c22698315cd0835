"""Sampling: from noise to hypotheses at every step, with the mirrored copy averaged in."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from common.diffusion import CLAMP, Denoise, GaussianDiffusion
from common.seeds import seeded_generator
from common.skeleton import Skeleton, mirror
from common.solvers import PUBLISHED, Solver
from common.text_prompts import Prompts
from common.threads import side_by_side

CPU_CHUNK = 1024 * 512
"""Tokens (a joint in a frame) times the network's width that go through at once on each of a CPU's threads."""

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


def average_with_mirror(
    given: Given,
    x_2d: Tensor,
    prompts: Prompts,
    skeleton: Skeleton,
    num_hypotheses: int,
    chunk: int,
    workers: int = 1,
) -> Denoise:
    """Denoise windows as the mean of the prediction and of the mirrored prediction of the mirrored input.

    Args:
        given: the network.
        x_2d, prompts: B windows and their texts.
        skeleton: how poses are mirrored.
        num_hypotheses: H.
        chunk: so many sequences go through the network at once; a sequence is a window's or its mirror image's
            hypothesis.
        workers: so many chunks side by side.
    """
    both_2d = torch.cat([x_2d, mirror(x_2d, skeleton)])
    both_prompts = Prompts(*(torch.cat([part, part]) for part in prompts))
    # As few calls as can be but one for every worker, and all of a size.
    num_parts = max(math.ceil(len(both_2d) / max(1, chunk // num_hypotheses)), min(workers, len(both_2d)))
    calls = min(num_hypotheses, max(math.ceil(num_hypotheses / chunk), math.ceil(workers / num_parts)))
    windows = torch.arange(len(both_2d), device=x_2d.device).tensor_split(num_parts)
    parts = [given(both_2d[part], both_prompts.select(part)) for part in windows]

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        with_image, t = torch.cat([x_t, mirror(x_t, skeleton)]), torch.cat([t, t])
        pieces = [
            partial(of_part, x, t[part])
            for part, of_part in zip(windows, parts, strict=True)
            for x in with_image[part].tensor_split(calls, dim=1)
        ]
        answers = side_by_side(pieces, workers)
        rows = [torch.cat(answers[first : first + calls], dim=1) for first in range(0, len(answers), calls)]
        plain, mirrored = torch.cat(rows).chunk(2)
        return (plain + mirror(mirrored, skeleton)) / 2

    return denoise


def sample_hypotheses(
    given: Given,
    diffusion: GaussianDiffusion,
    x_2d: Tensor,
    prompts: Prompts,
    noise: Tensor,
    skeleton: Skeleton,
    chunk: int,
    solver: Solver = PUBLISHED,
    workers: int = 1,
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
        chunk: sequences through the network at once, see `average_with_mirror`.
        solver: from step to step.
        workers: so many chunks side by side.

    Returns:
        (B, K, H, F, J, 3), camera space, metres, the root at 0.
    """
    _, B, H, *_ = noise.shape
    both_at_once = max(1, chunk // H) * workers  # windows and mirror images
    chunks = []
    for window in torch.arange(B, device=x_2d.device).split(max(1, both_at_once // 2)):
        denoise = average_with_mirror(given, x_2d[window], prompts.select(window), skeleton, H, chunk, workers)
        chunks.append(sample_steps(denoise, diffusion, noise[:, window], solver))
    samples = torch.cat(chunks)
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
