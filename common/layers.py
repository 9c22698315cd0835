"""The denoiser's building blocks.

Dimension letters: R rows (windows times hypotheses), F frames, J joints, D width, N heads, L text tokens, E text width.
One tensor, (R, F, J, D), runs through the whole network: spatial attention sees it as R*F sets of J joints, temporal
attention as R*J sequences of F frames, and both are views of the same memory.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from common.linear import Linear, linear

SPATIAL, TEMPORAL = "spatial", "temporal"


def sinusoidal_embedding(t: Tensor, dim: int) -> Tensor:
    """Embedding of the diffusion step (Vaswani et al. 2017, section 3.5, as in DDPM).

    Args:
        t: (B,) diffusion steps, 0..T-1.
        dim: an even number, the width of the result.

    Returns:
        (B, dim): dim/2 sines, then dim/2 cosines, of frequencies from 1 down to 1/10000.
    """
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, device=t.device) * (-math.log(10000) / (half - 1)))
    angles = t[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class GraphAttention(nn.Module):
    """Graph attention over the joints of each frame (Velickovic et al. 2018, Eq. 1-4), one head.

    The same function as torch_geometric's `GATConv(D, D)`, as a dense masked softmax over the J joints: a skeleton's
    graph has 17 nodes, so the dense form needs no gather or scatter.
    """

    def __init__(self, dim: int, adjacency: Tensor):
        super().__init__()
        self.lin = Linear(dim, dim, bias=False)
        self.att_src = nn.Parameter(torch.empty(1, 1, dim))
        self.att_dst = nn.Parameter(torch.empty(1, 1, dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.adjacency: Tensor
        self.register_buffer("adjacency", adjacency, persistent=False)
        for weight in (self.lin.weight, self.att_src, self.att_dst):
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., J, D) -> (..., J, D); joint i gathers from the joints j where adjacency[i, j]."""
        x = self.lin(x)
        source = (x * self.att_src[0, 0]).sum(-1)
        target = (x * self.att_dst[0, 0]).sum(-1)
        scores = F.leaky_relu(target[..., :, None] + source[..., None, :], 0.2)  # (..., J, J)
        weights = scores.masked_fill(~self.adjacency, float("-inf")).softmax(dim=-1)
        return weights.to(x.dtype) @ x + self.bias


