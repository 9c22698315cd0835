"""`--compat-release`: the public release's network, faults and all, and the names in its checkpoints.

The faults, by 1 and 2 (the graph reaches rows 0..J-1 of the flattened batch alone), 3 (the
tower runs without gradients), 4 (text tiled over the batch), 5 (text_proj read inside "A person"). Nothing else in the
project reads this file but the place that builds a network.
"""

import re
from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from torch import Tensor

from common.clip_text import TextTower, tokenize
from common.denoiser import Denoiser
from common.layers import GraphAttention, PromptAttention
from common.text_prompts import PromptEncoder


class ReleaseGraphAttention(GraphAttention):
    """Fault 1: the skeleton's edges exist once, so only the first J rows of the flattened batch have neighbours."""

    def forward(self, x: Tensor) -> Tensor:
        J = len(self.adjacency)
        rows = x.reshape(-1, x.shape[-1])
        alone = self.lin(rows[J:]) + self.bias
        return torch.cat([super().forward(rows[:J]), alone]).reshape(x.shape)


class ReleasePromptAttention(PromptAttention):
    """Faults 2 and 4: rows are (window, joint, frame), so neighbours are frames; the text is tiled, not repeated."""

    graph_attention = ReleaseGraphAttention

    def forward(self, x: Tensor, e: Tensor, text_tokens: Tensor) -> Tensor:
        R, _, J, _ = x.shape
        x = rearrange(x, "r f j d -> (r j) f 1 d")
        y = self.stylization(self.read(x, text_tokens.repeat(J, 1, 1)), e.repeat_interleave(J, dim=0))
        return rearrange(self.gat(x) + y, "(r j) f 1 d -> r f j d", r=R)


class ReleaseDenoiser(Denoiser):
    graph_attention_class = ReleaseGraphAttention
    prompt_attention_class = ReleasePromptAttention

    def text_of_rows(self, text_tokens: Tensor, num_hypotheses: int) -> Tensor:
        return repeat(text_tokens, "b l e -> (h b) l e", h=num_hypotheses)


class ReleasePromptEncoder(PromptEncoder):
    """Faults 3 and 5: no gradient through the tower; text_proj from where the bare action's text would end,
    in the sentences that name an action."""

    def encode(self, embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            return super().encode(embeddings)

    def project(self, text_tokens: Tensor, verbs: Sequence[str]) -> Tensor:
        if not self.names_the_action:
            return super().project(text_tokens, verbs)
        ends = tokenize(list(verbs)).argmax(dim=-1).to(text_tokens.device)
        return self.proj(text_tokens[torch.arange(len(text_tokens)), ends])


# The release's name -> ours. Its spatial block 0 is built and never called, so it has no place here.
_DENOISER_NAMES = (
    (r"Spatial_pos_embed", "spatial_position"),
    (r"Temporal_pos_embed", "temporal_position"),
    (r"STEgat\.", "graph_attention."),
    (r"Spatial_patch_to_embedding\.", "embedding."),
    (r"time_mlp\.1\.", "time_mlp.0."),
    (r"time_mlp\.3\.", "time_mlp.2."),
    (r"TTEblocks\.", "temporal_blocks."),
    (r"Spatial_norm\.", "spatial_norm."),
    (r"Temporal_norm\.", "temporal_norm."),
    (r"temporal_cross_attn\.proj_out\.emb_layers\.1\.", "prompt_attention.stylization.scale_shift."),
    (r"temporal_cross_attn\.proj_out\.norm\.", "prompt_attention.stylization.norm."),
    (r"temporal_cross_attn\.proj_out\.out_layers\.2\.", "prompt_attention.stylization.proj."),
    (r"temporal_cross_attn\.", "prompt_attention."),
    (r"head\.", "head."),
)
_PROMPT_NAMES = (
    (r"ctx_", "learned."),
    (r"textTransEncoder\.", "encoder."),
    (r"text_ln\.", "norm."),
    (r"text_proj\.0\.", "proj."),
    (r"clip_text\.", "tower."),
)


def translate_state(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A release checkpoint's tensors under our names: (the denoiser's, the prompt encoder's with the tower's).

    Raises:
        KeyError: for a tensor that the release does not write.
    """
    denoiser, prompts = {}, {}
    for name, tensor in state.items():
        name = name.removeprefix("module.").removeprefix("pose_estimator.")
        block = re.match(r"STEblocks\.(\d+)\.(.*)", name)
        if block:
            if int(block[1]) > 0:
                denoiser[f"spatial_blocks.{int(block[1]) - 1}.{block[2]}"] = tensor
            continue
        if name.startswith("ctx_") and tensor.numel() == 0:
            continue
        for names, target in ((_DENOISER_NAMES, denoiser), (_PROMPT_NAMES, prompts)):
            ours = next((own + name[len(m[0]) :] for theirs, own in names if (m := re.match(theirs, name))), None)
            if ours:
                target[ours] = tensor
                break
        else:
            raise KeyError(name)
    return denoiser, prompts


def load_release_state(state: dict[str, Tensor], denoiser: ReleaseDenoiser, prompts: ReleasePromptEncoder) -> None:
    """Put a release checkpoint's tensors, the text tower's included, into the two networks."""
    for_denoiser, for_prompts = translate_state(state)
    denoiser.load_state_dict(for_denoiser)
    prompts.load_state_dict(for_prompts)


def release_networks(config, skeleton, parts, tower: TextTower) -> tuple[ReleaseDenoiser, ReleasePromptEncoder]:
    """The two networks of the release for a dataset's skeleton and prompt parts."""
    return ReleaseDenoiser(config, skeleton), ReleasePromptEncoder(parts, tower, config.width)
