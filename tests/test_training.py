"""One step and what keeps it from going wrong unseen: steps left out, clipping, moving average, order of sums."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.optim import AdamW

from common.arguments import H36M_GT
from common.clip_text import TextTowerConfig, random_text_tower
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.errors import DataError
from common.model import DSGDiffu
from common.seeds import seeded_generator
from common.skeleton import H36M
from common.text_prompts import ACTION_PROMPT, Prompts
from common.training import CHECK_EVERY, MOST_SKIPPED, check_steps, train_epoch, training_step
from common.training_state import TrainingState
from common.windows import Batch
from tests.conftest import awaken, torch_threads

F, B = 3, 4


@pytest.fixture
def options(tmp_path):
    return replace(H36M_GT, checkpoint=str(tmp_path), learning_rate=1e-3)


def network():
    torch.manual_seed(1)
    tower = random_text_tower(config=TextTowerConfig(width=32, layers=1, heads=4))
    return awaken(DSGDiffu.build(DenoiserConfig(F, 16, 2), H36M, ACTION_PROMPT, tower, GaussianDiffusion())).train()


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    x_2d, x_start = (torch.randn(B, F, 17, C, generator=generator) / 4 for C in (2, 3))
    return Batch(x_2d, x_start, ["Walking", "Sitting", "Walking", "Eating"])


def poisoned(value, seed=0):
    whole = batch(seed)
    whole.x_start[1, 0, 3] = value
    return whole


def weights(model):
    return {name: weight.clone() for name, weight in model.trained_state().items()}


class Bar:
    def update(self, _frames):
        pass


class Windows:
    """Batches of an epoch, as TrainingWindows gives them."""

    num_windows, batch_windows, seed, window_shape = 1000, B, 1, (F, 17, 3)

    def __init__(self, batches):
        self.batches = batches

    def order(self, _epoch):
        return torch.arange(len(self.batches) * B).split(B)

    def batch(self, chosen):
        whole, windows = self.batches[chosen[0] // B], chosen % B
        return Batch(whole.x_2d[windows], whole.x_start[windows], [whole.verbs[window] for window in windows])


def step(model, batch, state, options):
    training_step(model, model, Windows([batch]), torch.arange(B), state, options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_step_without_a_finite_loss_changes_nothing_and_is_counted(options, value):
    model, other = network(), network()
    state, like = TrainingState.new(model, options), TrainingState.new(other, options)
    for of_model, of_state in ((model, state), (other, like)):
        step(of_model, batch(1), of_state, options)
    before = weights(model)
    step(model, poisoned(value), state, options)
    assert all(torch.equal(weight, before[name]) for name, weight in model.trained_state().items())
    assert (int(state.skipped_in_row), int(state.progress.steps), state.progress.batches) == (1, 1, 2)
    step(model, batch(2), state, options)
    like.progress.batches += 1  # what is drawn belongs to the batch's number
    step(other, batch(2), like, options)
    for name, weight in model.trained_state().items():
        assert torch.equal(weight, other.trained_state()[name]), name  # the optimizer's averages did not see it either
    assert int(state.skipped_in_row) == 0
    assert state.progress.row() == like.progress.row()
    assert state.progress.row()["skipped"] == 1


def test_neither_a_step_nor_sampling_waits_for_the_devices_numbers(options, monkeypatch):
    """On PyTorch's device without numbers: what asks for one there fails, `.item()` and `if tensor:` alike."""
    monkeypatch.setattr(DSGDiffu, "autocast", lambda _: contextlib.nullcontext())  # not to be had on that device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    monkeypatch.setattr("common.training_state.AdamW", lambda *args, fused, **others: AdamW(*args, **others))
    monkeypatch.setattr(AdamW, "step", lambda _: None)  # nor is the fused one, which is PyTorch's own
    options = replace(options, clip_grad=1.0, ema=0.9, text_dropout=0.5)
    model = network().to("meta")
    state = TrainingState.new(model, options)
    for _ in range(2):
        step(model, batch(1), state, options)
    assert state.num_steps == 2
    for tensor in (state.progress.loss, state.skipped_in_row):
        with pytest.raises(RuntimeError, match="meta"):
            tensor.item()

    model.eval()
    x_2d, noise = torch.zeros(B, F, 17, 2, device="meta"), torch.zeros(2, B, 3, F, 17, 3, device="meta")
    with torch.no_grad():
        assert model.sample(x_2d, model.encode(["Walking", "Sitting"] * 2), noise).shape == (B, 2, 3, F, 17, 3)


