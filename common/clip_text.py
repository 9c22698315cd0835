"""The frozen CLIP ViT-B/32 text tower, through open_clip, and its weights from a file, the cache or a download.

The tower is OpenAI's (Radford et al. 2021): token embedding, positions, causal transformer with QuickGELU, LayerNorm.
Dimension letters: A texts, L tokens (77), E width (512). open_clip is imported when used: it is slow to import.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from common.errors import DataError
from common.linear import linear
from common.plain_pickle import RefusedError
from common.torch_files import read_torch_file

HUB_MODEL, HUB_TAG = "ViT-B-32-quickgelu", "openai"
_LONGEST_NAME = 1000
PATCH = 32
"""Pixels: CLIPs with other image towers (ViT-B/16, RN50) have text towers of the same shape."""
REMEDY = (
    "give OpenAI's ViT-B-32.pt (or its state dict, safetensors, or Hugging Face's clip-vit-base-patch32) "
    "with --clip-weights FILE; '--text-encoder random' runs without it, for trying things out"
)


@dataclass(frozen=True)
class TextTowerConfig:
    """The tower's shape; the default is ViT-B/32's."""

    width: int = 512
    layers: int = 12
    heads: int = 8
    context_length: int = 77
    vocab_size: int = 49408


class TowerStart(NamedTuple):
    """What the causal tower has computed of the first P tokens of A texts; later tokens change nothing of it."""

    features: Tensor
    """(A, P, E)"""
    layers: Tensor
    """(A, layers, 2, N, P, E/N): every layer's keys and values."""


class TextTower(nn.Module):
    """Frozen: no parameter is trained, dropout does not exist; gradients still flow through to the embeddings."""

    def __init__(self, config: TextTowerConfig | None = None, source: str = ""):
        super().__init__()
        from open_clip.transformer import QuickGELU, Transformer

        config = config or TextTowerConfig()
        self.config = config
        self.source = source
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.zeros(config.context_length, config.width))
        self.transformer = Transformer(config.width, config.layers, config.heads, act_layer=QuickGELU)
        self.ln_final = nn.LayerNorm(config.width)
        causal = torch.full((config.context_length, config.context_length), float("-inf")).triu(1)
        self.causal_mask: Tensor
        self.register_buffer("causal_mask", causal, persistent=False)
        self.requires_grad_(False)

    def forward(self, embeddings: Tensor, start: TowerStart | None = None) -> Tensor:
        """Features of whole texts; feature l depends on the tokens up to l.

        Args:
            embeddings: (A, L, E) token embeddings, or the last ones if the texts' start is given.
            start: what the tower has already computed of the texts.

        Returns:
            (A, L, E), L counting the start's tokens too.
        """
        features, _ = self.run(embeddings, start)
        return features if start is None else torch.cat([start.features, features], dim=1)

    @torch.no_grad()
    def start(self, embeddings: Tensor) -> TowerStart:
        """What the tower computes of the first P tokens (A, P, E) of texts, whatever follows them; no gradients."""
        features, layers = self.run(embeddings, None)
        return TowerStart(features, torch.stack(layers, dim=1))

    def run(self, embeddings: Tensor, start: TowerStart | None) -> tuple[Tensor, list[Tensor]]:
        """The features of these tokens alone, and each layer's keys and values of them, (A, 2, N, l, E/N)."""
        P = 0 if start is None else start.features.shape[1]
        L = P + embeddings.shape[1]
        x, layers = embeddings + self.positional_embedding[P:L], []
        for number, block in enumerate(self.transformer.resblocks):
            projected = linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
            query, own = rearrange(projected, "a l (three n d) -> three a n l d", three=3, n=self.config.heads).split(
                (1, 2)
            )
            own = own.transpose(0, 1)
            layers.append(own)
            seen = own if start is None else torch.cat([start.layers[:, number], own], dim=3)
            key, value = seen.unbind(1)
            y = F.scaled_dot_product_attention(query[0], key, value, attn_mask=self.causal_mask[P:L, :L])
            x = x + _apply(block.attn.out_proj, rearrange(y, "a n l d -> a l (n d)"))
            x = x + _apply(block.mlp.c_proj, block.mlp.gelu(_apply(block.mlp.c_fc, block.ln_2(x))))
        return self.ln_final(x), layers

    def embed(self, token_ids: Tensor) -> Tensor:
        """Token ids (..., L) -> frozen embeddings (..., L, E)."""
        return self.token_embedding(token_ids)

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the weights: a checkpoint names the tower it was trained with by it."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def _apply(layer: nn.Linear, x: Tensor) -> Tensor:
    """A layer of open_clip's, by our product."""
    return linear(x, layer.weight, layer.bias)


@lru_cache(maxsize=1)
def _tokenizer():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def tokenize(texts: list[str]) -> Tensor:
    """CLIP's byte-pair tokens, (A, 77) long: start 49406, words, end 49407, then zeros."""
    return _tokenizer()(texts, context_length=77)


