"""The denoiser: (2D poses, noisy 3D poses, diffusion step, prompts) -> the predicted clean 3D poses.

Dimension letters: B windows, H hypotheses, F frames, J joints, D width, L text tokens, E text width; R = B*H rows.
What hypotheses and diffusion steps share, the 2D poses' and the text's part, is computed once (`condition`).
The backbone is MixSTE's (Zhang et al. 2022) under D3DP's diffusion (Shan et al. 2023); the prompt attention is
FinePOSE's (Xu et al. 2024); DSGDiffu puts graph attention over the skeleton in place of the first spatial block.
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from common.diffusion import Denoise
from common.errors import UsageError
from common.layers import (
    SPATIAL,
    TEMPORAL,
    Block,
    GraphAttention,
    PromptAttention,
    TextKeys,
    sinusoidal_embedding,
)
from common.skeleton import Skeleton
from common.skeleton_graph import adjacency_matrix
from common.text_prompts import TEXT_WIDTH, Prompts

NUM_HEADS = 8


@dataclass(frozen=True)
class DenoiserConfig:
    """Everything that fixes the denoiser's shape. The published network: 243 frames, width 512, depth 8."""

    num_frames: int = 243
    width: int = 512
    depth: int = 8
    dropout: float = 0.0

    def __post_init__(self):
        if self.width % NUM_HEADS or self.width < NUM_HEADS:
            raise UsageError(
                f"-cs is {self.width}: the width must be a multiple of {NUM_HEADS}, one part for each head"
            )
        if self.depth < 1:
            raise UsageError(f"-dep is {self.depth}: the network needs at least 1 layer")
        if not 0 <= self.dropout <= 1:
            raise UsageError(f"-drop is {self.dropout}: a part from 0 to 1 is left out")
        if self.num_frames < 1:
            raise UsageError(f"-f is {self.num_frames}: a window needs at least 1 frame")


class Condition(NamedTuple):
    """What the network knows of each window beside its noisy poses: the same for all hypotheses and steps."""

    embedding: Tensor
    """(B, F, J, D): the 2D poses' share of the embedding, with the joints' positions."""
    text_proj: Tensor
    """(B, D), added to the embedding of the diffusion step."""
    text: TextKeys
    """Attended to by every joint."""


