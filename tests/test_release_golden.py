"""The release's own outputs: `release_compat` computes the same function. Needs the golden files; skipped without."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.aggregation import mean_hypothesis, nearest_reprojection
from common.clip_text import TextTower
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.protocols import mean_errors, setting_poses
from common.release_compat import ReleaseDSGDiffu, load_release_state, sample_apart, translate_state
from common.skeleton import H36M, MPI_INF_3DHP, mirror
from common.text_prompts import ACTION_PROMPT, NO_ACTION_PROMPT
from tests.conftest import seeded_state

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden files of the release are not here")
TOLERANCE = 2e-4


@pytest.fixture(scope="module", params=["h36m", "3dhp"])
def case(request):
    golden = dict(np.load(GOLDEN / f"{request.param}.npz"))
    description = json.loads((GOLDEN / f"{request.param}_state.json").read_text())
    skeleton, parts = {"h36m": (H36M, ACTION_PROMPT), "3dhp": (MPI_INF_3DHP, NO_ACTION_PROMPT)}[request.param]
    config, diffusion = DenoiserConfig(num_frames=9), GaussianDiffusion()
    model = ReleaseDSGDiffu.build(config, skeleton, parts, TextTower(), diffusion).eval()
    denoiser, encoder = model.denoiser, model.prompt_encoder
    load_release_state(seeded_state(description["shapes"]), denoiser, encoder)
    verbs = golden["actions"].tolist()
    return golden, description, denoiser, encoder, verbs, skeleton


def tensor(array):
    return torch.from_numpy(array)


def assert_close(ours, golden):
    assert (ours.detach() - tensor(golden)).abs().max().item() <= TOLERANCE


def test_prompts(case):
    golden, _, _, encoder, verbs, _ = case
    prompts = encoder(verbs)
    assert_close(prompts.text_tokens, golden["text_tokens"])
    assert_close(prompts.text_proj, golden["text_proj"])


def test_every_intermediate_and_the_output(case):
    golden, _, denoiser, encoder, verbs, _ = case
    found = {}

    def keep(name, pattern_shape):
        def hook(_module, _inputs, output):
            found.setdefault(name, output.detach().reshape(-1, *pattern_shape))

        return hook

    def keep_by_joint(name):
        def hook(_module, _inputs, output):
            found.setdefault(name, output.detach().transpose(1, 2).reshape(-1, 9, 512))

        return hook

    handles = [
        denoiser.graph_attention.register_forward_hook(keep("after_spatial_gat", (512,))),
        denoiser.prompt_attention.register_forward_hook(keep_by_joint("after_prompt_attention")),
        denoiser.spatial_blocks[0].register_forward_hook(keep("after_spatial_block_1", (17, 512))),
        denoiser.temporal_blocks[1].register_forward_hook(keep_by_joint("after_temporal_block_1")),
    ]
    x_t = tensor(golden["x_3d"])[:, None]
    out = denoiser(tensor(golden["x_2d"]), x_t, tensor(golden["t"]), encoder(verbs))
    for handle in handles:
        handle.remove()
    assert len(found) == len(handles)
    for name, value in found.items():
        assert_close(value, golden[name])
    assert_close(out[:, 0], golden["denoiser_out"])


def test_loss_and_every_gradient(case):
    golden, description, denoiser, encoder, verbs, _ = case
    denoiser.zero_grad()
    encoder.zero_grad()
    x_t = tensor(golden["x_3d"])[:, None]
    out = denoiser(tensor(golden["x_2d"]), x_t, tensor(golden["t"]), encoder(verbs))
    loss = (out[:, 0] - tensor(golden["target"])).norm(dim=-1).mean()
    assert loss.item() == pytest.approx(float(golden["loss"]), abs=TOLERANCE)
    loss.backward(loss.detach())

    # Each norm in the shape of its parameter, so that the names translate as a checkpoint's do.
    norms = {
        name: torch.tensor(norm).expand(description["shapes"][name]) for name, norm in description["grad_norm"].items()
    }
    for network, expected in zip((denoiser, encoder), translate_state(norms), strict=True):
        ours = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        assert set(ours) == set(expected)
        for name, parameter in ours.items():
            norm = expected[name].max().item()
            if norm == 0:
                assert parameter.grad is None or not parameter.grad.any()
            else:
                # Norms under 1e-8 are rounding: a softmax does not feel what moves all of its scores alike.
                assert parameter.grad.norm().item() == pytest.approx(norm, rel=0.01, abs=1e-8), name
    never_trained = {name.split(".")[1] for name, norm in description["grad_norm"].items() if norm == 0}
    assert never_trained == {"STEblocks", *(name.split(".")[1] for name in norms if ".ctx_" in name)}


def test_samples(case):
    golden, _, denoiser, encoder, verbs, skeleton = case
    x_2d, prompts = tensor(golden["x_2d"]), encoder(verbs)

    assert torch.equal(mirror(x_2d, skeleton), tensor(golden["x_2d_flip"]))

    with torch.no_grad():
        samples = sample_apart(denoiser.given, GaussianDiffusion(), x_2d, prompts, tensor(golden["noise"]), skeleton)
    per_metre = 1000 if skeleton is MPI_INF_3DHP else 1  # the release's 3DHP sampler answers in millimetres
    assert_close(samples, golden["samples"] / per_metre)


@pytest.mark.parametrize(("prefix", "align"), [("mpjpe", False), ("p_mpjpe", True)])
def test_the_eight_metrics(prefix, align):
    golden = dict(np.load(GOLDEN / "h36m.npz"))
    nearest = nearest_reprojection(tensor(golden["metric_reproj_2d"]), tensor(golden["x_2d"]))
    samples, target = tensor(golden["metric_pred"]), tensor(golden["target"])
    every = torch.ones(target.shape[:2], dtype=torch.bool)
    poses = setting_poses(samples, target, every, {"P_Agg": mean_hypothesis(samples)}, {"J_Agg": nearest}, align)
    found = mean_errors(poses, target, every)
    assert list(found) == ["P_Agg", "J_Agg", "P_Best", "J_Best"]
    for name, errors in found.items():
        assert_close(errors.mean(dim=-1), golden[f"{prefix}_{name}"])
