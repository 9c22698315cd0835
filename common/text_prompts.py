"""Prompts: a sentence about the person in parts, half frozen words, half learned vectors, through CLIP's text tower.

Dimension letters: A distinct texts, L = 77 text tokens, E = 512 the tower's width, D the denoiser's width.
The part-aware prompt is FinePOSE's (Xu et al. 2024, section 3.2): static tokens are the frozen embeddings of a word,
dynamic ("learned") tokens are trained, through the frozen tower.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.clip_text import TextTower, TowerStart, tokenize
from common.devices import upload

TEXT_WIDTH = 512
NEUTRAL_VERB = ""
"""Says nothing about what the person does: the text when the action is not known, or must not be given away."""


@dataclass(frozen=True)
class PromptPart:
    """One part of the sentence: `num_learned` trained vectors, then the first `num_static` tokens of `text`.

    `text` None means the window's action word (the verb).
    """

    name: str
    text: str | None
    num_learned: int
    num_static: int


def _sentence(learned: int, learned_limb: int, subject: PromptPart, verb: tuple[PromptPart, ...]):
    short = tuple(PromptPart(name, name, learned, 4) for name in ("speed", "head", "body"))
    limbs = tuple(PromptPart(name, name, learned_limb, 4) for name in ("arm", "leg"))
    return (subject, *verb, *short, *limbs)


ACTION_PROMPT = _sentence(6, 10, PromptPart("subject", "A person", 0, 7), (PromptPart("verb", None, 0, 12),))
"""Human3.6M and HumanEva: the sentence names the action."""

NO_ACTION_PROMPT = _sentence(8, 12, PromptPart("subject", "A person", 5, 4), ())
"""MPI-INF-3DHP: clips have no action name; more of the sentence is learned."""


class Prompts(NamedTuple):
    """What the denoiser reads: one text a window."""

    text_proj: Tensor
    """(B, D), added to the embedding of the diffusion step."""
    text_tokens: Tensor
    """(B, L, E), attended to by every joint."""

    def select(self, index: Tensor) -> "Prompts":
        """The prompts at `index` (B,), so that windows with the same text share one encoding.

        The gradient of `x[index]` is summed by threads in any order on a CPU, and no run would be like another; that of
        `index_select` is summed in one.
        """
        return Prompts(*(part.index_select(0, index) for part in self))


class PromptEncoder(nn.Module):
    """Action words -> prompts. Only the tower is frozen; its output still carries gradients to the learned vectors."""

    def __init__(self, parts: Sequence[PromptPart], tower: TextTower, width: int, dropout: float = 0.0):
        """
        Args:
            parts: the sentence, in order; their learned and static tokens together fill the tower's context.
            tower: the frozen text tower.
            width: D, the denoiser's width.
            dropout: of the trainable text encoder.

        Raises:
            ValueError: if the parts do not add up to the tower's context length.
        """
        super().__init__()
        E, context = tower.config.width, tower.config.context_length
        length = sum(part.num_learned + part.num_static for part in parts)
        if length != context:
            raise ValueError(f"the prompt parts have {length} tokens; the text tower takes {context}")
        self.parts = tuple(parts)
        self.tower = tower
        self.learned = nn.ParameterDict(
            {part.name: nn.Parameter(0.02 * torch.randn(part.num_learned, E)) for part in parts if part.num_learned}
        )
        layer = nn.TransformerEncoderLayer(E, 8, 4 * E, dropout, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=4, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(E)
        self.proj = nn.Linear(E, width)
        frozen = itertools.takewhile(lambda part: not part.num_learned, self.parts)
        self.start_length = sum(part.num_static for part in frozen)
        """Tokens before the first learned vector."""
        self.starts: dict[tuple, TowerStart] = {}
        """What the tower has computed of them, by verb, device and precision."""
        self.register_load_state_dict_post_hook(_forget_starts)

    def forward(self, verbs: Sequence[str]) -> Prompts:
        """Encode A texts, one for each verb (`NEUTRAL_VERB`: none).

        Returns:
            Prompts with text_proj (A, D) and text_tokens (A, L, E).
        """
        text_tokens = self.norm(
            self.encoder(self.tower(self.compose(verbs)[:, self.start_length :], self.start(verbs)))
        )
        # The last position is the only one that has seen the whole sentence in the causal tower.
        return Prompts(self.proj(text_tokens[:, -1]), text_tokens)

    def start(self, verbs: Sequence[str]) -> TowerStart | None:
        """What the tower has computed of the words that the sentences start with, from the first time on.

        No learned vector comes before them and the tower is causal, so nothing of it ever changes. Each verb's is
        computed alone: its last bits depend on what shares the batch, and a run gone on with begins with another batch.
        """
        if not self.start_length:
            return None
        weight = self.tower.positional_embedding
        place = (weight.device, weight.dtype, torch.is_autocast_enabled(weight.device.type))
        for verb in verbs:
            if (verb, place) not in self.starts:
                found = self.tower.start(self.compose([verb])[:, : self.start_length])
                self.starts[verb, place] = TowerStart(*(part[0] for part in found))
        known = zip(*(self.starts[verb, place] for verb in verbs), strict=True)
        return TowerStart(*(torch.stack(part) for part in known))

    def compose(self, verbs: Sequence[str]) -> Tensor:
        """The embeddings that enter the tower, (A, L, E): each part's learned vectors, then its static tokens."""
        pieces = []
        for part in self.parts:
            if part.num_learned:
                pieces.append(self.learned[part.name].expand(len(verbs), -1, -1))
            texts = list(verbs) if part.text is None else [part.text]
            ids = upload(tokenize(texts)[:, : part.num_static], self.device)
            pieces.append(self.tower.embed(ids).expand(len(verbs), -1, -1))
        return torch.cat(pieces, dim=1)

    @property
    def device(self) -> torch.device:
        return self.proj.weight.device


def _forget_starts(encoder: PromptEncoder, _keys) -> None:
    encoder.starts.clear()


def distinct(verbs: Sequence[str]) -> tuple[list[str], Tensor]:
    """The different verbs of a batch, in order of appearance, and each window's index among them, (B,) long."""
    order = {verb: index for index, verb in enumerate(dict.fromkeys(verbs))}
    return list(order), torch.tensor([order[verb] for verb in verbs])
