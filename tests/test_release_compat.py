"""`release_compat` on a small golden of our own, in every checkout, and each of the release's faults by itself.

`tests/golden/release_tiny.npz` holds what this code computed while it agreed, at full size, with the release's own
outputs (tests/test_release_golden.py): it keeps that from changing unseen. `release_tiny_state.json` lists the names in
a release checkpoint, with their shapes at the small size. `python -m tests.test_release_compat` writes the golden anew.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

from common.clip_text import TextTower, TextTowerConfig
from common.denoiser import Condition, Denoiser, DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.errors import DataError
from common.layers import GraphAttention, TextKeys
from common.release_compat import (
    ReleaseDenoiser,
    ReleaseGraphAttention,
    ReleasePromptAttention,
    ReleasePromptEncoder,
    load_release_state,
    sample_apart,
    translate_state,
)
from common.skeleton import H36M
from common.text_prompts import ACTION_PROMPT, NO_ACTION_PROMPT, PromptEncoder
from common.trained_lifter import load_lifter
from tests.conftest import seeded_state

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 2e-5
B, H, K, F, J, D, E = 3, 2, 2, 5, 17, 16, 32
CONFIG = DenoiserConfig(num_frames=F, width=D, depth=3)
TOWER = TextTowerConfig(width=E, layers=1, heads=4)
VERBS = ["Walking", "Sitting Down", "Walking"]


def tiny_state():
    return seeded_state(json.loads((GOLDEN / "release_tiny_state.json").read_text()))


def networks(denoiser_class=ReleaseDenoiser, encoder_class=ReleasePromptEncoder):
    denoiser = denoiser_class(CONFIG, H36M, text_width=E)
    encoder = encoder_class(ACTION_PROMPT, TextTower(TOWER), D)
    load_release_state(tiny_state(), denoiser, encoder)
    return denoiser.eval(), encoder.eval()


def inputs():
    random = np.random.RandomState(0)
    shapes = {
        "x_2d": (B, F, J, 2), "x_3d": (B, 1, F, J, 3), "target": (B, 1, F, J, 3), "noise": (K, B, H, F, J, 3)
    }  # fmt: skip
    arrays = {name: 0.5 * random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return arrays | {"t": np.array([0, 371, 999])}


def compute(denoiser, encoder, given):
    """Everything that the golden holds, from its inputs."""
    given = {name: torch.from_numpy(array) for name, array in given.items()}
    found = {}

    def keep(name):
        return lambda _module, _inputs, output: found.setdefault(name, output)

    hooks = [
        denoiser.graph_attention.register_forward_hook(keep("after_graph_attention")),
        denoiser.prompt_attention.register_forward_hook(keep("after_prompt_attention")),
        denoiser.spatial_blocks[0].register_forward_hook(keep("after_spatial_block_1")),
        denoiser.temporal_blocks[1].register_forward_hook(keep("after_temporal_block_1")),
    ]
    x_2d, t, prompts = given["x_2d"], given["t"], encoder(VERBS)
    out = denoiser(x_2d, given["x_3d"], t, prompts)
    for hook in hooks:
        hook.remove()

    found |= prompts._asdict() | {"denoiser_out": out, "loss": (out - given["target"]).norm(dim=-1).mean()}
    found["samples"] = sample_apart(denoiser.given, GaussianDiffusion(), x_2d, prompts, given["noise"], H36M)
    return {name: value.detach().numpy() for name, value in found.items()}


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "release_tiny.npz"))


@pytest.fixture(scope="module")
def release():
    return networks()


def test_the_golden_stands(golden, release):
    found = compute(*release, golden)
    assert set(found) | set(inputs()) == set(golden)
    for name, value in found.items():
        assert value.shape == golden[name].shape
        assert np.abs(value - golden[name]).max() <= TOLERANCE, name


# The release with one of its faults mended, each by as little code as it takes.


class FirstGraphMended(ReleaseDenoiser):
    graph_attention_class = GraphAttention


class NeighboursMended(ReleasePromptAttention):
    graph_attention = GraphAttention

    def forward(self, x, e, text):
        R = len(x)
        rows = rearrange(x, "r f j d -> (r j) f 1 d")
        tiled = TextKeys(*(part.repeat(J, 1, 1, 1) for part in text))
        y = self.stylization(self.read(rows, tiled), e.repeat_interleave(J, dim=0))
        return self.gat(x) + rearrange(y, "(r j) f 1 d -> r f j d", r=R)


class TextMended(ReleasePromptAttention):
    def forward(self, x, e, text):
        y = self.stylization(self.read(x, text), e.repeat_interleave(len(x) // len(e), dim=0))
        frames = rearrange(x, "r f j d -> (r j) f d")
        return rearrange(self.gat(frames), "(r j) f d -> r f j d", r=len(x)) + y


class SecondGraphMended(ReleaseDenoiser):
    prompt_attention_class = NeighboursMended


class TiledTextMended(ReleaseDenoiser):
    prompt_attention_class = TextMended
    predict = Denoiser.predict


class HypothesesTextMended(ReleaseDenoiser):
    def predict(self, condition, x_t, t, dropped=None):
        B, H = x_t.shape[:2]
        embedding, text_proj, *text, t = (
            of_window.repeat_interleave(H, dim=0)
            for of_window in (condition.embedding, condition.text_proj, *condition.text, t)
        )
        rows = Condition(embedding, text_proj, TextKeys(*text))
        out = Denoiser.predict(self, rows, rearrange(x_t, "b h f j c -> (b h) 1 f j c"), t)
        return rearrange(out, "(b h) 1 f j c -> b h f j c", b=B)


class LastPositionMended(ReleasePromptEncoder):
    forward = PromptEncoder.forward


@pytest.mark.parametrize(
    ("denoiser_class", "encoder_class", "changed"),
    [
        (FirstGraphMended, ReleasePromptEncoder, "after_graph_attention"),
        (SecondGraphMended, ReleasePromptEncoder, "after_prompt_attention"),
        (TiledTextMended, ReleasePromptEncoder, "after_prompt_attention"),
        (HypothesesTextMended, ReleasePromptEncoder, "samples"),
        (ReleaseDenoiser, LastPositionMended, "text_proj"),
        (Denoiser, PromptEncoder, "denoiser_out"),
    ],
    ids=["fault 1", "faults 1 and 2", "fault 4", "fault 4, hypotheses", "fault 5", "all"],
)
def test_the_golden_sees_each_fault(golden, denoiser_class, encoder_class, changed):
    found = compute(*networks(denoiser_class, encoder_class), golden)
    assert np.abs(found[changed] - golden[changed]).max() > 10 * TOLERANCE
    assert np.abs(found["samples"] - golden["samples"]).max() > 10 * TOLERANCE


def changed_by(module, x, place):
    """Where the module's output moves when x moves at one (row, frame, joint): the same three indices, a set."""
    moved = x.clone()
    moved[place] += torch.randn(x.shape[-1])
    difference = (module(moved) - module(x)).abs().amax(dim=-1) > 1e-7
    return {tuple(index) for index in difference.nonzero().tolist()}


