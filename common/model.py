"""DSGDiffu whole: the denoiser, the prompts it reads, and the diffusion they live in."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.clip_text import TextTower
from common.denoiser import Denoiser, DenoiserConfig
from common.devices import upload
from common.diffusion import Denoise, GaussianDiffusion
from common.sampler import CPU_CHUNK, THREADS_CHUNK, sample_hypotheses
from common.skeleton import Skeleton
from common.solvers import PUBLISHED, Solver
from common.text_prompts import NEUTRAL_VERB, PromptEncoder, PromptPart, Prompts, distinct
from common.threads import num_cores

MOST_APART = 16
"""Threads that sample something else each: it takes memory, and all of them wait for Python's one interpreter."""


class Draws(NamedTuple):
    """What is random in a training step of B windows, drawn for a whole batch, whoever computes which of its windows.

    Dropout (`-drop`, 0 as published) is not here: every layer draws its own.
    """

    hidden: Tensor
    """(B,) bool, the windows that are not told their action."""
    t: Tensor
    """(B,) long, diffusion steps, 0..T-1."""
    noise: Tensor
    """(B, 1, F, J, 3), standard normal."""
    dropped: Tensor
    """(B, 2*depth-1, 2) bool, the windows that go without an attention or an MLP of the denoiser's `blocks`."""

    def of(self, windows: Tensor) -> "Draws":
        return Draws(*(drawn[windows] for drawn in self))


