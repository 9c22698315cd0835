"""The frozen CLIP ViT-B/32 text tower, through open_clip, and its weights from a file, the cache or a download.

The tower is OpenAI's (Radford et al. 2021): token embedding, positions, causal transformer with QuickGELU, LayerNorm.
Dimension letters: A texts, L tokens (77), E width (512). open_clip is imported when used: it is slow to import.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from common.errors import DataError

HUB_MODEL, HUB_TAG = "ViT-B-32-quickgelu", "openai"
REMEDY = (
    "give OpenAI's ViT-B-32.pt (or a state dict, or safetensors) with --clip-weights FILE; "
    "'--text-encoder random' runs without it, for trying things out"
)


@dataclass(frozen=True)
class TextTowerConfig:
    """The tower's shape; the default is ViT-B/32's."""

    width: int = 512
    layers: int = 12
    heads: int = 8
    context_length: int = 77
    vocab_size: int = 49408


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
        self.register_buffer("causal_mask", causal, persistent=False)
        self.requires_grad_(False)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Token embeddings (A, L, E) -> features (A, L, E); feature l depends on the tokens up to l."""
        L = embeddings.shape[1]
        x = embeddings + self.positional_embedding[:L]
        return self.ln_final(self.transformer(x, attn_mask=self.causal_mask[:L, :L]))

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
        torch.manual_seed(seed)
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
    """The tower with CLIP's weights.

    Args:
        weights: OpenAI's TorchScript archive, a saved state dict or a safetensors file; None: the local cache of
            open_clip, or its download.
        config: another shape than ViT-B/32's.

    Raises:
        DataError: nothing to be had, or the file is not this tower.
    """
    path = Path(weights) if weights is not None else _download()
    tower = TextTower(config, source=f"CLIP ViT-B/32 from {path.name}")
    state = _text_tower_keys(_read_state(path), tower)
    expected = tower.state_dict()
    missing = [name for name in expected if name not in state]
    if missing:
        raise DataError(f"{path}: no CLIP text tower ({len(missing)} tensors absent, e.g. {missing[0]}); {REMEDY}")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            found, wanted = tuple(state[name].shape), tuple(tensor.shape)
            raise DataError(f"{path}: {name} is {found}; expected {wanted} (ViT-B/32); {REMEDY}")
    tower.load_state_dict({name: state[name].float() for name in expected})
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
        raise DataError(f"{path}: no such file; {REMEDY}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        try:
            return torch.jit.load(path, map_location="cpu").state_dict()
        except RuntimeError:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything in the readers
        raise DataError(f"{path}: not readable as weights ({type(error).__name__}); {REMEDY}") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _text_tower_keys(state: dict[str, Tensor], tower: TextTower) -> dict[str, Tensor]:
    """The tower's tensors under the tower's names, whatever prefix the file puts in front of them."""
    names = tower.state_dict().keys()
    for name in state:
        if name.endswith("token_embedding.weight"):
            prefix = name.removesuffix("token_embedding.weight")
            return {own: state[prefix + own] for own in names if prefix + own in state}
    return {}
