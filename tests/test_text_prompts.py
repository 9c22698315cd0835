"""The sentence: what enters the tower and where, what is trained, and what the two results are read from."""

import pytest
import torch

from common.clip_text import TextTowerConfig, random_text_tower, tokenize
from common.text_prompts import (
    ACTION_PROMPT,
    NEUTRAL_VERB,
    NO_ACTION_PROMPT,
    PromptEncoder,
    PromptPart,
    distinct,
)

E, D = 32, 16
BOTH = pytest.mark.parametrize("parts", [ACTION_PROMPT, NO_ACTION_PROMPT], ids=["with a verb", "without"])


@pytest.fixture(scope="module")
def tower():
    return random_text_tower(config=TextTowerConfig(width=E, layers=2, heads=4))


def prompt_encoder(parts, tower):
    torch.manual_seed(0)
    return PromptEncoder(parts, tower, D)


@BOTH
def test_parts_fill_clips_77_positions(parts, tower):
    encoder = prompt_encoder(parts, tower)
    assert sum(part.num_learned + part.num_static for part in parts) == 77
    assert encoder.compose(["Walking", "Sitting"]).shape == (2, 77, E)
    prompts = encoder(["Walking", "Sitting"])
    assert prompts.text_proj.shape == (2, D)
    assert prompts.text_tokens.shape == (2, 77, E)


def test_the_published_numbers_of_tokens():
    rest, limbs = ("speed", "head", "body"), ("arm", "leg")
    published = {
        ACTION_PROMPT: {
            "subject": (0, 7),
            "verb": (0, 12),
            **dict.fromkeys(rest, (6, 4)),
            **dict.fromkeys(limbs, (10, 4)),
        },
        NO_ACTION_PROMPT: {"subject": (5, 4), **dict.fromkeys(rest, (8, 4)), **dict.fromkeys(limbs, (12, 4))},
    }
    for parts, numbers in published.items():
        assert {part.name: (part.num_learned, part.num_static) for part in parts} == numbers
        assert list(numbers) == [part.name for part in parts]


def test_a_sentence_of_another_length_is_refused(tower):
    with pytest.raises(ValueError, match="have 78 tokens; the text tower takes 77"):
        PromptEncoder((*ACTION_PROMPT, PromptPart("foot", "foot", 0, 1)), tower, D)


@BOTH
def test_every_learned_vector_is_trained(parts, tower):
    encoder = prompt_encoder(parts, tower)
    assert {name: len(vectors) for name, vectors in encoder.learned.items()} == {
        part.name: part.num_learned for part in parts if part.num_learned
    }
    encoder(["Walking", "Sitting"]).text_proj.square().sum().backward()
    for vectors in encoder.learned.values():
        assert (vectors.grad.abs().sum(dim=-1) > 0).all()
    assert all(parameter.grad is None for parameter in tower.parameters())
    trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    assert trained
    assert not [name for name in trained if name.startswith("tower.")]


@BOTH
def test_learned_vectors_then_the_first_tokens_of_the_words(parts, tower):
    encoder = prompt_encoder(parts, tower)
    verbs = ["Walking", "Sitting Down"]
    sentence, position = encoder.compose(verbs), 0
    for part in parts:
        if part.num_learned:
            learned = sentence[:, position : position + part.num_learned]
            assert torch.equal(learned, encoder.learned[part.name].expand(2, -1, -1))
            assert 0.01 < learned.std() < 0.03
        position += part.num_learned
        words = verbs if part.text is None else [part.text] * 2
        tokens = tower.token_embedding.weight[tokenize(words)[:, : part.num_static]]
        assert torch.equal(sentence[:, position : position + part.num_static], tokens)
        position += part.num_static
    assert position == 77


def test_text_proj_reads_the_last_position(tower):
    encoder = prompt_encoder(ACTION_PROMPT, tower)
    prompts = encoder(["Walking", "Sitting"])
    torch.testing.assert_close(prompts.text_proj, encoder.proj(prompts.text_tokens[:, -1]))
    assert not torch.allclose(prompts.text_proj, encoder.proj(prompts.text_tokens[:, 2]), atol=1e-3)


def test_verbs_differ_and_none_is_a_text_too(tower):
    encoder = prompt_encoder(ACTION_PROMPT, tower).eval()
    verbs = ["Walking", "Sitting", NEUTRAL_VERB, "Walking"]
    text_proj, text_tokens = encoder(verbs)
    assert text_proj.isfinite().all()
    for a in range(3):
        for b in range(a):
            assert (text_proj[a] - text_proj[b]).abs().max() > 1e-4
            assert (text_tokens[a] - text_tokens[b]).abs().max() > 1e-4
    torch.testing.assert_close(text_proj[3], text_proj[0])
    alone = encoder(verbs[1:2])
    torch.testing.assert_close(alone.text_proj[0], text_proj[1])
    torch.testing.assert_close(alone.text_tokens[0], text_tokens[1])


def test_without_a_verb_every_window_has_the_same_text(tower):
    encoder = prompt_encoder(NO_ACTION_PROMPT, tower).eval()
    text_proj, text_tokens = encoder(["Walking", "Sitting"])
    torch.testing.assert_close(text_proj[0], text_proj[1])
    torch.testing.assert_close(text_tokens[0], text_tokens[1])


def test_distinct_verbs_and_back(tower):
    batch = ["Sitting", "Walking", "Sitting", NEUTRAL_VERB, "Walking"]
    verbs, index = distinct(batch)
    assert verbs == ["Sitting", "Walking", NEUTRAL_VERB]
    assert [verbs[i] for i in index] == batch
    encoder = prompt_encoder(ACTION_PROMPT, tower).eval()
    once, each = encoder(verbs).select(index), encoder(batch)
    torch.testing.assert_close(once.text_proj, each.text_proj)
    torch.testing.assert_close(once.text_tokens, each.text_tokens)