class DSGDiffu(nn.Module):
    """What is trained, saved and sampled. The frozen text tower is part of it and not of its saved state."""

    denoiser_class = Denoiser
    prompt_encoder_class = PromptEncoder

    def __init__(
        self,
        denoiser: Denoiser,
        prompt_encoder: PromptEncoder,
        diffusion: GaussianDiffusion,
        autocast_dtype: torch.dtype | None = None,
        solver: Solver = PUBLISHED,
        chunk: int = 0,
    ):
        """
        Args:
            denoiser, prompt_encoder: of the same width.
            diffusion: the schedule and the scale.
            autocast_dtype: the precision of the networks' products; None is the weights' own.
            solver: how it is sampled.
            chunk: at most so many sequences (hypotheses of windows and of their mirror images) at once in sampling; 0:
                as many as the device takes well.
        """
        super().__init__()
        self.denoiser = denoiser
        self.prompt_encoder = prompt_encoder
        self.diffusion = diffusion
        self.autocast_dtype = autocast_dtype
        self.solver = solver
        self.chunk = chunk
        self.is_compiled = False

    @classmethod
    def build(
        cls,
        config: DenoiserConfig,
        skeleton: Skeleton,
        parts: Sequence[PromptPart],
        tower: TextTower,
        diffusion: GaussianDiffusion,
        autocast_dtype: torch.dtype | None = None,
        solver: Solver = PUBLISHED,
        chunk: int = 0,
    ) -> "DSGDiffu":
        """The network for a skeleton and a sentence, with new weights."""
        denoiser = cls.denoiser_class(config, skeleton, tower.config.width)
        prompt_encoder = cls.prompt_encoder_class(parts, tower, config.width, config.dropout)
        return cls(denoiser, prompt_encoder, diffusion, autocast_dtype, solver, chunk)

    @property
    def device(self) -> torch.device:
        return self.denoiser.embedding.weight.device

    @property
    def skeleton(self) -> Skeleton:
        return self.denoiser.skeleton

    def autocast(self):
        return torch.autocast(self.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None)

    def encode(self, verbs: Sequence[str]) -> Prompts:
        """The prompts of a batch of windows, each distinct verb encoded once."""
        texts, index = distinct(verbs)
        with self.autocast():
            return self.prompt_encoder(texts).select(upload(index, self.device))

    def draw(self, x_start_shape: Sequence[int], text_dropout: float, generator: torch.Generator) -> Draws:
        """All that is random in a training step, but for dropout.

        Args:
            x_start_shape: (B, F, J, 3).
            text_dropout: the chance that a window is given the neutral text instead of its action.
            generator: on the CPU, so that a seed means the same on every device.
        """
        B, F, J, _ = x_start_shape
        rates = torch.tensor([block.drop_path for block in self.denoiser.blocks])
        return Draws(
            hidden=torch.rand(B, generator=generator) < text_dropout,
            t=torch.randint(self.diffusion.num_timesteps, (B,), generator=generator),
            noise=torch.randn(B, 1, F, J, 3, generator=generator),
            dropped=torch.rand(B, len(rates), 2, generator=generator) < rates[:, None],
        )

    def training_loss(self, x_2d: Tensor, x_start: Tensor, verbs: Sequence[str], draws: Draws) -> Tensor:
        """Mean joint error at random diffusion steps, metres (a scalar).

        Args:
            x_2d: (B, F, J, 2), screen coordinates.
            x_start: (B, F, J, 3), camera space, root-relative, metres.
            verbs: the action of each window.
            draws: of these windows.
        """
        told = [NEUTRAL_VERB if hide else verb for verb, hide in zip(verbs, draws.hidden.tolist(), strict=True)]
        t, noise, dropped = (upload(drawn, x_2d.device) for drawn in (draws.t, draws.noise, draws.dropped))
        denoise = self.given(x_2d, self.encode(told), dropped)
        return self.diffusion.training_loss(denoise, x_start[:, None], t, noise)

    def forward(self, x_2d: Tensor, x_start: Tensor, verbs: Sequence[str], draws: Draws) -> Tensor:
        """`training_loss`: what processes that train together exchange gradients after."""
        return self.training_loss(x_2d, x_start, verbs, draws)

    def given(self, x_2d: Tensor, prompts: Prompts, dropped: Tensor | None = None) -> Denoise:
        """The denoiser of these windows, in the precision that was asked for.

        Args:
            x_2d: (B, F, J, 2), screen coordinates.
            prompts: one text a window.
            dropped: see `Denoiser.predict`.

        Returns:
            (x_t (B, H, F, J, 3), t (B,)) -> predicted x_start (B, H, F, J, 3) float32, metres.
        """
        with self.autocast():
            denoise = self.denoiser.given(x_2d, prompts, dropped)

        def in_precision(x_t: Tensor, t: Tensor) -> Tensor:
            with self.autocast():
                return denoise(x_t, t).to(x_t.dtype)

        return in_precision

    @torch.no_grad()
    def sample(self, x_2d: Tensor, prompts: Prompts, noise: Tensor) -> Tensor:
        """Hypotheses at every step: (B, K, H, F, J, 3), camera space, root-relative, metres; see the sampler."""
        threads = self.threads_apart()
        if self.chunk:
            threads = min(threads, self.chunk)
            chunk = self.chunk // threads
        else:
            chunk = max(1, self.tokens_at_once(threads) // math.prod(x_2d.shape[1:3]))
        return sample_hypotheses(
            self.given, self.diffusion, x_2d, prompts, noise, self.skeleton, chunk, self.solver, threads
        )

    def threads_apart(self) -> int:
        """How many threads may each sample something else.

        One on a GPU. One as well if the network is compiled, or its weights are cast in every call: the larger the
        calls, the fewer casts; or if there are fewer cores for them than PyTorch has for its own.
        """
        threads = torch.get_num_threads()
        is_plain = self.device.type == "cpu" and not self.is_compiled and self.autocast_dtype is None
        return min(threads, MOST_APART) if is_plain and threads <= num_cores() else 1

    def tokens_at_once(self, threads: int) -> int:
        """How many tokens (a joint in a frame) the denoiser takes at once for each thread, when none asks for less.

        At the published width of 512: what a CPU's caches hold, or what keeps a GPU busy, if its free memory takes it.
        """
        width = self.denoiser.config.width
        if self.device.type == "cpu":
            return (THREADS_CHUNK if threads > 1 else CPU_CHUNK) // width
        tokens = 65536 * 512 // width
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            # Of a block's tensors at most 8 of the width, float32, live at once; half of the memory is left alone.
            tokens = min(tokens, free // (2 * 8 * 4 * width))
        return tokens

    def compile(self, **options) -> None:
        """torch.compile the denoiser, all but what a window's hypotheses share; options are torch.compile's."""
        self.is_compiled = True
        self.denoiser.predict = torch.compile(self.denoiser.predict, **options)  # type: ignore[method-assign]

    def trained_state(self) -> dict[str, Tensor]:
        """The weights without the frozen tower's."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("prompt_encoder.tower")}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `trained_state` gave.

        Raises:
            RuntimeError: names or shapes differ.
        """
        tower = {
            f"prompt_encoder.tower.{name}": value for name, value in self.prompt_encoder.tower.state_dict().items()
        }
        self.load_state_dict({**state, **tower})

    def trained_parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> "DSGDiffu":
        super().train(mode)
        self.prompt_encoder.tower.eval()
        return self
