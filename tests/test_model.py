"""The network, its prompts and the diffusion together: one training step of the corrected method."""

import os
import shutil
import threading
import time

import pytest
import torch

from common.clip_text import TextTowerConfig, random_text_tower
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.errors import UsageError
from common.model import DSGDiffu
from common.skeleton import H36M
from common.text_prompts import ACTION_PROMPT
from tests.conftest import awaken, torch_threads

B, F, J = 4, 5, 17


@pytest.fixture
def model():
    torch.manual_seed(0)
    tower = random_text_tower(config=TextTowerConfig(width=32, layers=2, heads=4))
    return awaken(DSGDiffu.build(DenoiserConfig(F, 16, 2), H36M, ACTION_PROMPT, tower, GaussianDiffusion()))


@pytest.fixture
def batch():
    torch.manual_seed(1)
    x_start = 0.3 * torch.randn(B, F, J, 3)
    x_start[:, :, 0] = 0
    return torch.randn(B, F, J, 2), x_start, ["Walking", "Sitting", "Walking", "Eating"]


def draws(model, text_dropout=0.0, num_windows=B):
    return model.draw((num_windows, F, J, 3), text_dropout, torch.Generator().manual_seed(2))


def test_a_step_trains_every_weight_but_the_towers(model, batch):
    loss = model.train().training_loss(*batch, draws(model))
    loss.backward(loss.detach())
    for name, parameter in model.named_parameters():
        if name.startswith("prompt_encoder.tower"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_the_gradient_is_that_of_half_the_squared_loss(model, batch):
    weight = model.denoiser.embedding.weight
    loss = model.eval().training_loss(*batch, draws(model))
    loss.backward(loss.detach())
    stepped, weight.grad = weight.grad.clone(), None
    (model.training_loss(*batch, draws(model)) ** 2 / 2).backward()
    torch.testing.assert_close(stepped, weight.grad)


@pytest.mark.parametrize(("text_dropout", "expected"), [(0.0, {"Walking", "Sitting", "Eating"}), (1.0, {""})])
def test_text_dropout_hides_the_action(model, batch, text_dropout, expected, monkeypatch):
    told = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda verbs: told.extend(verbs) or encode(verbs))
    model.training_loss(*batch, draws(model, text_dropout))
    assert len(told) == B
    assert set(told) == expected


def test_drop_path_leaves_each_blocks_branches_out_as_often_as_it_says(model):
    dropped = draws(model, num_windows=4000).dropped.float().mean(dim=0)
    rates = torch.tensor([block.drop_path for block in model.denoiser.blocks])
    assert rates.tolist() == pytest.approx([0, 0.1, 0.1])
    torch.testing.assert_close(dropped, rates[:, None].expand(3, 2), atol=0.02, rtol=0)


def test_the_loss_of_a_batch_is_the_mean_of_its_windows_losses(model, batch):
    x_2d, x_start, verbs = batch
    every = draws(model, text_dropout=0.5)
    assert every.dropped.any()
    alone = [
        model.training_loss(x_2d[n : n + 1], x_start[n : n + 1], verbs[n : n + 1], every.of(torch.tensor([n])))
        for n in range(B)
    ]
    torch.testing.assert_close(model.training_loss(*batch, every), torch.stack(alone).mean())


def test_distinct_verbs_are_encoded_once_and_given_to_their_windows(model):
    texts = []
    model.prompt_encoder.tower.register_forward_hook(lambda _module, inputs, _output: texts.append(len(inputs[0])))
    model.eval()
    prompts = model.encode(["Walking", "Sitting", "Walking"])
    assert texts == [2]
    alone = model.encode(["Sitting"])
    torch.testing.assert_close(prompts.text_tokens[1], alone.text_tokens[0])
    assert torch.equal(prompts.text_proj[0], prompts.text_proj[2])
    assert not torch.equal(prompts.text_proj[0], prompts.text_proj[1])


def test_permuting_the_batch_permutes_the_answer(model, batch):
    x_2d, _, verbs = batch
    model.eval()
    noise = torch.randn(2, B, 3, F, J, 3)
    order = torch.tensor([2, 0, 3, 1])
    plain = model.sample(x_2d, model.encode(verbs), noise)
    permuted = model.sample(x_2d[order], model.encode([verbs[i] for i in order]), noise[:, order])
    torch.testing.assert_close(permuted, plain[order], atol=1e-5, rtol=1e-5)


