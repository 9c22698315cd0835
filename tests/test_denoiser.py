"""The corrected network: torch-geometric's graph attention, and a test that fails on each fault of the release."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch_geometric.nn import GATConv

from common.clip_text import TextTowerConfig, random_text_tower
from common.denoiser import Denoiser, DenoiserConfig
from common.errors import UsageError
from common.layers import SPATIAL, TEMPORAL, Attention, GraphAttention
from common.linear import linear
from common.skeleton import H36M, HUMANEVA15, mirror
from common.skeleton_graph import adjacency_matrix
from common.text_prompts import NEUTRAL_VERB, PromptEncoder, PromptPart, Prompts, distinct
from tests.conftest import awaken

B, H, F, L, E = 3, 2, 4, 77, 32
PARTS = (PromptPart("verb", None, 2, 12), PromptPart("body", "body", 59, 4))


@pytest.fixture(params=[H36M, HUMANEVA15], ids=["17 joints", "15 joints"])
def skeleton(request):
    return request.param


@pytest.fixture
def denoiser(skeleton):
    torch.manual_seed(0)
    return awaken(Denoiser(DenoiserConfig(num_frames=F, width=16, depth=2), skeleton, text_width=E)).eval()


def inputs(skeleton, windows=B):
    torch.manual_seed(1)
    J = skeleton.num_joints
    prompts = Prompts(torch.randn(windows, 16), torch.randn(windows, L, E))
    return torch.randn(windows, F, J, 2), torch.randn(windows, H, F, J, 3), torch.arange(windows), prompts


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return PromptEncoder(PARTS, random_text_tower(config=TextTowerConfig(width=E, layers=2, heads=4)), width=16).eval()


def test_graph_attention_is_torch_geometrics(skeleton):
    ours = GraphAttention(16, adjacency_matrix(skeleton)).double()
    theirs = GATConv(16, 16, heads=1).double()
    torch.nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(skeleton.num_joints, 16, dtype=torch.float64)
    edges = [pair for joint, parent in skeleton.bones for pair in ((joint, parent), (parent, joint))]
    torch.testing.assert_close(ours(x), theirs(x, torch.tensor(edges).T))


@pytest.mark.parametrize("name", ["graph_attention", "prompt_attention"])
def test_a_joint_moves_its_neighbours_in_its_own_frame_alone(denoiser, skeleton, name):
    e, text_tokens = torch.randn(B, 16), torch.randn(B, L, E)

    def gat(x):
        layer = getattr(denoiser, name)
        return layer(x) if name == "graph_attention" else layer(x, e, layer.text_keys(text_tokens))

    x = torch.randn(B, F, skeleton.num_joints, 16)
    joint = 2
    for window in range(B):
        for frame in range(F):
            moved = x.clone()
            moved[window, frame, joint] += 1
            changed = (gat(moved) - gat(x)).abs().sum(-1) > 1e-6
            expected = torch.zeros_like(changed)
            expected[window, frame] = adjacency_matrix(skeleton)[:, joint]
            assert torch.equal(changed, expected)


def test_each_window_is_its_own(denoiser, skeleton):
    x_2d, x_t, t, prompts = inputs(skeleton)
    order = torch.tensor([2, 0, 1])
    out = denoiser(x_2d, x_t, t, prompts)
    permuted = denoiser(x_2d[order], x_t[order], t[order], prompts.select(order))
    torch.testing.assert_close(permuted, out[order])
    alone = denoiser(x_2d[1:2], x_t[1:2, :1], t[1:2], prompts.select(torch.tensor([1])))
    torch.testing.assert_close(alone, out[1:2, :1])


def test_a_window_reads_its_own_text(denoiser, skeleton):
    x_2d, x_t, t, prompts = inputs(skeleton)
    out = denoiser(x_2d, x_t, t, prompts)
    tokens = prompts.text_tokens.clone()
    tokens[1] += torch.randn(L, E)
    changed = (denoiser(x_2d, x_t, t, prompts._replace(text_tokens=tokens)) - out).abs().amax((1, 2, 3, 4)) > 1e-6
    assert changed.tolist() == [False, True, False]


def test_every_learned_vector_is_trained_through_the_frozen_tower(encoder):
    prompts = encoder(["Walking", NEUTRAL_VERB])
    (prompts.text_proj.square().sum() + prompts.text_tokens.pow(3).sum()).backward()
    for vectors in encoder.learned.values():
        assert (vectors.grad.abs().sum(-1) > 0).all()
    assert all(parameter.grad is None for parameter in encoder.tower.parameters())


def test_the_verb_reaches_text_proj(encoder):
    text_proj = encoder(["Walking", "Sitting", "Walking"]).text_proj
    assert not torch.allclose(text_proj[0], text_proj[1])
    torch.testing.assert_close(text_proj[0], text_proj[2])


def test_distinct_verbs():
    verbs, index = distinct(["Walking", "Sitting", "Walking"])
    assert verbs == ["Walking", "Sitting"]
    assert index.tolist() == [0, 1, 0]


def test_a_shorter_window_takes_the_middle_positions(denoiser, skeleton):
    positions = torch.arange(F, dtype=torch.float32)[:, None].expand(F, 16)
    with torch.no_grad():
        denoiser.temporal_position.copy_(positions)
    for num_frames, first in ((1, 1), (2, 1), (3, 0), (4, 0)):
        torch.testing.assert_close(denoiser.temporal_positions(num_frames)[0], positions[first : first + num_frames])
    x_2d, x_t, t, prompts = inputs(skeleton)
    assert denoiser(x_2d[:, :1], x_t[:, :, :1], t, prompts).shape == (B, H, 1, skeleton.num_joints, 3)


def test_deeper_blocks_are_left_out_more_often_in_training_alone():
    denoiser = Denoiser(DenoiserConfig(num_frames=F, width=16, depth=5), H36M, text_width=E)
    rates = [0, 0.025, 0.05, 0.075, 0.1]
    assert [block.drop_path for block in denoiser.temporal_blocks] == pytest.approx(rates)
    assert [block.drop_path for block in denoiser.spatial_blocks] == pytest.approx(rates[1:])
    torch.manual_seed(0)
    assert denoiser.blocks[:3] == [denoiser.temporal_blocks[0], denoiser.spatial_blocks[0], denoiser.temporal_blocks[1]]
    block, x = awaken(denoiser.blocks[-1]), torch.randn(4, 2, 3, 16)
    dropped = torch.tensor([[False, False], [True, False], [False, True], [True, True]])
    attention, mlp = block.attn(block.norm1(x)), block.mlp(block.norm2(x))
    expected = [None, x[1] + mlp[1] / 0.9, x[2] + attention[2] / 0.9, x[3]]
    found = block(x, dropped)
    for row in (1, 2, 3):
        torch.testing.assert_close(found[row], expected[row])
    middle = x + attention / 0.9
    torch.testing.assert_close(found[0], (middle + block.mlp(block.norm2(middle)) / 0.9)[0])
    assert not (block(x) == x).all(dim=-1).any()


@pytest.mark.parametrize("over", [SPATIAL, TEMPORAL])
def test_attention_reads_and_writes_views_and_copies_nothing(over, monkeypatch):
    made, attended, projected = [], [], []

    def product(*inputs):
        made.append(linear(*inputs))
        return made[-1]

    def attend(*parts):
        attended.append((parts, nn.functional.scaled_dot_product_attention(*parts)))
        return attended[-1][1]

    monkeypatch.setattr("common.layers.linear", product)
    monkeypatch.setattr("common.layers.F", SimpleNamespace(scaled_dot_product_attention=attend))
    attention = Attention(16, 8, over)
    attention.proj.register_forward_pre_hook(lambda _, inputs: projected.extend(inputs))
    with torch.no_grad():
        attention(torch.randn(2, F, 17, 16))
    [(parts, answer)] = attended
    assert [part.data_ptr() for part in parts] == [part.data_ptr() for part in made]
    assert [part.data_ptr() for part in projected] == [answer.data_ptr()]


def test_mirror_twice_is_identity(skeleton):
    pose = torch.randn(5, skeleton.num_joints, 3)
    assert torch.equal(mirror(mirror(pose, skeleton), skeleton), pose)


def test_a_width_that_no_head_divides_is_refused():
    with pytest.raises(UsageError, match="multiple of 8"):
        DenoiserConfig(width=20)
