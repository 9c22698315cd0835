"""What is computed once, in one go or not at all, against the plain way: a text for each sample, a sequence at a time.

The plain network below is written out again from the method, on the same weights: torch_geometric's graph attention a
frame at a time, softmax attention spelled out, open_clip's own transformer on every whole text, mirrored copies apart.
"""

import math

import pytest
import torch
from torch_geometric.nn import GATConv

from common.clip_text import TextTowerConfig, random_text_tower
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.layers import SPATIAL, Block, sinusoidal_embedding
from common.model import DSGDiffu
from common.sampler import sample_steps
from common.skeleton import H36M, MPI_INF_3DHP, mirror
from common.text_prompts import ACTION_PROMPT, NEUTRAL_VERB, NO_ACTION_PROMPT
from tests.conftest import awaken, torch_threads

B, H, K, F, D = 3, 3, 3, 5, 16
VERBS = ["Walking", NEUTRAL_VERB, "Walking"]
NETWORKS = pytest.mark.parametrize(
    ("skeleton", "parts"), [(H36M, ACTION_PROMPT), (MPI_INF_3DHP, NO_ACTION_PROMPT)], ids=["h36m", "3dhp"]
)
PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["float64", "float32"]
)


def network(skeleton, parts, dtype):
    torch.manual_seed(0)
    tower = random_text_tower(config=TextTowerConfig(width=32, layers=2, heads=4))
    model = DSGDiffu.build(DenoiserConfig(F, D, 3), skeleton, parts, tower, GaussianDiffusion())
    return awaken(model).to(dtype).eval()


def plain_attention(query, key, value, num_heads=8):
    """(..., L, D), heads one after another."""
    answers = []
    for q, k, v in zip(*(part.chunk(num_heads, dim=-1) for part in (query, key, value)), strict=True):
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        answers.append(weights / weights.sum(-1, keepdim=True) @ v)
    return torch.cat(answers, dim=-1)


def plain_block(block, x):
    """x (F, J, D): over joints, or with the two axes swapped over frames."""
    attention = block.attn
    if "(r f)" not in attention.pattern:
        x = x.transpose(0, 1)
    y = attention.qkv(block.norm1(x))
    x = x + attention.proj(plain_attention(*y.chunk(3, dim=-1)))
    x = x + block.mlp(block.norm2(x))
    return x if "(r f)" in attention.pattern else x.transpose(0, 1)


def plain_graph(layer, skeleton, x):
    graph = GATConv(D, D, heads=1).to(x)
    graph.load_state_dict(layer.state_dict())
    edges = torch.tensor([pair for a, b in skeleton.bones for pair in ((a, b), (b, a))]).T
    return torch.stack([graph(frame, edges) for frame in x])


def plain_prompts(encoder, verb):
    """One text, whole, through open_clip's transformer."""
    tower = encoder.tower
    x = encoder.compose([verb]) + tower.positional_embedding
    features = tower.ln_final(tower.transformer(x, attn_mask=tower.causal_mask))
    tokens = encoder.norm(encoder.encoder(features))[0]
    return encoder.proj(tokens[-1]), tokens


def plain_denoiser(net, x_2d, x_t, t, verb_prompts):
    """One sequence: (F, J, 2) and (F, J, 3) -> (F, J, 3)."""
    text_proj, tokens = verb_prompts
    e = net.time_mlp(sinusoidal_embedding(t[:1], D).to(x_t))[0] + text_proj
    x = net.embedding(torch.cat([x_2d, x_t], dim=-1)) + net.spatial_position[0] + e
    x = net.spatial_norm(plain_graph(net.graph_attention, net.skeleton, x))
    reader = net.prompt_attention
    text = reader.text_norm(tokens)
    query = reader.query(reader.norm(x)).reshape(-1, D)
    y = plain_attention(query, reader.key(text), reader.value(text)).reshape(x.shape)
    style = reader.stylization
    scale, shift = style.scale_shift(torch.nn.functional.silu(e)).chunk(2)
    y = style.proj(torch.nn.functional.silu(style.norm(y) * (1 + scale) + shift))
    x = plain_graph(reader.gat, net.skeleton, x) + y + net.temporal_position[0, :, None]
    x = net.temporal_norm(plain_block(net.temporal_blocks[0], x))
    for spatial, temporal in zip(net.spatial_blocks, net.temporal_blocks[1:], strict=True):
        x = net.spatial_norm(plain_block(spatial, x))
        x = net.temporal_norm(plain_block(temporal, x))
    return net.head(x)