class Attention(nn.Module):
    """Multi-head self-attention over the joints of a frame or over the frames of a joint."""

    def __init__(self, dim: int, num_heads: int, over: str, dropout: float = 0.0):
        super().__init__()
        self.num_heads = num_heads
        self.pattern = {
            SPATIAL: "r f j (n d) -> (r f) n j d",
            TEMPORAL: "r f j (n d) -> r (j n) f d",
        }[over]
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(R, F, J, D) -> (R, F, J, D)."""
        R, _, J, _ = x.shape
        # Three products instead of one: with heads and joints next to each other in memory, both patterns are views.
        query, key, value = (
            rearrange(linear(x, weight, bias), self.pattern, n=self.num_heads)
            for weight, bias in zip(self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True)
        )
        y = F.scaled_dot_product_attention(query, key, value)
        left, right = self.pattern.split(" -> ")
        y = rearrange(y, f"{right} -> {left}", r=R, j=J, n=self.num_heads)
        return self.proj_drop(self.proj(y))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float = 0.0):
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class Block(nn.Module):
    """Pre-norm transformer block: attention, then an MLP of ratio 2, each with a residual.

    Drop path (stochastic depth, Huang et al. 2016): in training, some rows go without one or both, and the others are
    scaled up for it. Which do is drawn outside, for a whole batch, and does not depend on how that is shared out.
    """

    def __init__(self, dim: int, num_heads: int, over: str, dropout: float = 0.0, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, over, dropout)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 2 * dim, dropout)
        self.drop_path = drop_path

    def forward(self, x: Tensor, dropped: Tensor | None = None) -> Tensor:
        """(R, F, J, D) -> (R, F, J, D).

        Args:
            x: of all rows.
            dropped: (R, 2) bool, the rows that go without attention, and without MLP, each with the chance `drop_path`;
                None: outside training.
        """
        for number, branch in enumerate((lambda x: self.attn(self.norm1(x)), lambda x: self.mlp(self.norm2(x)))):
            x = x + branch(x) if dropped is None else self.without(x, branch, dropped[:, number])
        return x

    def without(self, x: Tensor, branch: Callable[[Tensor], Tensor], dropped: Tensor) -> Tensor:
        """x + branch(x), the `dropped` rows left out and the others' branch scaled up (Huang et al. 2016).

        On a CPU the rows that are left out do not go through the branch. A GPU computes all of them: to know there
        which to take would make the host wait.
        """
        scale = 1 / (1 - self.drop_path)
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return x + branch(x).masked_fill(dropped[:, None, None, None], 0) * scale
        if not dropped.any():
            return torch.add(x, branch(x), alpha=scale)
        kept = (~dropped).nonzero().squeeze(1)
        if not len(kept):
            # One token goes through all the same: the branch's weights get a gradient, 0, as with rows that are kept.
            return x + 0 * branch(x[:1, :1, :1])
        return x.index_add(0, kept, branch(x[kept]).to(x.dtype), alpha=scale)


class Stylization(nn.Module):
    """Scale and shift by the condition e, then a projection that starts at zero (MotionDiffuse, Zhang et al. 2022)."""

    def __init__(self, dim: int, dropout: float = 0.0):
        super().__init__()
        self.scale_shift = nn.Linear(dim, 2 * dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.proj = Linear(dim, dim)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, y: Tensor, e: Tensor) -> Tensor:
        """y (R, F, J, D) and e (R, D) -> (R, F, J, D)."""
        scale, shift = rearrange(self.scale_shift(F.silu(e)), "r (two d) -> two r 1 1 d", two=2)
        return self.proj(self.dropout(F.silu(self.norm(y) * (1 + scale) + shift)))


class TextKeys(NamedTuple):
    """A text as prompt attention reads it."""

    key: Tensor
    """(B, N, L, D/N)"""
    value: Tensor
    """(B, N, L, D/N)"""


class PromptAttention(nn.Module):
    """Graph attention over the joints, plus what each joint reads in its window's text, styled by e (FinePOSE)."""

    graph_attention = GraphAttention

    def __init__(self, dim: int, text_dim: int, num_heads: int, adjacency: Tensor, dropout: float = 0.0):
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.text_norm = nn.LayerNorm(text_dim)
        self.query = Linear(dim, dim)
        self.key = nn.Linear(text_dim, dim)
        self.value = nn.Linear(text_dim, dim)
        self.stylization = Stylization(dim, dropout)
        self.gat = self.graph_attention(dim, adjacency)

    def forward(self, x: Tensor, e: Tensor, text: TextKeys) -> Tensor:
        """x (R, F, J, D), e (B, D) and the texts of B windows -> (R, F, J, D); R is B times any number of rows each."""
        e = repeat(e, "b d -> (b h) d", h=x.shape[0] // e.shape[0])
        return self.gat(x) + self.stylization(self.read(x, text), e)

    def text_keys(self, text_tokens: Tensor) -> TextKeys:
        """Texts (B, L, E), ready to be read."""
        text = self.text_norm(text_tokens)
        return TextKeys(
            *(rearrange(of(text), "b l (n d) -> b n l d", n=self.num_heads) for of in (self.key, self.value))
        )

    def read(self, x: Tensor, text: TextKeys) -> Tensor:
        """Softmax attention of every joint in every frame over the L text tokens of its window: (R, F, J, D)."""
        _, F_, J, _ = x.shape
        B = len(text.key)
        query = rearrange(self.query(self.norm(x)), "(b h) f j (n d) -> b n (h f j) d", b=B, n=self.num_heads)
        y = F.scaled_dot_product_attention(query, *text)
        return rearrange(y, "b n (h f j) d -> (b h) f j (n d)", f=F_, j=J)
