"""`--compat-release`: the public release's network and cameras, faults and all, and the names in its checkpoints.

The faults: 1 and 2 (the graph reaches rows 0..J-1 of the flattened batch alone), 3 (the tower runs without gradients),
4 (text tiled over the batch), 5 (text_proj read inside "A person"), 15 (cameras without their pixel aspect). The clean
network and data are read without this file.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from common.camera import Camera
from common.checkpoints import Checkpoint, check_blocks, check_denoiser
from common.clip_text import TextTower, TextTowerConfig, tokenize
from common.clips import Clip
from common.denoiser import Condition, Denoiser, DenoiserConfig
from common.diffusion import MOST_TIMESTEPS, GaussianDiffusion
from common.errors import DataError, UsageError
from common.layers import GraphAttention, PromptAttention, TextKeys
from common.model import DSGDiffu
from common.sampler import Given, sample_steps
from common.skeleton import Skeleton, mirror
from common.solvers import PUBLISHED, Solver
from common.text_prompts import ACTION_PROMPT, NO_ACTION_PROMPT, PromptEncoder, Prompts


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

    def forward(self, x: Tensor, e: Tensor, text: TextKeys) -> Tensor:
        R, _, J, _ = x.shape
        x = rearrange(x, "r f j d -> (r j) f 1 d")
        tiled = TextKeys(*(part.repeat(J, 1, 1, 1) for part in text))
        y = self.stylization(self.read(x, tiled), e.repeat_interleave(J, dim=0))
        return rearrange(self.gat(x) + y, "(r j) f 1 d -> r f j d", r=R)


class ReleaseDenoiser(Denoiser):
    """Fault 4 again: over the hypotheses, too, the text is tiled where all else is repeated."""

    graph_attention_class = ReleaseGraphAttention
    prompt_attention_class = ReleasePromptAttention

    def predict(self, condition: Condition, x_t: Tensor, t: Tensor, dropped: Tensor | None = None) -> Tensor:
        B, H = x_t.shape[:2]
        embedding, text_proj, t = (
            of_window.repeat_interleave(H, dim=0) for of_window in (condition.embedding, condition.text_proj, t)
        )
        rows = Condition(embedding, text_proj, TextKeys(*(part.repeat(H, 1, 1, 1) for part in condition.text)))
        dropped = None if dropped is None else dropped.repeat_interleave(H, dim=0)
        out = super().predict(rows, rearrange(x_t, "b h f j c -> (b h) 1 f j c"), t, dropped)
        return rearrange(out, "(b h) 1 f j c -> b h f j c", b=B)


class ReleasePromptEncoder(PromptEncoder):
    """Faults 3 and 5: no gradient through the tower; text_proj from where the bare action's text would end,
    in the sentences that name an action."""

    def compose(self, verbs: Sequence[str]) -> Tensor:
        return super().compose(verbs).detach()

    def forward(self, verbs: Sequence[str]) -> Prompts:
        prompts = super().forward(verbs)
        if all(part.text is not None for part in self.parts):  # MPI-INF-3DHP's sentence names no action
            return prompts
        ends = tokenize(list(verbs)).argmax(dim=-1).to(self.device)
        return prompts._replace(text_proj=self.proj(prompts.text_tokens[torch.arange(len(verbs)), ends]))


class ReleaseDSGDiffu(DSGDiffu):
    """The networks above under the same diffusion."""

    denoiser_class = ReleaseDenoiser
    prompt_encoder_class = ReleasePromptEncoder

    @torch.no_grad()
    def sample(self, x_2d: Tensor, prompts: Prompts, noise: Tensor) -> Tensor:
        """Like `DSGDiffu.sample`, but everything at once: its windows do know of each other."""
        samples = sample_apart(self.given, self.diffusion, x_2d, prompts, noise, self.skeleton, self.solver)
        samples[..., self.skeleton.root, :] = 0
        return samples


def sample_apart(
    given: Given,
    diffusion: GaussianDiffusion,
    x_2d: Tensor,
    prompts: Prompts,
    noise: Tensor,
    skeleton: Skeleton,
    solver: Solver = PUBLISHED,
) -> Tensor:
    """`sample_hypotheses` as the release does it: the mirror images in a batch of their own, in no chunks."""
    denoise, denoise_image = given(x_2d, prompts), given(mirror(x_2d, skeleton), prompts)

    def both_ways(x_t: Tensor, t: Tensor) -> Tensor:
        mirrored = denoise_image(mirror(x_t, skeleton), t)
        return (denoise(x_t, t) + mirror(mirrored, skeleton)) / 2

    return sample_steps(both_ways, diffusion, noise, solver)


def release_cameras(clips: Sequence[Clip]) -> list[Clip]:
    """Fault 15: the vertical focal length lacks the calibration's pixel aspect."""
    return [clip if clip.camera is None else replace(clip, camera=_square(clip.camera)) for clip in clips]