def test_a_run_of_steps_without_a_finite_loss_is_given_up_and_the_weights_stay(options):
    model = network()
    state = TrainingState.new(model, options)
    bad = [poisoned(np.nan)] * MOST_SKIPPED
    for some in (bad[1:], [batch(1)], bad[1:], [batch(2)]):  # one fewer in a row, twice: that is no reason
        for one in some:
            step(model, one, state, options)
    check_steps(state, options)
    state.end_epoch(1.0)
    before = weights(model)
    batches = [*bad, *(batch(number) for number in range(CHECK_EVERY))]
    with pytest.raises(DataError, match=r"the loss of epoch 2 was no finite number, .*there is no checkpoint yet"):
        train_epoch(model, model, Windows(batches), state, options, Bar(), lambda: None)
    assert all(torch.equal(weight, before[name]) for name, weight in model.trained_state().items())
    (options.folder / "last.bin").touch()
    with pytest.raises(DataError, match=r"the last good checkpoint is .*last.bin: train again with a lower -lr"):
        check_steps(state, options)


def test_an_epoch_without_any_finite_loss_is_given_up(options):
    model, batches = network(), Windows([poisoned(np.nan)] * 2)
    state = TrainingState.new(model, options)
    with pytest.raises(DataError, match=r"was no finite number, .* 2 by now"):
        train_epoch(model, model, batches, state, options, Bar(), lambda: None)


def test_gradients_are_clipped_as_pytorch_does_and_the_norm_is_that_before(options):
    model, other = network(), network()
    limit = 0.01
    clipped = replace(options, clip_grad=limit)
    state = TrainingState.new(model, clipped)
    step(model, batch(1), state, clipped)
    draws = other.draw((B, F, 17, 3), options.text_dropout, seeded_generator(options.seed, "step", 1, 0))
    loss = other.training_loss(*batch(1), draws)
    (loss**2 / 2).backward()
    norm = torch.nn.utils.clip_grad_norm_(other.trained_parameters(), limit)
    assert norm > limit
    assert state.progress.row()["grad_norm"] == pytest.approx(float(norm), rel=1e-5)
    for ours, theirs in zip(state.parameters, other.trained_parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-8)


def test_the_moving_average_is_that_of_the_weights(options):
    decay = 0.3
    averaged = replace(options, ema=decay)
    model = network()
    state = TrainingState.new(model, averaged)
    expected = [parameter.detach().clone() for parameter in state.parameters]
    for number in range(1, 8):
        step(model, batch(number), state, averaged)
        now = min(decay, (1 + number) / (10 + number))
        expected = [now * mean + (1 - now) * own for mean, own in zip(expected, state.parameters, strict=True)]
    for mean, own in zip(state.ema, expected, strict=True):
        torch.testing.assert_close(mean, own)
    own = weights(model)
    with state.averaged():
        assert all(torch.equal(*pair) for pair in zip(state.parameters, state.ema, strict=True))
    assert all(torch.equal(weight, own[name]) for name, weight in model.trained_state().items())


def test_gradients_of_shared_texts_are_summed_in_one_order():
    """With several threads the gradient of `x[index]` is another each time."""
    with torch_threads(max(2, torch.get_num_threads())):
        index, weight = torch.arange(32) % 3, torch.randn(32, 77, 512)

        def gradient():
            tokens = torch.ones(3, 77, 512, requires_grad=True)
            (Prompts(torch.zeros(3, 4), tokens).select(index).text_tokens * weight).sum().backward()
            return tokens.grad

        first = gradient()
        assert all(torch.equal(gradient(), first) for _ in range(20))
