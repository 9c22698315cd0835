"""DDIM sampling: from noise to hypotheses at every step, with the mirrored copy averaged in."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from common.diffusion import CLAMP, GaussianDiffusion
from common.skeleton import Skeleton, mirror


def sampling_times(num_timesteps: int, sampling_timesteps: int) -> list[tuple[int, int]]:
    """(t, next t) of each of the K steps, downwards; the last next t is -1, the clean pose."""
    times = torch.linspace(-1, num_timesteps - 1, sampling_timesteps + 1).int().tolist()[::-1]
    return list(pairwise(times))


def ddim_sample(
    denoise: Callable[[Tensor, Tensor], Tensor],
    diffusion: GaussianDiffusion,
    noise: Tensor,
    eta: float = 1.0,
) -> Tensor:
    """Song et al. 2021, Eq. 12, with sigma from Eq. 16; their alpha_t is our alphas_cumprod[t].

    Args:
        denoise: (x_t (B, H, F, J, 3), t (B,)) -> predicted x_start (B, H, F, J, 3), metres.
        diffusion: the schedule and the scale.
        noise: (K, B, H, F, J, 3) standard normal; noise[0] is the start, noise[k] is added after step k.
        eta: 1 adds the noise of DDPM, 0 none.

    Returns:
        (B, K, H, F, J, 3): every step's predicted x_start, metres.
    """
    K, B = noise.shape[:2]
    limit = CLAMP * diffusion.scale
    alphas_cumprod = diffusion.alphas_cumprod.to(noise)
    x, predictions = noise[0], []
    for step, (time, time_next) in enumerate(sampling_times(diffusion.num_timesteps, K)):
        t = torch.full((B,), time, device=x.device)
        x_start = (denoise(diffusion.noisy_pose(x), t) * diffusion.scale).clamp(-limit, limit)
        predictions.append(x_start / diffusion.scale)
        if time_next < 0:
            break
        alpha, alpha_next = alphas_cumprod[time], alphas_cumprod[time_next]
        predicted_noise = (x - alpha.sqrt() * x_start) / (1 - alpha).sqrt()
        sigma = eta * ((1 - alpha / alpha_next) * (1 - alpha_next) / (1 - alpha)).sqrt()
        direction = (1 - alpha_next - sigma**2).sqrt() * predicted_noise
        x = alpha_next.sqrt() * x_start + direction + sigma * noise[step + 1]
    return torch.stack(predictions, dim=1)


def average_with_mirror(denoise: Callable, x_2d: Tensor, x_t: Tensor, t: Tensor, skeleton: Skeleton) -> Tensor:
    """The mean of the prediction and of the mirrored prediction of the mirrored input: (B, H, F, J, 3).

    `denoise(x_2d, x_t, t)` is called once, with 2B windows: the windows, then their mirror images.
    """
    both = denoise(
        torch.cat([x_2d, mirror(x_2d, skeleton)]),
        torch.cat([x_t, mirror(x_t, skeleton)]),
        torch.cat([t, t]),
    )
    plain, mirrored = both.chunk(2)
    return (plain + mirror(mirrored, skeleton)) / 2