def _square(camera: Camera) -> Camera:
    if camera.intrinsics is None or camera.pixel_aspect == 1:
        return camera
    intrinsics = camera.intrinsics.copy()
    intrinsics[1] /= camera.pixel_aspect
    return replace(camera, intrinsics=intrinsics, pixel_aspect=1.0)


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
# The diffusion's tables, which its checkpoints carry beside the network; ours come from the schedule.
_TABLES = re.compile(r"betas|(sqrt_|log_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?|posterior_\w+")


def translate_state(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A release checkpoint's tensors under our names: (the denoiser's, the prompt encoder's with the tower's).

    Raises:
        KeyError: for a tensor that the release does not write.
    """
    denoiser: dict[str, Tensor] = {}
    prompts: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.").removeprefix("pose_estimator.")
        if _TABLES.fullmatch(name):
            continue
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


def read_release_checkpoint(content: dict, path: Path, skeleton: Skeleton) -> Checkpoint:
    """A checkpoint that the public release wrote; the shape of its network is read off its tensors.

    Args:
        content: the file, loaded.
        path: where it came from, for messages.
        skeleton: of the data; the file does not name one.

    Raises:
        DataError: tensors are missing, or are not the release's.
    """
    state = content["model_pos"]
    try:
        denoiser, prompts = translate_state(state)
        _, num_joints, width = denoiser["spatial_position"].shape
        _, num_frames, _ = denoiser["temporal_position"].shape
        network = DenoiserConfig(num_frames, width, _count(denoiser, "temporal_blocks."))
        weights = {f"denoiser.{name}": value for name, value in denoiser.items()}
        check_denoiser(network, weights)
        num_timesteps = len(next((state[name] for name in ("module.betas", "betas") if name in state), range(1000)))
        if not 1 <= num_timesteps <= MOST_TIMESTEPS:
            raise ValueError(f"betas are not from 1 to {MOST_TIMESTEPS}")
    except (KeyError, IndexError, AttributeError, ValueError, TypeError, UsageError) as error:
        raise DataError(f"{path}: model_pos is not the public release's network ({str(error)[:200]})") from None
    if num_joints != skeleton.num_joints:
        raise DataError(f"{path} is for {num_joints} joints; '{skeleton.name}' has {skeleton.num_joints}: see -d")
    parts = NO_ACTION_PROMPT if "learned.subject" in prompts else ACTION_PROMPT
    tower = {name.removeprefix("tower."): value for name, value in prompts.items() if name.startswith("tower.")}
    weights |= {f"prompt_encoder.{name}": value for name, value in prompts.items() if not name.startswith("tower.")}
    epoch = content.get("epoch")
    return Checkpoint(
        network=network,
        skeleton=skeleton,
        prompt_parts=parts,
        num_timesteps=num_timesteps,
        scale=None,
        weights=weights,
        tower_fingerprint="",
        tower_source=f"the copy in {path.name}",
        compat_release=True,
        options={},
        selection="test subjects (the public release's choice)",
        epoch=epoch if isinstance(epoch, int) else 0,
        tower=tower,
    )


def release_tower(state: dict[str, Tensor], source: str, path: Path) -> TextTower:
    """The text tower that a release checkpoint carries, its shape read off its tensors.

    Args:
        state: `Checkpoint.tower`.
        source: `Checkpoint.tower_source`.
        path: where the checkpoint lies, for the message.

    Raises:
        DataError: it is not whole.
    """
    try:
        vocab_size, width = state["token_embedding.weight"].shape
        if tuple(state["positional_embedding"].shape) != (TextTowerConfig.context_length, width):
            raise ValueError(f"positional_embedding is not {TextTowerConfig.context_length} x {width}")
        layers, heads = _count(state, "transformer.resblocks."), max(1, width // 64)  # CLIP's heads are 64 wide
        if width % heads:
            raise ValueError(f"{heads} heads do not share a width of {width}")
        check_blocks(state, "transformer.resblocks.{}.mlp.c_fc.weight", layers, (4 * width, width))
        config = TextTowerConfig(width, layers, heads, vocab_size=vocab_size)
        tower = TextTower(config, source=source)
        tower.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError, AttributeError) as error:
        raise DataError(f"{path}: its text tower is not whole ({str(error).splitlines()[0][:200]})") from None
    return tower


def _count(state: dict[str, Tensor], prefix: str) -> int:
    """How many blocks have tensors: no number in a name makes them more than there are."""
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})