def test_fault_1_only_the_first_rows_have_neighbours(release):
    torch.manual_seed(0)
    x = torch.randn(B, F, J, D)
    mended, neighbours = networks(Denoiser)[0].graph_attention, (0, 1, 4, 7)  # of the pelvis, joint 0
    assert isinstance(release[0].graph_attention, ReleaseGraphAttention)
    assert changed_by(release[0].graph_attention, x, (0, 0, 0)) == {(0, 0, joint) for joint in neighbours}
    for row, frame in ((0, 1), (2, 3)):
        assert changed_by(release[0].graph_attention, x, (row, frame, 0)) == {(row, frame, 0)}
        assert changed_by(mended, x, (row, frame, 0)) == {(row, frame, joint) for joint in neighbours}


def test_fault_2_frames_are_neighbours_in_place_of_joints(release):
    torch.manual_seed(0)
    x, e, text = torch.randn(B, F, J, D), torch.randn(B, D), torch.randn(B, 77, E)

    def prompt_attention(denoiser):
        return lambda x: denoiser.prompt_attention(x, e, denoiser.prompt_attention.text_keys(text))

    # Row 0's joint 0 is its frames 0..4, then joint 1's: to the graph they are joints 0..4, 5...
    seen = changed_by(prompt_attention(release[0]), x, (0, 0, 0))
    assert seen == {(0, 0, 0), (0, 1, 0), (0, 4, 0), (0, 2, 1)}
    seen = changed_by(prompt_attention(networks(Denoiser)[0]), x, (0, 0, 0))
    assert seen == {(0, 0, joint) for joint in (0, 1, 4, 7)}


def test_fault_3_learned_prompts_are_never_trained():
    for encoder_class, trained in ((ReleasePromptEncoder, False), (PromptEncoder, True)):
        encoder = networks(encoder_class=encoder_class)[1]
        encoder(VERBS).text_tokens.pow(3).sum().backward()
        assert encoder.norm.weight.grad.any()
        for vectors in encoder.learned.values():
            assert (vectors.grad is not None and bool(vectors.grad.any())) == trained