def random_text_tower(seed: int = 0, config: TextTowerConfig | None = None) -> TextTower:
    """The same tower with seeded random weights at OpenAI's scales; torch's own random state is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        tower = TextTower(config, source=f"random, seed {seed}")
        width, layers = tower.config.width, tower.config.layers
        nn.init.normal_(tower.token_embedding.weight, std=0.02)
        nn.init.normal_(tower.positional_embedding, std=0.01)
        for block in tower.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
    return tower


def load_text_tower(weights: str | os.PathLike | None = None, config: TextTowerConfig | None = None) -> TextTower:
    """The tower with CLIP's weights, in float32; torch's own random state is untouched.

    Args:
        weights: OpenAI's TorchScript archive, a saved state dict or a safetensors file, under OpenAI's, open_clip's
            or Hugging Face's names; None: the local cache of open_clip, or its download.
        config: another shape than ViT-B/32's.

    Raises:
        DataError: nothing to be had, or the file is not this tower.
    """
    path = Path(weights) if weights is not None else _download()
    state = _read_state(path)
    with torch.random.fork_rng(devices=[]):
        tower = TextTower(config, source=f"CLIP ViT-B/32 from {path.name}")
    own = _text_tower_state(state)
    fault = _fault(state, own, tower)
    if fault:
        raise DataError(f"{path}: {fault}; {REMEDY}")
    tower.load_state_dict({name: own[name].float() for name in tower.state_dict()})
    return tower


def _download() -> Path:
    import open_clip

    try:
        return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(HUB_MODEL, HUB_TAG)))
    except Exception as error:  # every client of the hub raises its own kind
        reason = type(error).__name__
        raise DataError(
            f"CLIP's weights are not in the local cache and did not download ({reason}); {REMEDY}"
        ) from None


def _read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, by name. Runs no code of the file."""
    if not path.is_file():
        raise DataError(f"{path}: {'not a file' if path.exists() else 'no such file'}; {REMEDY}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = read_torch_file(path)
    except RefusedError as error:
        raise DataError(f"{path}: not readable as weights ({error.found}); {REMEDY}") from None
    except Exception as error:  # a damaged safetensors file can raise anything in its reader
        raise DataError(f"{path}: not readable as weights ({type(error).__name__}); {REMEDY}") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    return dict(_named_tensors(state)) if isinstance(state, dict) else {}


def _named_tensors(value: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state dict, or of a TorchScript module and those in it, by the names of a state dict."""
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, dict):
        for name, below in value.items():
            if isinstance(name, str) and len(path := f"{prefix}.{name}" if prefix else name) <= _LONGEST_NAME:
                yield from _named_tensors(below, path)


# Hugging Face's name -> OpenAI's, in this order.
_HUGGING_FACE_NAMES = (
    ("embeddings.token_embedding.weight", "token_embedding.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("encoder.layers.", "transformer.resblocks."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".self_attn.", ".attn."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    ("final_layer_norm.", "ln_final."),
)


def _text_tower_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The text tower's tensors under OpenAI's names, whatever prefix the file puts in front of them; {}: no tower."""
    anchors = [name for name in state if name.endswith("token_embedding.weight")]
    if not anchors:
        return {}
    ending = "token_embedding.weight"
    hugging_face = anchors[0].endswith(f"embeddings.{ending}")
    prefix = anchors[0].removesuffix(f"embeddings.{ending}" if hugging_face else ending)
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not hugging_face:
        return own
    for theirs, openai in _HUGGING_FACE_NAMES:
        own = {name.replace(theirs, openai): tensor for name, tensor in own.items()}
    for query in [name for name in own if ".attn.q_proj." in name]:
        names = [query.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
        if all(name in own for name in names):
            own[query.replace(".q_proj.", ".in_proj_")] = torch.cat([own[name] for name in names])
    return own


def _fault(state: dict[str, Tensor], own: dict[str, Tensor], tower: TextTower) -> str | None:
    """Why a file's tensors, `own` being the text tower's among them, are not this tower's weights; None if they are."""
    if not own:
        return f"no CLIP text tower among its {len(state)} tensors ({_some(list(state)) or 'none'})"
    for name, tensor in state.items():
        if name.endswith(("visual.conv1.weight", "embeddings.patch_embedding.weight")) and tensor.shape[-1] != PATCH:
            return f"another CLIP: {name} is {tensor.shape[-1]} pixels wide; expected {PATCH} (ViT-B/32)"
    layers = len({name.split(".")[2] for name in own if name.startswith("transformer.resblocks.")})
    if layers != tower.config.layers:
        return f"a text tower of {layers} layers; expected {tower.config.layers} (ViT-B/32)"
    expected = tower.state_dict()
    missing = [name for name in expected if name not in own]
    if missing:
        return f"{len(missing)} of the text tower's {len(expected)} tensors are absent ({_some(missing)})"
    for name, tensor in expected.items():
        if own[name].shape != tensor.shape:
            return f"{name} is {tuple(own[name].shape)}; expected {tuple(tensor.shape)} (ViT-B/32)"
    return None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