def test_the_tower_is_not_in_the_saved_state_and_the_rest_is(model):
    state = model.trained_state()
    assert not any("tower" in name for name in state)
    tower = model.prompt_encoder.tower
    torch.manual_seed(5)
    other = DSGDiffu.build(model.denoiser.config, H36M, ACTION_PROMPT, tower, GaussianDiffusion())
    other.load_trained_state(state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize(("width", "depth", "num_frames"), [(12, 2, 9), (4, 2, 9), (16, 0, 9), (16, 2, 0)])
def test_shapes_that_cannot_be(width, depth, num_frames):
    with pytest.raises(UsageError):
        DenoiserConfig(num_frames, width, depth)


def test_bf16_rounds_the_products_and_little_else(model, batch):
    x_2d, _, verbs = batch
    model.eval()
    noise = torch.randn(1, B, 2, F, J, 3)
    plain = model.sample(x_2d, model.encode(verbs), noise)
    model.autocast_dtype = torch.bfloat16
    mixed = model.sample(x_2d, model.encode(verbs), noise)
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, plain)
    assert (mixed - plain).abs().mean() < 0.05 * plain.abs().mean()


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_step_has_the_same_gradients(model, batch):
    """By inductor, as --compile does."""
    found = []
    drawn = draws(model)
    for compiled in (False, True):
        model.train().zero_grad()
        if compiled:
            model.compile()
        loss = model.training_loss(*batch, drawn)
        loss.backward()
        found.append((loss.detach(), {name: value.grad for name, value in model.named_parameters()}))
    torch._dynamo.reset()
    torch.testing.assert_close(*(loss for loss, _ in found), atol=1e-5, rtol=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_compiling_changes_nothing_but_the_speed(model, batch):
    x_2d, _, verbs = batch
    model.eval()
    noise = torch.randn(1, B, 2, F, J, 3)
    plain = model.sample(x_2d, model.encode(verbs), noise)
    names = set(model.trained_state())
    model.compile(backend="eager")
    torch.testing.assert_close(model.sample(x_2d, model.encode(verbs), noise), plain, atol=1e-5, rtol=1e-5)
    assert set(model.trained_state()) == names


@pytest.mark.parametrize(("chunk", "expected"), [(1, 1), (3, 3), (7, 6), (0, 6)])
def test_the_threads_share_the_sampling_and_the_chunk(model, batch, chunk, expected, monkeypatch):
    """Three threads, four windows: so many sequences are in work at most, and the answers are the same."""
    x_2d, _, verbs = batch
    prompts, noise = model.eval().encode(verbs), torch.randn(2, B, 3, F, J, 3)
    plain, predict, lock = model.sample(x_2d, prompts, noise), model.denoiser.predict, threading.Lock()
    in_work, most, workers = 0, 0, set()

    def watched(condition, x_t, *rest):
        nonlocal in_work, most
        with lock:
            in_work += x_t.shape[0] * x_t.shape[1]
            most = max(most, in_work)
            workers.add(threading.get_ident())
        time.sleep(0.02)
        found = predict(condition, x_t, *rest)
        with lock:
            in_work -= x_t.shape[0] * x_t.shape[1]
        return found

    monkeypatch.setattr(model.denoiser, "predict", watched)
    monkeypatch.setattr("common.model.THREADS_CHUNK", 2 * F * J * 16)
    model.chunk = chunk
    monkeypatch.setattr("common.model.num_cores", lambda: 3)
    with torch_threads(3):
        torch.testing.assert_close(model.sample(x_2d, prompts, noise), plain, atol=1e-5, rtol=1e-5)
    assert most <= expected
    assert len(workers) == min(3, expected)


def test_no_more_threads_apart_than_the_interpreter_serves(model, monkeypatch):
    monkeypatch.setattr("common.model.num_cores", lambda: 64)
    with torch_threads(40):
        assert model.threads_apart() == 16


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system holds no thread to a core")
def test_threads_that_would_share_a_core_are_not_apart(model):
    """As with OMP_PROC_BIND: PyTorch has two threads, the one that samples is held to a core."""
    found = []

    def held_to_one_core():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # of this thread alone
        found.append(model.threads_apart())

    with torch_threads(2):
        thread = threading.Thread(target=held_to_one_core)
        thread.start()
        thread.join()
    assert found == [1]


@pytest.mark.parametrize("change", ["compiled", "bf16"])
def test_a_network_that_is_compiled_or_casts_its_weights_is_sampled_in_one_thread(model, change, monkeypatch):
    monkeypatch.setattr("common.model.num_cores", lambda: 3)
    with torch_threads(3):
        assert model.threads_apart() == 3
        if change == "compiled":
            model.compile(backend="eager")
        else:
            model.autocast_dtype = torch.bfloat16
        assert model.threads_apart() == 1
