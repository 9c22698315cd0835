"""One step and what keeps it from going wrong unseen: steps left out, clipping, moving average, order of sums."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.arguments import H36M_GT
from common.clip_text import TextTowerConfig, random_text_tower
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.errors import DataError
from common.model import DSGDiffu
from common.skeleton import H36M
from common.text_prompts import ACTION_PROMPT, Prompts
from common.training import CHECK_EVERY, MOST_SKIPPED, check_steps, train_epoch, training_step
from common.training_state import TrainingState
from common.windows import Batch
from tests.conftest import awaken

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

    num_windows, batch_windows, seed = 1000, B, 1

    def __init__(self, batches):
        self.batches = batches
        self.num_batches = len(batches)

    def epoch(self, _number, first=0):
        return iter(self.batches[first:])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_step_without_a_finite_loss_changes_nothing_and_is_counted(options, value):
    model, other = network(), network()
    state, like = TrainingState.new(model, options), TrainingState.new(other, options)
    for of_model, of_state in ((model, state), (other, like)):
        torch.manual_seed(4)
        training_step(of_model, batch(1), of_state, options)
    before = weights(model)
    training_step(model, poisoned(value), state, options)
    assert all(torch.equal(weight, before[name]) for name, weight in model.trained_state().items())
    assert (int(state.skipped_in_row), int(state.progress.steps), state.progress.batches) == (1, 1, 2)
    torch.manual_seed(5)
    training_step(model, batch(2), state, options)
    torch.manual_seed(5)
    training_step(other, batch(2), like, options)
    for name, weight in model.trained_state().items():
        assert torch.equal(weight, other.trained_state()[name]), name  # the optimizer's averages did not see it either
    assert int(state.skipped_in_row) == 0
    row, expected = state.progress.row(), like.progress.row()
    assert row.pop("skipped") == 1
    assert row == expected


def test_a_run_of_steps_without_a_finite_loss_is_given_up_and_the_weights_stay(options):
    model = network()
    state = TrainingState.new(model, options)
    bad = [poisoned(np.nan)] * MOST_SKIPPED
    for some in (bad[1:], [batch(1)], bad[1:], [batch(2)]):  # one fewer in a row, twice: that is no reason
        for one in some:
            training_step(model, one, state, options)
    check_steps(state, options)
    state.end_epoch(1.0)
    before = weights(model)
    batches = [*bad, *(batch(number) for number in range(CHECK_EVERY))]
    with pytest.raises(DataError, match=r"the loss of epoch 2 was no finite number, .*there is no checkpoint yet"):
        train_epoch(model, Windows(batches), state, options, Bar(), lambda: None)
    assert all(torch.equal(weight, before[name]) for name, weight in model.trained_state().items())
    (options.folder / "last.bin").touch()
    with pytest.raises(DataError, match=r"the last good checkpoint is .*last.bin: train again with a lower -lr"):
        check_steps(state, options)


def test_an_epoch_without_any_finite_loss_is_given_up(options):
    model = network()
    with pytest.raises(DataError, match=r"was no finite number, .* 2 by now"):
        train_epoch(
            model, Windows([poisoned(np.nan)] * 2), TrainingState.new(model, options), options, Bar(), lambda: None
        )


def test_gradients_are_clipped_as_pytorch_does_and_the_norm_is_that_before(options):
    model, other = network(), network()
    limit = 0.01
    clipped = replace(options, clip_grad=limit)
    state = TrainingState.new(model, clipped)
    torch.manual_seed(3)
    training_step(model, batch(1), state, clipped)
    torch.manual_seed(3)
    whole = batch(1)
    loss = other.training_loss(whole.x_2d, whole.x_start, whole.verbs, options.text_dropout)
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
        training_step(model, batch(number), state, averaged)
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
    threads = torch.get_num_threads()
    torch.set_num_threads(max(2, threads))
    try:
        index, weight = torch.arange(32) % 3, torch.randn(32, 77, 512)

        def gradient():
            tokens = torch.ones(3, 77, 512, requires_grad=True)
            (Prompts(torch.zeros(3, 4), tokens).select(index).text_tokens * weight).sum().backward()
            return tokens.grad

        first = gradient()
        assert all(torch.equal(gradient(), first) for _ in range(20))
    finally:
        torch.set_num_threads(threads)
