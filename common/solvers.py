"""From one diffusion step to the next: DDIM with any eta, and DPM-Solver++(2M).

Both take the predicted clean poses, so a step costs one pass of the network whichever is chosen. Symbols:
alphas_cumprod[t] is DDIM's alpha_t; DPM-Solver's alpha_t and sigma_t are sqrt(alphas_cumprod[t]) and
sqrt(1 - alphas_cumprod[t]).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from common.diffusion import GaussianDiffusion

Advance = Callable[[Tensor, Tensor, int, int, Tensor], Tensor]
"""(x, predicted x_start, t, next t, fresh noise), poses times the scale -> x at the next t."""

DDIM, DPM_SOLVER = "ddim", "dpm++2m"


@dataclass(frozen=True)
class Solver:
    """How a run samples; the default is the published one."""

    name: str = DDIM
    eta: float = 1.0
    """Of DDIM: 1 adds the noise of DDPM, 0 none."""

    def start(self, diffusion: GaussianDiffusion) -> Advance:
        """A walk down the steps; DPM-Solver++ remembers the step before, so each walk has one of its own."""
        if self.name == DPM_SOLVER:
            return DPMSolver2M(diffusion)
        return lambda *of_step: ddim_step(diffusion, self.eta, *of_step)


PUBLISHED = Solver()


def ddim_step(
    diffusion: GaussianDiffusion, eta: float, x: Tensor, x_start: Tensor, time: int, time_next: int, noise: Tensor
) -> Tensor:
    """Song et al. 2021, Eq. 12, with sigma from Eq. 16."""
    alpha, alpha_next = diffusion.alphas_cumprod[[time, time_next]].tolist()
    predicted_noise = (x - alpha**0.5 * x_start) / (1 - alpha) ** 0.5
    # In float64: near t = T the two variances differ by less than float32 can tell.
    variance = eta**2 * (1 - alpha / alpha_next) * (1 - alpha_next) / (1 - alpha)
    direction = max(0.0, 1 - alpha_next - variance) ** 0.5 * predicted_noise
    return alpha_next**0.5 * x_start + direction + variance**0.5 * noise


class DPMSolver2M:
    """Lu et al. 2022 (DPM-Solver++), Algorithm 2: second order, by the prediction of the step before; no noise."""

    def __init__(self, diffusion: GaussianDiffusion):
        self.alphas_cumprod = diffusion.alphas_cumprod
        self.before: tuple[Tensor, float] | None = None
        """The last step's x_start, and how far it went in log signal-to-noise (h)."""

    def __call__(self, x: Tensor, x_start: Tensor, time: int, time_next: int, _noise: Tensor) -> Tensor:
        (alpha, sigma), (alpha_next, sigma_next) = self._at(time), self._at(time_next)
        h = math.log(alpha_next / sigma_next) - math.log(alpha / sigma)
        data = x_start
        if self.before is not None:
            x_start_before, h_before = self.before
            data = x_start + h / (2 * h_before) * (x_start - x_start_before)
        self.before = x_start, h
        return sigma_next / sigma * x - alpha_next * math.expm1(-h) * data

    def _at(self, time: int) -> tuple[float, float]:
        alpha_squared = self.alphas_cumprod[time].item()
        return alpha_squared**0.5, (1 - alpha_squared) ** 0.5
