"""The diffusion: noise schedule, forward noising and the training loss. It knows no network.

Symbols: our alphas_cumprod[t] is alpha-bar_t of DDPM (Ho et al. 2020) and alpha_t of DDIM (Song et al. 2021).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from common.devices import upload

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, H, F, J, 3), t (B,)) -> predicted x_start (B, H, F, J, 3), metres."""

MOST_TIMESTEPS = 1_000_000
"""Of T in a file: a schedule's tables are made for each step. The published network has 1000."""
CLAMP = 1.1
"""Noisy poses are clamped to this many times the scale (D3DP, Shan et al. 2023)."""


def cosine_beta_schedule(num_timesteps: int, s: float = 0.008) -> Tensor:
    """Nichol & Dhariwal 2021, Eq. 17; betas clipped at 0.999. Returns (T,) float64."""
    steps = torch.linspace(0, num_timesteps, num_timesteps + 1, dtype=torch.float64)
    alphas_cumprod = torch.cos((steps / num_timesteps + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(0, 0.999)


class GaussianDiffusion:
    """The schedule as tables over t = 0..T-1, kept in float64 and used in the poses' own precision."""

    def __init__(self, num_timesteps: int = 1000, scale: float = 1.0):
        """
        Args:
            num_timesteps: T.
            scale: poses are multiplied by it before noise is added (signal-to-noise ratio).
        """
        self.num_timesteps = num_timesteps
        self.scale = scale
        self.betas = cosine_beta_schedule(num_timesteps)
        self.alphas_cumprod = torch.cumprod(1 - self.betas, dim=0)

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noise x_start to step t: DDPM, Eq. 4.

        Args:
            x_start, noise: (B, ...), the same shape.
            t: (B,) steps.
        """
        alpha = self.at(self.alphas_cumprod, t, x_start)
        return alpha.sqrt() * x_start + (1 - alpha).sqrt() * noise

    def noisy_pose(self, x: Tensor) -> Tensor:
        """What the network is shown of a noisy x: clamped, and in metres again."""
        limit = CLAMP * self.scale
        return x.clamp(-limit, limit) / self.scale

    def training_loss(self, denoise: Denoise, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Mean joint distance between the predicted and the true pose at random steps, in metres (a scalar).

        Args:
            denoise: of the windows.
            x_start: (B, H, F, J, 3) true poses, root-relative, metres.
            t: (B,) the steps.
            noise: like x_start, standard normal.
        """
        x_t = self.noisy_pose(self.q_sample(x_start * self.scale, t, noise))
        return (denoise(x_t, t) - x_start).norm(dim=-1).mean()

    @staticmethod
    def at(table: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """table[t] shaped to broadcast over x (B, ...), in x's precision."""
        return upload(table, x.device)[t].to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