@pytest.mark.parametrize("num_hypotheses", [1, H])
def test_fault_4_windows_read_each_others_text(release, num_hypotheses):
    torch.manual_seed(0)
    x_2d, x_t, t = torch.randn(B, F, J, 2), torch.randn(B, num_hypotheses, F, J, 3), torch.arange(B)
    prompts = release[1](VERBS)
    other = prompts.text_tokens.clone()
    other[1] = torch.randn(77, E)
    for denoiser, readers in ((release[0], {0, 1, 2}), (networks(Denoiser)[0], {1})):
        out, moved = (
            denoiser(x_2d, x_t, t, prompts._replace(text_tokens=text)) for text in (prompts.text_tokens, other)
        )
        difference = (moved - out).abs().amax(dim=(1, 2, 3, 4))
        assert set((difference > 1e-7).nonzero().flatten().tolist()) == readers


def test_fault_5_text_proj_is_read_where_the_bare_action_ends(release):
    encoder = release[1]
    prompts = encoder(VERBS)
    for window, end in enumerate((2, 3, 2)):  # the start token, one or two words, the end
        torch.testing.assert_close(prompts.text_proj[window], encoder.proj(prompts.text_tokens[window, end]))
    without_a_verb = ReleasePromptEncoder(NO_ACTION_PROMPT, TextTower(TOWER), D).eval()
    prompts = without_a_verb(VERBS)
    torch.testing.assert_close(prompts.text_proj, without_a_verb.proj(prompts.text_tokens[:, -1]))


def test_a_checkpoints_names_are_read(release):
    state = tiny_state()
    in_parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    for theirs, network in zip(translate_state(in_parallel), release, strict=True):
        ours = network.state_dict()
        assert set(theirs) == set(ours)
        assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
    with pytest.raises(KeyError, match="surprise"):
        translate_state({"pose_estimator.surprise": torch.zeros(1)})


P = "pose_estimator."
ODD = {
    "a block of a high number": (
        {f"{P}TTEblocks.99999999.norm1.weight": torch.ones(D)}, "public release's network ('denoiser.temporal_"
    ),
    "the tower's": (
        {f"{P}clip_text.transformer.resblocks.99999999.ln_1.weight": torch.ones(E)}, "text tower is not whole"
    ),
    "frames without numbers": ({f"{P}Temporal_pos_embed": torch.ones(0, 10**9, D)}, "another network: (0, 10000"),
    "one axis": ({f"{P}Temporal_pos_embed": torch.ones(5)}, "is not the public release's network"),
    "one beta": ({"module.betas": torch.tensor(1.0)}, "is not the public release's network"),
    "a number for betas": ({"module.betas": 5}, "is not the public release's network"),
    "no beta": ({"module.betas": torch.ones(0)}, "betas are not from 1 to"),
    "a tower of 193": (
        {
            f"{P}clip_text.token_embedding.weight": torch.ones(9, 193),
            f"{P}clip_text.positional_embedding": torch.ones(77, 193),
        },
        "3 heads do not share a width of 193",
    ),
    "a width of few numbers": (
        {f"{P}Spatial_pos_embed": torch.ones(1, J, 80_000), f"{P}Temporal_pos_embed": torch.ones(1, F, 80_000)},
        "denoiser.temporal_blocks.0.mlp.fc1.weight is (32, 16), not (160000, 80000)",
    ),
    "a tower's width of few numbers": (
        {
            f"{P}clip_text.token_embedding.weight": torch.ones(9, 64_000),
            f"{P}clip_text.positional_embedding": torch.ones(77, 64_000),
        },
        "transformer.resblocks.0.mlp.c_fc.weight is (128, 32), not (256000, 64000)",
    ),
    "a tower for long texts": (
        {f"{P}clip_text.positional_embedding": torch.ones(9999, E)}, "positional_embedding is not 77 x 32"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_odd_checkpoints_are_one_line(tmp_path, case):
    """What a name or a shape claims takes no memory."""
    changed, fault = ODD[case]
    path = tmp_path / "release.bin"
    torch.save({"epoch": 7, "model_pos": tiny_state() | changed}, path)
    with pytest.raises(DataError, match=re.escape(fault)):
        load_lifter(path, dataset="h36m", compat_release=True, device="cpu")


if __name__ == "__main__":
    given = inputs()
    np.savez_compressed(GOLDEN / "release_tiny.npz", **given, **compute(*networks(), given))