class Denoiser(nn.Module):
    """The whole network in reading order; its shape is the config's and the skeleton's."""

    graph_attention_class = GraphAttention
    prompt_attention_class = PromptAttention

    def __init__(self, config: DenoiserConfig, skeleton: Skeleton, text_width: int = TEXT_WIDTH):
        super().__init__()
        D, depth = config.width, config.depth
        self.config = config
        self.skeleton = skeleton
        adjacency = adjacency_matrix(skeleton)

        self.embedding = nn.Linear(2 + 3, D)
        self.spatial_position = nn.Parameter(torch.zeros(1, skeleton.num_joints, D))
        self.temporal_position = nn.Parameter(torch.zeros(1, config.num_frames, D))
        self.time_mlp = nn.Sequential(nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))

        self.graph_attention = self.graph_attention_class(D, adjacency)
        self.prompt_attention = self.prompt_attention_class(D, text_width, NUM_HEADS, adjacency, config.dropout)
        rates = torch.linspace(0, 0.1, depth).tolist()
        self.spatial_blocks = nn.ModuleList(
            Block(D, NUM_HEADS, SPATIAL, config.dropout, rate) for rate in rates[1:]
        )  # layer 0 of the spatial stack is the graph attention
        self.temporal_blocks = nn.ModuleList(Block(D, NUM_HEADS, TEMPORAL, config.dropout, rate) for rate in rates)
        self.spatial_norm = nn.LayerNorm(D, eps=1e-6)
        self.temporal_norm = nn.LayerNorm(D, eps=1e-6)
        self.dropout = nn.Dropout(config.dropout)
        last = nn.Linear(D, 3)
        self.head = nn.Sequential(nn.LayerNorm(D), last)
        # The first answer is 0, the root (as in DiT, Peebles & Xie 2023). From a random answer the first steps push the
        # text encoder, which all joints share, until it drowns them out: training then stands still for long.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    @property
    def blocks(self) -> list[Block]:
        """In the order in which they run."""
        spatial, temporal = cast(list[Block], self.spatial_blocks), cast(list[Block], self.temporal_blocks)
        pairs = zip(spatial, temporal[1:], strict=True)
        return [temporal[0], *itertools.chain.from_iterable(pairs)]

    def forward(self, x_2d: Tensor, x_t: Tensor, t: Tensor, prompts: Prompts) -> Tensor:
        """Predict x_start.

        Args:
            x_2d: (B, F, J, 2) 2D poses, screen coordinates.
            x_t: (B, H, F, J, 3) noisy 3D poses, camera space, root-relative, metres.
            t: (B,) diffusion steps, 0..T-1.
            prompts: text_proj (B, D) and text_tokens (B, L, E), one text a window.

        Returns:
            (B, H, F, J, 3), like x_t.
        """
        return self.given(x_2d, prompts)(x_t, t)

    def given(self, x_2d: Tensor, prompts: Prompts, dropped: Tensor | None = None) -> Denoise:
        """How windows with these 2D poses and prompts are denoised; for any number of hypotheses and steps."""
        condition = self.condition(x_2d, prompts)
        return lambda x_t, t: self.predict(condition, x_t, t, dropped)

    def condition(self, x_2d: Tensor, prompts: Prompts) -> Condition:
        """`forward`'s x_2d and prompts, as far as they can be worked up without x_t and t."""
        self.check_size(*x_2d.shape[1:])
        embedding = nn.functional.linear(x_2d, self.embedding.weight[:, :2], self.embedding.bias)
        embedding = embedding + self.spatial_position
        return Condition(embedding, prompts.text_proj, self.prompt_attention.text_keys(prompts.text_tokens))

    def predict(self, condition: Condition, x_t: Tensor, t: Tensor, dropped: Tensor | None = None) -> Tensor:
        """`forward`, the condition given.

        Args:
            condition: of the windows.
            x_t, t: see `forward`.
            dropped: (B, 2*depth-1, 2) bool, the windows that go without an attention or an MLP of `blocks`, in training
                alone.
        """
        B, H, F, J, _ = x_t.shape
        if condition.embedding.shape[:3] != (B, F, J):
            raise ValueError(f"x_t is {tuple(x_t.shape)}; expected {tuple(condition.embedding.shape[:3])}, as x_2d is")
        e = self.time_mlp(sinusoidal_embedding(t, self.config.width).to(x_t.dtype)) + condition.text_proj  # (B, D)
        known = condition.embedding + rearrange(e, "b d -> b 1 1 d")
        x = nn.functional.linear(x_t, self.embedding.weight[:, 2:]) + known[:, None]
        x = rearrange(self.dropout(x), "b h f j d -> (b h) f j d")  # (R, F, J, D)
        x = self.spatial_norm(self.graph_attention(x))
        x = self.prompt_attention(x, e, condition.text)
        x = self.dropout(x + rearrange(self.temporal_positions(F), "1 f d -> 1 f 1 d"))
        for number, block in enumerate(self.blocks):
            norm = self.spatial_norm if number % 2 else self.temporal_norm
            x = norm(block(x, None if dropped is None else repeat(dropped[:, number], "b two -> (b h) two", h=H)))
        return rearrange(self.head(x), "(b h) f j c -> b h f j c", b=B)

    def temporal_positions(self, num_frames: int) -> Tensor:
        """The embeddings of `num_frames` frames, (1, num_frames, D): the middle ones, if the window is shorter."""
        start = (self.config.num_frames - num_frames) // 2
        # By index: an export would take a slice of all frames for one that is always of all.
        frames = torch.arange(num_frames, device=self.temporal_position.device) + start
        return self.temporal_position.index_select(1, frames)

    def check_size(self, num_frames: int, num_joints: int, _coordinates: int) -> None:
        if self.skeleton.num_joints != num_joints:
            raise ValueError(f"{num_joints} joints; the skeleton {self.skeleton.name} has {self.skeleton.num_joints}")
        if self.config.num_frames < num_frames:
            raise ValueError(f"windows of {num_frames} frames; this network takes at most {self.config.num_frames}")