def plain_samples(model, x_2d, noise):
    """Every window and hypothesis alone, the text encoded again for every sample, step and mirrored copy."""
    net, skeleton = model.denoiser, model.skeleton

    def alone(window, hypothesis):
        def denoise(x_t, t):
            x = x_t[0, 0]
            plain = plain_denoiser(net, x_2d[window], x, t, plain_prompts(model.prompt_encoder, VERBS[window]))
            turned = [mirror(poses, skeleton) for poses in (x_2d[window], x)]
            image = plain_denoiser(net, *turned, t, plain_prompts(model.prompt_encoder, VERBS[window]))
            return ((plain + mirror(image, skeleton)) / 2)[None, None]

        one = slice(hypothesis, hypothesis + 1)
        return sample_steps(denoise, model.diffusion, noise[:, window : window + 1, one])

    rows = [torch.cat([alone(window, hypothesis) for hypothesis in range(H)], dim=2) for window in range(B)]
    samples = torch.cat(rows)
    samples[..., skeleton.root, :] = 0
    return samples


@NETWORKS
@PRECISIONS
@torch.no_grad()
def test_sampling_is_the_plain_sampling(skeleton, parts, dtype, tolerance):
    model = network(skeleton, parts, dtype)
    torch.manual_seed(1)
    x_2d, noise = torch.randn(B, F, 17, 2, dtype=dtype), torch.randn(K, B, H, F, 17, 3, dtype=dtype)
    expected = plain_samples(model, x_2d, noise)
    assert expected[..., 1:, :].abs().mean() > 0.05
    for chunk in (0, 1, 4):
        model.chunk = chunk
        found = model.sample(x_2d, model.encode(VERBS), noise)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


@NETWORKS
@PRECISIONS
def test_a_training_steps_gradients_are_the_plain_ones(skeleton, parts, dtype, tolerance):
    model = network(skeleton, parts, dtype)
    torch.manual_seed(2)
    x_2d, x_t, target = (torch.randn(B, 1, F, 17, n, dtype=dtype) for n in (2, 3, 3))
    t = torch.tensor([3, 500, 999])
    model.given(x_2d[:, 0], model.encode(VERBS))(x_t, t).sub(target).norm(dim=-1).mean().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.zero_grad(set_to_none=True)
    outs = [
        plain_denoiser(
            model.denoiser, x_2d[w, 0], x_t[w, 0], t[w : w + 1], plain_prompts(model.prompt_encoder, VERBS[w])
        )
        for w in range(B)
    ]
    (torch.stack(outs) - target[:, 0]).norm(dim=-1).mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=10 * tolerance, rtol=tolerance, msg=name)


@pytest.mark.parametrize("dropped", [[0], [1], [0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]], ids=str)
def test_a_row_that_is_left_out_is_as_if_it_were_multiplied_by_zero(dropped):
    torch.manual_seed(0)
    block = Block(D, 8, SPATIAL, drop_path=0.5).double().train()
    x = torch.randn(len(dropped), 3, 17, D, dtype=torch.float64)
    of_branch = torch.tensor([dropped, dropped[::-1]], dtype=torch.bool).T
    found = block(x, of_branch)
    found.square().sum().backward()
    gradients = [parameter.grad for parameter in block.parameters()]
    kept = (~of_branch).double()[:, :, None, None, None] / 0.5
    expected = x + block.attn(block.norm1(x)) * kept[:, 0]
    expected = expected + block.mlp(block.norm2(expected)) * kept[:, 1]
    block.zero_grad(set_to_none=True)
    expected.square().sum().backward()
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    for gradient, parameter in zip(gradients, block.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-10, rtol=0)


def test_the_towers_start_is_computed_once_for_each_verb_and_forgotten_with_its_weights():
    model = network(H36M, ACTION_PROMPT, torch.float32)
    encoder, computed = model.prompt_encoder, []
    start = encoder.tower.start
    encoder.tower.start = lambda embeddings: computed.append(len(embeddings)) or start(embeddings)
    before = model.encode(["Walking", "Sitting", "Walking"]).text_tokens
    model.encode(["Sitting", "Eating"])
    assert computed == [1, 1, 1]
    state = model.state_dict()
    weights = state["prompt_encoder.tower.transformer.resblocks.0.mlp.c_fc.weight"]
    model.load_state_dict({**state, "prompt_encoder.tower.transformer.resblocks.0.mlp.c_fc.weight": 2 * weights})
    after = model.encode(["Walking"]).text_tokens
    assert computed == [1, 1, 1, 1]
    assert (after[0, :5] - before[0, :5]).abs().max() > 1e-3


def test_the_towers_start_has_the_same_bits_whatever_shares_the_batch():
    """A run that is gone on with meets the verbs in other batches than the run that was stopped."""
    encoder = network(H36M, ACTION_PROMPT, torch.float32).prompt_encoder
    with torch_threads(max(2, torch.get_num_threads())):  # with several, sums depend on the batch
        together = encoder.start(["Walking", "Sitting", "Eating", "Phoning", ""])
        encoder.starts.clear()
        alone = encoder.start(["Walking"])
        assert all(torch.equal(one[0], of_all[0]) for one, of_all in zip(alone, together, strict=True))
